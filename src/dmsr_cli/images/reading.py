"""Reads still pictures."""

from __future__ import annotations

import contextlib
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL.Image
from PIL import ImageOps

from dmsr_cli.errors import ImageError
from dmsr_cli.files import display_name, reason_of
from dmsr_cli.images.colour import to_srgb
from dmsr_cli.images.formats import FORMATS
from dmsr_cli.images.picture import FloatArray, Image

MAX_PIXELS = 500_000_000
"""Largest picture that is read, in pixels; more is taken for a decompression bomb."""

_EXIF_HEADER = b"Exif\x00\x00"
_settings_lock = threading.Lock()  # Pillow's limit and Python's warnings are process-wide


def read_image(path: str | Path) -> Image:
    """Read one picture, the first frame of an animation, turned upright as its EXIF says.

    Palettes become RGB; CMYK becomes sRGB through its profile, or plainly where that fails;
    grey is replicated to three channels. 16-bit and float grey keep their precision.

    Raises:
        ImageError: the file is missing, unreadable, empty, damaged, cut short, not a picture, or
            has more than MAX_PIXELS pixels.
    """
    path = Path(path)
    name = display_name(path)
    try:
        _check_source(path)
        with path.open("rb") as file:
            return _decode(file)
    except ImageError as error:
        raise ImageError(f"cannot read {name}: {error}") from error
    except FileNotFoundError as error:
        raise ImageError(f"cannot read {name}: no such file") from error
    except PIL.UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not a picture that can be read; convert it to PNG or JPEG first"
        ) from error
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"cannot read {name}: it has more than {MAX_PIXELS} pixels; split it first"
        ) from error
    except MemoryError as error:
        raise ImageError(f"cannot read {name}: it does not fit into memory") from error
    except Exception as error:  # decoders raise about every class there is
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(f"cannot read {name}: {reason_of(error)}") from error
        raise ImageError(
            f"cannot read {name}: it is damaged or cut short ({reason_of(error)})"
        ) from error


def _check_source(path: Path) -> None:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("it is a folder, not a picture")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("it is not a regular file")
    if status.st_size == 0:
        raise ImageError("the file is empty")


@contextlib.contextmanager
def _pillow_settings() -> Iterator[None]:
    """Our MAX_PIXELS, as an error; no warnings about odd metadata; one thread at a time."""
    with _settings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        previous = PIL.Image.MAX_IMAGE_PIXELS
        PIL.Image.MAX_IMAGE_PIXELS = MAX_PIXELS
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = previous


def _decode(file: BinaryIO) -> Image:
    with _pillow_settings():
        # Naming the formats keeps Pillow from trying others, some of which start other programs.
        picture = PIL.Image.open(file, formats=tuple(FORMATS))
    with picture:
        # Some decoders check the size once more. Others run side by side, without the lock.
        large = picture.width * picture.height > (PIL.Image.MAX_IMAGE_PIXELS or MAX_PIXELS)
        with _pillow_settings() if large else contextlib.nullcontext():
            picture.load()  # all of it: a file that is cut short fails here
        return image_of(picture)


def image_of(picture: PIL.Image.Image) -> Image:
    """A decoded picture of Pillow as one of ours. It may be changed."""
    file_format = "JPEG" if picture.format == "MPO" else picture.format or ""
    _turn_upright(picture)
    info = picture.info
    icc_profile = info.get("icc_profile") or None
    if picture.mode == "CMYK":
        picture, icc_profile = _cmyk_to_rgb(picture, icc_profile), None
    pixels, alpha, grey = _planes(picture)
    return Image(
        pixels, alpha, grey, icc_profile, _exif_block(info), _resolution(info), file_format
    )


def _turn_upright(picture: PIL.Image.Image) -> None:
    try:
        with _pillow_settings():
            ImageOps.exif_transpose(picture, in_place=True)
    except Exception:  # as many kinds as there are ways to damage EXIF; the pixels are still good
        picture.info.pop("exif", None)


def _exif_block(info: dict[Any, Any]) -> bytes | None:
    block = info.get("exif")
    if not isinstance(block, bytes) or not block:
        return None
    return block if block.startswith(_EXIF_HEADER) else _EXIF_HEADER + block


def _resolution(info: dict[Any, Any]) -> tuple[float, float] | None:
    """Pixels per inch, unless they are the nonsense that stands for "not known"."""
    try:
        horizontal, vertical = (float(value) for value in info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    known = 1 < horizontal < 65_536 and 1 < vertical < 65_536
    return (horizontal, vertical) if known else None


def _cmyk_to_rgb(picture: PIL.Image.Image, icc_profile: bytes | None) -> PIL.Image.Image:
    converted = to_srgb(picture, icc_profile) if icc_profile else None
    return converted or picture.convert("RGB")


def _planes(picture: PIL.Image.Image) -> tuple[FloatArray, FloatArray | None, bool]:
    """Pixels, alpha and whether the picture is grey."""
    mode = picture.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        values, alpha = _deep_grey(picture)
        return np.repeat(values[..., None], 3, axis=2), alpha, True
    grey = mode in ("1", "L", "LA", "La")
    transparent = picture.has_transparency_data
    picture = picture.convert(("L" if grey else "RGB") + ("A" if transparent else ""))
    values = np.array(picture, dtype=np.float32)
    values /= 255
    if values.ndim == 2:
        values = values[..., None]
    alpha = np.ascontiguousarray(values[..., -1]) if transparent else None
    colour = values[..., :1] if grey else values[..., :3]
    pixels = np.repeat(colour, 3, axis=2) if grey else np.ascontiguousarray(colour)
    return pixels, alpha, grey


def _deep_grey(picture: PIL.Image.Image) -> tuple[FloatArray, FloatArray | None]:
    """Grey of more than 8 bit. The range follows from the type, never from the brightest pixel."""
    stored = np.asarray(picture)
    white = 1 if picture.mode == "F" else 65_535
    low, high = stored.min(), stored.max()
    if not (low >= 0 and high <= white):  # also true of NaN
        raise ImageError(
            f"its values, {low} to {high}, lie outside 0 to {white}; convert it to 8 or 16 bit"
        )
    transparent = picture.info.get("transparency")
    alpha = (stored != transparent).astype(np.float32) if isinstance(transparent, int) else None
    return stored.astype(np.float32) / np.float32(white), alpha
