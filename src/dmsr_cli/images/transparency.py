"""The colour of what cannot be seen.

What a file stores under alpha 0 is arbitrary, often black. A network, like any filter, mixes
neighbouring pixels and would draw it into the edge of what is visible: a fringe.
"""

from __future__ import annotations

import numpy as np

from dmsr_cli.images.picture import FloatArray, Samples
from dmsr_cli.images.planes import as_float

_TRUSTED = 4 / 255
"""Opacity from which a stored colour counts in full; below, it fades into the surroundings'. A
wrong colour shows at most this share of itself; a file with premultiplied colours has rounded them
to multiples of up to 64 levels there."""


def bleed_colour(pixels: FloatArray, alpha: Samples) -> FloatArray:
    """Give what is transparent the colour of the nearest visible surroundings.

    Args:
        pixels: height x width x 3, float; it is not changed.
        alpha: height x width, opacity.

    Returns:
        A copy that differs only where alpha is below 4 of 255, or `pixels` itself if it is so
        nowhere, or above 0 nowhere.

    Raises:
        ImageError: a value of alpha is not finite.
    """
    trust = np.minimum(as_float(alpha) / np.float32(_TRUSTED), 1)
    if trust.min() == 1 or trust.max() == 0:
        return pixels
    return _filled(pixels, trust)


def _filled(colour: FloatArray, trust: FloatArray) -> FloatArray:
    """Mix every pixel, where its trust is below 1, with what a picture of half the size has there.

    That one is filled in the same way: a pyramid, which makes for four thirds of the work.
    """
    height, width = trust.shape
    if height == width == 1:
        return colour
    filled = _doubled(_doubled(_filled(*_halved(colour, trust)), 0), 1)[:height, :width]
    for channel in range(3):  # one at a time, so that temporaries stay small
        filled[..., channel] *= 1 - trust
        filled[..., channel] += trust * colour[..., channel]
    return filled


def _halved(colour: FloatArray, trust: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Means over blocks of 2 x 2, weighted by trust, and the sums of trust, at most 1."""
    sums = _block_sums(trust)
    divisor = np.where(sums > 0, sums, 1)
    planes = [_block_sums(colour[..., channel] * trust) / divisor for channel in range(3)]
    return np.stack(planes, axis=2), np.minimum(sums, 1)


def _block_sums(plane: FloatArray) -> FloatArray:
    """Sums over blocks of 2 x 2; those at the far edges may be smaller."""
    rows = plane[::2].copy()
    rows[: plane.shape[0] // 2] += plane[1::2]
    sums: FloatArray = rows[:, ::2].copy()
    sums[:, : plane.shape[1] // 2] += rows[:, 1::2]
    return sums


def _doubled(colour: FloatArray, axis: int) -> FloatArray:
    """Twice as many rows (axis 0) or columns (axis 1), bilinear."""
    source = colour.swapaxes(0, axis)
    mixed: FloatArray = np.empty((2 * len(source), *source.shape[1:]), np.float32)
    np.multiply(source, np.float32(0.75), out=mixed[::2])
    mixed[1::2] = mixed[::2]
    quarter = source * np.float32(0.25)
    mixed[2::2] += quarter[:-1]
    mixed[0] += quarter[0]
    mixed[1:-1:2] += quarter[1:]
    mixed[-1] += quarter[-1]
    return mixed if axis == 0 else mixed.swapaxes(0, axis)
