"""A photo with the strength of its noise over it, as colours, and a legend below."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from dmsr_cli.images import LUMA_WEIGHTS

Pixels = NDArray[np.float32]
Bytes = NDArray[np.uint8]

LONGEST_SIDE = 2048
"""Larger photos are shrunk by a whole number: the overlay is to be looked at."""
SHORTEST_SIDE = 256
"""Photos whose sides are shorter are enlarged by a whole number, so that the legend fits."""
OPACITY = 0.6
"""Of the colours."""
WINDOW_SHARE = 32
"""The noise is averaged over a square whose side is this part of the photo's longer one."""
SMALLEST_WINDOW = 5
LEVELS_SHOWN = (5, 10, 20, 30, 50, 75, 100, 150, 255)
"""Noise levels at which the colours may end, so that photos can be compared by eye."""
HEAT = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]])
"""From no noise to the most, RGB: ever brighter, so that it can be read without seeing colours."""
BAR_HEIGHT = 10
TEXT_HEIGHT = 12
MARGIN = 6


def noise_overlay(photo: Pixels, noise_map: Pixels) -> Bytes:
    """The local strength of the noise as translucent colours over a grey photo.

    Args:
        photo: (h, w, 3) float32 in [0, 1].
        noise_map: (h, w, 3) float32, signed.

    Returns:
        uint8 RGB: the photo, shrunk or enlarged by a whole number if it is large or small, and
        below it a bar with the colours and the noise levels, 0 to 255, that they stand for.
    """
    step = -(-max(photo.shape[:2]) // LONGEST_SIDE)
    grey = _shrunk(photo, step).clip(0, 1) @ LUMA_WEIGHTS.astype(np.float64)
    strength = np.sqrt(_averaged(_shrunk(noise_map, step, squared=True).mean(axis=2))) * 255
    most = _end_of_scale(strength)
    heat = _colours(strength / most)
    blended = (1 - OPACITY) * 255 * grey[..., None] + OPACITY * heat
    enlarged = _enlarged(np.rint(blended).astype(np.uint8))
    return np.concatenate([enlarged, _legend(enlarged.shape[1], most)])


def _shrunk(array: Pixels, step: int, *, squared: bool = False) -> NDArray[np.float64]:
    """Means of squares of `step` pixels, of the values or of their squares; the rest is cut off."""
    height, width = (max(length // step, 1) for length in array.shape[:2])
    sums: NDArray[np.float64] = np.zeros((height, width, 3))
    rows, columns = min(step, array.shape[0]), min(step, array.shape[1])
    for row in range(rows):
        for column in range(columns):
            part = array[row::step, column::step][:height, :width].astype(np.float64)
            sums += np.square(part) if squared else part
    sums /= rows * columns
    return sums


def _averaged(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over a square around each pixel, or what of it is inside."""
    reach = max(max(plane.shape) // WINDOW_SHARE, SMALLEST_WINDOW) // 2
    for axis in (0, 1):
        length = plane.shape[axis]
        sums = np.cumsum(plane, axis=axis)
        sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)
        first = np.maximum(np.arange(length) - reach, 0)
        after = np.minimum(np.arange(length) + reach + 1, length)
        counts = (after - first).reshape((-1, 1) if axis == 0 else (1, -1))
        plane = (sums.take(after, axis) - sums.take(first, axis)) / counts
    return plane


def _end_of_scale(strength: NDArray[np.float64]) -> int:
    """The first level that nearly all of the picture is below."""
    nearly_all = float(np.percentile(strength, 99))
    return next((level for level in LEVELS_SHOWN if nearly_all <= level), LEVELS_SHOWN[-1])


def _colours(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3) colours, 0 to 255, for values from 0 to 1."""
    places = np.linspace(0, 1, len(HEAT))
    channels = [np.interp(share, places, HEAT[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1)


def _enlarged(picture: Bytes) -> Bytes:
    factor = max(SHORTEST_SIDE // max(picture.shape[:2]), 1)
    return picture.repeat(factor, 0).repeat(factor, 1)


def _legend(width: int, most: int) -> Bytes:
    """A bar from 0 to `most` with its numbers, on white."""
    font = ImageFont.load_default(size=TEXT_HEIGHT)
    text_top = MARGIN + BAR_HEIGHT + 2
    height = text_top + math.ceil(font.getbbox("0gj|")[3]) + MARGIN
    picture = PillowImage.new("RGB", (width, height), "white")
    inner = max(width - 2 * MARGIN, 1)
    bar = np.broadcast_to(_colours(np.linspace(0, 1, inner)), (BAR_HEIGHT, inner, 3))
    picture.paste(PillowImage.fromarray(np.rint(bar).astype(np.uint8)), (MARGIN, MARGIN))
    draw = ImageDraw.Draw(picture)
    places = ((MARGIN, "0", "la"), (width - MARGIN, f"{most}", "ra"))
    room = inner - sum(font.getlength(text) for _, text, _ in places) - 2 * MARGIN
    title = next(
        (one for one in ("noise level (sigma)", "noise") if font.getlength(one) < room), ""
    )
    for across, text, anchor in (*places, (width / 2, title, "ma")):
        draw.text((across, text_top), text, fill="black", font=font, anchor=anchor)
    return np.asarray(picture)
