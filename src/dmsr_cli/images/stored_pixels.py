"""Pixels as files hold them: one channel for grey, alpha kept or over white, whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from dmsr_cli.images.formats import Format
from dmsr_cli.images.palettes import with_palette
from dmsr_cli.images.picture import LUMA_WEIGHTS, Image, Samples
from dmsr_cli.images.planes import as_bytes, as_float, as_words, strips
from dmsr_cli.images.stored_colour import kept_profile, srgb_levels, with_srgb_colours


def stored_picture(image: Image, file_format: Format) -> PIL.Image.Image:
    """A picture in the mode in which a file of 8 bit holds it, in sRGB unless its profile is kept.

    For GIF that is a palette, or grey, with `transparency` in its info where pixels are hidden.
    """
    single_channel, with_alpha = _channels(image, file_format)
    mode = ("L" if single_channel else "RGB") + ("A" if with_alpha else "")
    picture = PIL.Image.new(mode, (image.width, image.height), None)
    for rows in strips(image.height, image.width):
        strip = _stored_strip(image, rows, file_format, as_bytes)
        picture.paste(PIL.Image.fromarray(_flat(strip)), (0, rows.start))
    if image.icc_profile and not kept_profile(image, file_format):
        picture = with_srgb_colours(picture, image)
    return with_palette(picture) if file_format.name == "GIF" else picture


def stored_samples(image: Image, file_format: Format, depth: int) -> NDArray[Any]:
    """A picture as PNG and TIFF hold it: height x width, or height x width x 2, 3 or 4.

    The samples have 8 or 16 bit. They are the pixels themselves if those are like that already.
    """
    single_channel, with_alpha = _channels(image, file_format)
    rounded: Callable[[Samples], NDArray[Any]] = as_words if depth == 16 else as_bytes
    kind = np.uint16 if depth == 16 else np.uint8
    if image.pixels.dtype == kind and not (image.grey or with_alpha):
        return image.pixels
    levels = None
    if single_channel and image.icc_profile and not kept_profile(image, file_format):
        levels = srgb_levels(image.icc_profile, depth)
    channels = (1 if single_channel else 3) + with_alpha
    samples = np.empty((image.height, image.width, channels), kind)
    for rows in strips(image.height, image.width):
        strip = _stored_strip(image, rows, file_format, rounded)
        if levels is not None:
            strip[..., 0] = levels[strip[..., 0]]
        samples[rows] = strip
    return _flat(samples)


def _channels(image: Image, file_format: Format) -> tuple[bool, bool]:
    """Whether grey is stored as one channel, and alpha as one more."""
    return image.grey and file_format.grey, image.alpha is not None and file_format.alpha


def _stored_strip(
    image: Image, rows: slice, file_format: Format, rounded: Callable[[Samples], NDArray[Any]]
) -> NDArray[Any]:
    """Some rows as the file has them, rows x width x channels, of the type that `rounded` gives."""
    pixels, alpha = image.pixels[rows], None if image.alpha is None else image.alpha[rows]
    single_channel, with_alpha = _channels(image, file_format)
    if alpha is not None and not with_alpha:
        opacity = as_float(alpha)[..., None]
        pixels = as_float(pixels) * opacity + (1 - opacity)
    if image.grey:
        luma = (as_float(pixels) @ LUMA_WEIGHTS)[..., None]
        pixels = luma if single_channel else np.repeat(luma, 3, axis=2)
    stored = rounded(pixels)
    if alpha is not None and with_alpha:
        stored = np.concatenate([stored, rounded(alpha)[..., None]], axis=2)
    return stored


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    """Without the axis of a single channel."""
    return np.ascontiguousarray(values[..., 0] if values.shape[2] == 1 else values)
