"""The provenance note: what made a result, one line of JSON in its file's metadata."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import PIL.Image

from dmsr_cli.errors import ImageError
from dmsr_cli.files import display_name, reason_of
from dmsr_cli.images.formats import FORMATS, prepare

PROCESSING_SOFTWARE = 0x000B
"""EXIF's tag for the software that processed a picture; the camera's own is another, Software."""

_TOOL = "dmsr"


@dataclass(frozen=True)
class Provenance:
    """What made a result. Two passes join their models and their hashes by "+"."""

    version: str
    """Of this tool."""
    model: str
    sha256: str
    """Of the weight file."""
    scale: float
    """Result over source, as asked for."""
    kernel_width: float
    """Standard deviation of the blur that was assumed, in pixels of the restored picture."""
    noise_level: float
    """Standard deviation of the noise that was assumed, on the 0-255 scale."""
    settings: str = ""
    """SHA-256 of all settings that the result depends on; empty in notes of older versions."""
    source: str = ""
    """SHA-256 of the input's file; empty where it was none, as standard input, and for clips."""

    def note(self) -> str:
        """One line of ASCII."""
        values = asdict(self)
        for name in ("settings", "source"):
            if not values[name]:
                del values[name]
        return json.dumps({"tool": _TOOL, **values})


def parse_note(text: str) -> Provenance | None:
    """What a note says; None if the text is no note of this tool."""
    try:
        values = json.loads(text)
        if not isinstance(values, dict) or values.pop("tool", None) != _TOOL:
            return None
        found = Provenance(**values)
    except (TypeError, ValueError, RecursionError):  # no JSON, or of other fields
        return None
    kinds: dict[str, tuple[type, ...]] = {"str": (str,), "float": (int, float)}
    for field in fields(found):
        value = getattr(found, field.name)
        if not isinstance(value, kinds[str(field.type)]) or isinstance(value, bool):
            return None
        if isinstance(value, (int, float)) and not math.isfinite(value):
            return None
    return found


def read_provenance(path: str | Path) -> Provenance | None:
    """The provenance note of a result; None if the file has none, or none of a known form.

    Raises:
        ImageError: the file is missing, unreadable, or not a picture.
    """
    try:
        texts = _texts(path)
    except PIL.UnidentifiedImageError as error:
        raise ImageError(f"{display_name(path)} is not a picture that can be read") from error
    except Exception as error:  # decoders raise about every class there is
        raise ImageError(f"cannot read {display_name(path)}: {reason_of(error)}") from error
    for text in texts:
        readable = text.decode("ascii", "replace") if isinstance(text, bytes) else text
        note = parse_note(readable.rstrip("\0")) if isinstance(readable, str) else None
        if note is not None:
            return note
    return None


def _texts(path: str | Path) -> list[object]:
    """What stands where a note may be."""
    for known in FORMATS.values():
        prepare(known)
    try:
        with PIL.Image.open(path, formats=tuple(FORMATS)) as picture:
            return [picture.getexif().get(PROCESSING_SOFTWARE), picture.info.get("comment")]
    except PIL.UnidentifiedImageError as error:
        import tifffile

        try:  # Pillow knows no grey with alpha of 16 bit
            with tifffile.TiffFile(path) as file:
                return [file.pages.first.tags.valueof(PROCESSING_SOFTWARE)]
        except tifffile.TiffFileError:
            raise error from None
