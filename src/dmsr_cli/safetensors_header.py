"""The header of a safetensors file, checked in every field before memory is taken for a tensor.

A file is 8 bytes of length, little-endian, that much JSON, and the values of the tensors, one after
the other without gaps. The JSON names for each tensor its type, its shape, and where it lies:

    {"__metadata__": {"key": "text"}, "tensor": {"dtype": "F16", "shape": [2, 3],
     "data_offsets": [0, 12]}}
"""

from __future__ import annotations

import io
import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from dmsr_cli.errors import WeightsError

MAX_HEADER_BYTES = 2**20
"""A longer header is refused before any memory is set aside for it."""
CONVERSION_PAGE = "docs/python.md#weights-in-another-format"
ONLY_SAFETENSORS = (
    "only safetensors files are loaded, because a pickle can run any code; "
    f"{CONVERSION_PAGE} shows how to convert"
)

_BYTES = {"F16": 2, "BF16": 2, "F32": 4}
"""Types that are loaded, and the bytes of a value."""
_MOST_DIGITS = 19
"""Of any number in a header: no file is that long."""
_MOST_DIMENSIONS = 8
_STARTS = {
    b"PK\x03\x04": "a zip archive, as torch.save writes it",
    b"\x80": "a pickle",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file",
    b"\x08": "an ONNX file, or no model at all",
}
_FETCHED_WRONGLY = {
    b"<": "a page of HTML or XML instead of the file; fetch it again, not through a login page",
    b"version https://git-lfs": "only the pointer of Git LFS to the file; run: git lfs pull",
}


@dataclass(frozen=True)
class TensorPlace:
    """One tensor of a file, as the header has it."""

    dtype: str
    """F16, BF16 or F32."""
    shape: tuple[int, ...]
    start: int
    """Where its values start, in bytes after the header."""
    end: int


@dataclass(frozen=True)
class Header:
    """What a safetensors file says that it holds."""

    tensors: Mapping[str, TensorPlace]
    metadata: Mapping[str, str]


def read_header(file: BinaryIO, name: str) -> Header:
    """The checked header of a safetensors file.

    Args:
        file: the file, open for reading and seekable; it is read up to the header's end.
        name: what error messages call it.

    Raises:
        WeightsError: it is something else, truncated, or contradicts itself in any way.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(32)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:9] != b"{" or not 2 <= length <= MAX_HEADER_BYTES:
        raise WeightsError(f"{name} is {_what_else(start)}")
    if 8 + length > size:
        raise WeightsError(f"{name} is truncated; fetch it again")
    file.seek(8)
    try:
        header = parse_json(file.read(length))
        metadata = _metadata(header.pop("__metadata__", {}))
        tensors = {key: _tensor(key, value) for key, value in header.items()}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise WeightsError(f"{name} has a damaged header; fetch it again") from None
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from None
    _check_places(tensors, size - 8 - length, name)
    return Header(tensors, metadata)


def parse_json(text: bytes | str) -> dict[str, Any]:
    """A JSON object without anything that two readers could understand differently.

    Raises:
        ValueError: it is not JSON in UTF-8 or no object, or has a key twice, NaN, or a huge number.
        RecursionError: it is nested too deeply.
    """
    text = text.decode("utf-8") if isinstance(text, bytes) else text
    parsed: Any = json.loads(
        text,
        object_pairs_hook=_without_duplicates,
        parse_int=_bounded_integer,
        parse_constant=_refuse_constant,
    )
    if not isinstance(parsed, dict):
        raise ValueError("not an object")
    return parsed


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is there twice")
    return values


def _bounded_integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:  # turning many digits into a number takes long
        raise ValueError("a number is too large")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _what_else(start: bytes) -> str:
    """What a file that starts like this is, and what to do about it."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    for sign, meaning in _FETCHED_WRONGLY.items():
        if text.startswith(sign):
            return meaning
    kinds = (meaning for sign, meaning in _STARTS.items() if start.startswith(sign))
    kind = next(kinds, None)
    is_length = start[4:8] == bytes(4) and start[8:9] == b"{"  # of a safetensors header
    what = f"{kind}, not a safetensors file" if kind and not is_length else "not a safetensors file"
    return f"{what}; {ONLY_SAFETENSORS}"


def _metadata(values: Any) -> dict[str, str]:
    if not isinstance(values, dict) or not all(type(text) is str for text in values.values()):
        raise ValueError("metadata must be text")
    return values


def _tensor(name: str, values: Any) -> TensorPlace:
    """One tensor's part of the header; ValueError, TypeError or KeyError if it is no such part."""
    dtype, shape, (start, end) = values["dtype"], values["shape"], values["data_offsets"]
    if len(values) != 3 or not isinstance(dtype, str) or not isinstance(shape, list):
        raise TypeError("not a tensor")
    if len(shape) > _MOST_DIMENSIONS:
        raise ValueError("not a shape")
    if any(type(number) is not int or number < 0 for number in (*shape, start, end)):
        raise ValueError("not a size")
    shown = name if len(name) < 100 and name.isprintable() else reprlib.repr(name)
    if dtype not in _BYTES:
        known = ", ".join(sorted(_BYTES))
        raise WeightsError(f"{shown} is of type {reprlib.repr(dtype)}; only {known} are loaded")
    if end - start != math.prod(shape) * _BYTES[dtype]:
        raise WeightsError(
            f"{shown} of shape {reprlib.repr(shape)} and type {dtype} cannot have "
            f"{end - start} bytes; the file is damaged, fetch it again"
        )
    return TensorPlace(dtype, tuple(shape), start, end)


def _check_places(tensors: Mapping[str, TensorPlace], size: int, name: str) -> None:
    """Refuse tensors that overlap, leave gaps, or do not end where the file does."""
    end = 0
    for place in sorted(tensors.values(), key=lambda place: (place.start, place.end)):
        if place.start != end:
            raise WeightsError(
                f"{name} is damaged: its tensors overlap or leave gaps; fetch it again"
            )
        end = place.end
    if end != size:
        raise WeightsError(f"{name} is truncated or damaged; fetch it again")
