"""How much of a picture is accepted, and what becomes of one that is not whole."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import PIL.Image
from PIL import ImageFile

MAX_PIXELS = 500_000_000
"""Largest picture that is read unless told otherwise; more is taken for a decompression bomb."""

CUT_SHORT = "it is damaged or cut short, and what cannot be read of it is missing"
"""The warning of a picture that is not whole."""

BOMBS = (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning)
"""What Pillow raises, inside `pillow_settings`, for too many pixels; `check_size` does so, too."""

_lock = threading.Lock()  # Pillow's settings and Python's warnings are process-wide


@dataclass(frozen=True)
class Limits:
    """What `read_image` and `open_sequence` accept."""

    max_pixels: int = MAX_PIXELS
    """Of one picture, frame or page. It is compared with the header, before anything is decoded."""
    allow_truncated: bool = False
    """Take what is there of a picture that is cut short, with a warning; else it is an error."""

    @property
    def strict(self) -> Limits:
        """The same, but only whole pictures."""
        return dataclasses.replace(self, allow_truncated=False)


USUAL = Limits()
"""What holds where nothing else is said."""


@contextlib.contextmanager
def pillow_settings(limits: Limits) -> Iterator[None]:
    """Our limits, as errors; no warnings about odd metadata; one thread at a time."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        before = PIL.Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        PIL.Image.MAX_IMAGE_PIXELS = limits.max_pixels
        ImageFile.LOAD_TRUNCATED_IMAGES = limits.allow_truncated
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def loading_settings(
    picture: PIL.Image.Image, limits: Limits
) -> contextlib.AbstractContextManager[None]:
    """What must hold while Pillow decodes: mostly nothing, so that threads decode side by side."""
    # Some decoders check the size once more.
    large = picture.width * picture.height > (PIL.Image.MAX_IMAGE_PIXELS or limits.max_pixels)
    return pillow_settings(limits) if large or limits.allow_truncated else contextlib.nullcontext()


def check_size(width: int, height: int, limits: Limits) -> None:
    """Raise Pillow's DecompressionBombError for too many pixels."""
    if width * height > limits.max_pixels:
        raise PIL.Image.DecompressionBombError(f"{width * height} pixels")


def too_large(error: BaseException, limits: Limits) -> str:
    """A clause about one of BOMBS, without a subject."""
    stated = re.search(r"\d+", str(error))
    pixels = stated[0] if stated else "more"
    least = pixels if stated else "N"
    return (
        f"has {pixels} pixels, more than the limit of {limits.max_pixels}; if that is no mistake, "
        f"allow it with --max-pixels {least}"
    )
