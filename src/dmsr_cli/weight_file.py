"""Weight files: a network with its configuration, as safetensors, with nothing taken on trust.

The header of the file carries the configuration of the network under `dmsr_config`, so that it
needs nothing beside it. torch is imported on first use.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dmsr_cli.config import DMSRConfig, from_mapping
from dmsr_cli.errors import ImageError, SettingsError, WeightsError
from dmsr_cli.files import atomic_write, check_is_file, display_name, reason_of, sha256_of
from dmsr_cli.safetensors_header import Header, parse_json, read_header

if TYPE_CHECKING:
    import torch

    from dmsr_cli.model import DMSR

MAX_CONFIG_CHARACTERS = 10_000
MAX_PARAMETERS = 2**28
"""Ten times the paper's largest network; a file of more is refused before it is read."""


def verify_sha256(found: str, sha256: str, name: str, advice: str) -> None:
    """Refuse the file `name` whose SHA-256 was `found` if it is not what it must be."""
    if found != sha256:
        raise WeightsError(
            f"{name} is damaged or was changed, and is not used: SHA-256 {found[:12]}... "
            f"instead of {sha256[:12]}...; {advice}"
        )


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, 64 lower-case hexadecimal digits.

    Raises:
        WeightsError: the file cannot be read.
    """
    with _opened(path) as file:
        return sha256_of(file)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read from; what fails while it is open becomes a WeightsError."""
    try:
        if "\0" in str(path):
            raise OSError("no file can have this name")
        check_is_file(path, "weight file")  # opening a pipe would wait for its writer
        with path.open("rb") as file:
            yield file
    except (OSError, ImageError) as error:
        raise WeightsError(f"cannot read {display_name(path)}: {reason_of(error)}") from None


def read_config(path: Path) -> DMSRConfig:
    """The configuration of the network that a weight file is for, from its header alone.

    Raises:
        WeightsError: the file is missing, not safetensors, truncated, or not of this network.
    """
    with _opened(path) as file:
        name = display_name(path)
        return _config(read_header(file, name), name)


def load_weights(path: Path, sha256: str | None = None) -> DMSR:
    """The network in a weight file: float32, on the CPU, in evaluation mode.

    Args:
        path: a safetensors file that `save_weights` wrote; float16, bfloat16 or float32.
        sha256: what the file's SHA-256 must be; None to skip the check.

    Raises:
        WeightsError: as `read_config`, or the hash, a name, a shape or a type differs from what
            the network has, or a value is not finite.
    """
    return load_hashed_weights(path, sha256)[0]


def load_hashed_weights(path: Path, sha256: str | None = None) -> tuple[DMSR, str]:
    """As `load_weights`, and the SHA-256 of the file that was loaded."""
    name = display_name(path)
    with _opened(path) as file:
        header = read_header(file, name)
        _check_tensors(header, _config(header, name), name)  # nothing else is read as a whole
        file.seek(0)
        content = file.read()
    # From here on the file may change: what was hashed is what is used.
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None:
        verify_sha256(found, sha256, name, "delete the file and fetch it again")
    header = read_header(io.BytesIO(content), name)
    config = _config(header, name)
    _check_tensors(header, config, name)
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    model = _new_model(config, name)
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise WeightsError(f"{name} is damaged ({reason_of(error)}); fetch it again") from None
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{name}: {key} has values that are not finite; fetch it again")
        tensors[key] = tensor.to(torch.float32)
    model.load_state_dict(tensors, assign=True)
    return model.eval(), found


def save_weights(
    model: DMSR,
    path: Path,
    *,
    dtype: torch.dtype | None = None,
    info: Mapping[str, Any] | None = None,
) -> None:
    """Write a network as a weight file, whole or not at all; equal weights give equal bytes.

    Args:
        model: the network; its state dict and its `config` are written.
        path: the .safetensors file to write or to replace.
        dtype: float16 (if None), bfloat16 or float32.
        info: facts about the training, as JSON can hold them, kept under `dmsr_info`.

    Raises:
        WeightsError: a value is not finite, or becomes so in `dtype`.
        DmsrError: the file cannot be written.
    """
    import torch
    from safetensors.torch import save

    dtype = dtype or torch.float16
    tensors = {
        name: tensor.detach().to("cpu", dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(
                f"{name} is not finite as {dtype}; {display_name(path)} was not written"
            )
    metadata = {"format": "pt", "dmsr_config": json.dumps(dataclasses.asdict(model.config))}
    if info is not None:
        metadata["dmsr_info"] = json.dumps(info, sort_keys=True)
    content = _with_sorted_metadata(save(tensors, metadata))
    with atomic_write(path) as temporary_path:
        temporary_path.write_bytes(content)


def _with_sorted_metadata(content: bytes) -> bytes:
    """The same safetensors file with its metadata in order: the library writes it in any order."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors stay aligned
    return len(text).to_bytes(8, "little") + text + content[end:]


def _config(header: Header, name: str) -> DMSRConfig:
    """The configuration in the header of the file `name`."""
    text = header.metadata.get("dmsr_config", "")
    try:
        values = parse_json(text if len(text) <= MAX_CONFIG_CHARACTERS else "")
    except (ValueError, RecursionError):
        raise WeightsError(
            f"{name} is not a DMSR weight file: it has no valid dmsr_config"
        ) from None
    try:
        return from_mapping(DMSRConfig, values, name)
    except SettingsError as error:
        raise WeightsError(f"{error}; a newer dmsr-cli may be able to read it") from None


def _check_tensors(header: Header, config: DMSRConfig, name: str) -> None:
    """Refuse a header whose tensors are not just those of the network of its configuration."""
    from dmsr_cli.model.shapes import tensor_shapes

    found = header.tensors
    # A wild config is refused before it takes time, here, and before it takes memory, below.
    if config.groups * config.blocks + config.extractor_blocks > len(found):
        raise WeightsError(f"{name}: has fewer tensors than its config has blocks; fetch it again")
    expected = dict(tensor_shapes(config))
    for tensor, shape in expected.items():
        if tensor not in found:
            raise WeightsError(f"{name}: the tensor {tensor} is missing; it is of another version")
        if found[tensor].shape != shape:
            raise WeightsError(
                f"{name}: {tensor} has the shape {reprlib.repr(list(found[tensor].shape))}, "
                f"but its config needs {list(shape)}"
            )
    unknown = sorted(set(found) - set(expected))
    if unknown:
        raise WeightsError(f"{name}: the network has no tensor {reprlib.repr(unknown[0])}")
    parameters = sum(map(math.prod, expected.values()))
    if parameters > MAX_PARAMETERS:
        raise WeightsError(
            f"{name}: its network has {parameters:,} weights; at most {MAX_PARAMETERS:,} are loaded"
        )


def _new_model(config: DMSRConfig, name: str) -> DMSR:
    """A network for weights to come; the caller's random numbers go on as if nothing was."""
    import torch

    from dmsr_cli.model import DMSR

    try:
        with torch.random.fork_rng(devices=[]):
            return DMSR(config)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{name}: its config makes no network ({reason_of(error)})") from None
