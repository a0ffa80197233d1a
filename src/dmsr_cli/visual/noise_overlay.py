"""A photo with the strength of its noise over it, as colours, and a legend below."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dmsr_cli.images import LUMA_WEIGHTS
from dmsr_cli.visual.heat import heat_legend, heat_picture
from dmsr_cli.visual.layout import Pixels

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
GAP = 4
"""Pixels between photo and legend."""
LEVELS_SHOWN = (5, 10, 20, 30, 50, 75, 100, 150, 255)
"""Noise levels at which the colours may end, so that photos can be compared by eye."""


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
    heat = heat_picture(strength.astype(np.float32), 0, most)
    blended = _enlarged((1 - OPACITY) * grey[..., None] + OPACITY * heat)
    legend = heat_legend(0, most, "sigma", blended.shape[1])
    beside = legend.shape[1] - blended.shape[1]  # the numbers may need more room than the photo
    whole = np.pad(blended, ((0, GAP), (0, beside), (0, 0)), constant_values=1)
    overlay: Bytes = np.rint(255 * np.concatenate([whole, legend])).astype(np.uint8)
    return overlay


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


def _enlarged(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    factor = max(SHORTEST_SIDE // max(picture.shape[:2]), 1)
    return picture.repeat(factor, 0).repeat(factor, 1)
