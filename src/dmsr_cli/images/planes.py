"""Conversions between the number types of pixels, and planes at another size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import PIL.Image
from numpy.typing import DTypeLike, NDArray

from dmsr_cli.errors import ImageError
from dmsr_cli.images.picture import FloatArray, Samples

STRIP_PIXELS = 2**18
"""Pixels that are converted at a time: float copies of so many stay below 20 MB."""


def resize_alpha(alpha: Samples, scale: int, dtype: DTypeLike | None = None) -> Samples:
    """Enlarge an opacity plane, height x width, by a whole factor with bicubic.

    The result is float32, clipped to [0, 1], or uint8 or uint16: as `dtype` says, else like
    `alpha`. A constant plane stays exactly constant, as far as the dtype can hold the value.

    Raises:
        ImageError: a value is not finite.
    """
    height, width = alpha.shape
    plane = PIL.Image.fromarray(as_float(alpha))
    kind = np.dtype(dtype or (np.float32 if is_float(alpha) else alpha.dtype))
    resized = np.empty((height * scale, width * scale), kind)
    for rows in strips(height, width * scale * scale):
        box = (0, rows.start, width, rows.stop)  # Pillow sees beyond it: strips leave no seam
        size = (width * scale, (rows.stop - rows.start) * scale)
        # Pillow sums in double precision: weights that add up to 1 leave a float32 constant alone.
        strip = np.asarray(plane.resize(size, PIL.Image.Resampling.BICUBIC, box)).clip(0, 1)
        if kind != np.float32:
            strip = np.rint(strip * np.iinfo(kind).max)
        resized[rows.start * scale : rows.stop * scale] = strip
    return resized


def is_float(values: Samples) -> bool:
    """The type is a floating-point one."""
    return np.issubdtype(values.dtype, np.floating)


def as_float(values: Samples) -> FloatArray:
    """Float32 in [0, 1], clipped; ImageError if a value is not finite."""
    if not np.isfinite(values).all():
        raise ImageError("the picture has values that are not finite numbers")
    white = 1 if is_float(values) else np.iinfo(values.dtype).max
    scaled: FloatArray = values.astype(np.float32, copy=False) / np.float32(white)
    return scaled.clip(0, 1)


def as_bytes(values: Samples) -> NDArray[np.uint8]:
    """The nearest of the 256 levels; ImageError if a value is not finite."""
    if values.dtype.type == np.uint8:
        return values
    if values.dtype.type == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.rint(as_float(values) * 255).astype(np.uint8)


def as_words(values: Samples) -> NDArray[np.uint16]:
    """The nearest of the 65536 levels; ImageError if a value is not finite."""
    if values.dtype.type == np.uint16:
        words: NDArray[np.uint16] = values.astype(np.uint16, copy=False)  # of native byte order
        return words
    if values.dtype.type == np.uint8:
        return np.multiply(values, 257, dtype=np.uint16)
    return np.rint(as_float(values) * 65_535).astype(np.uint16)


def strips(height: int, width: int) -> Iterator[slice]:
    """Rows from top to bottom, as many at a time as are about `STRIP_PIXELS` pixels."""
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
