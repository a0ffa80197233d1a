"""What in a picture, and in its estimate, shows how good the estimate can be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.images import LUMA_WEIGHTS, Image, bleed_colour
from dmsr_cli.pipeline import Degradation, Pixels

BLOCK = 256
"""Side of the blocks that are looked at in a large picture."""
BLOCKS = 5
"""How many of them in a row, and in a column."""
_GAUSS_MEDIAN = 0.6745
"""Median of the absolute value of what is normally distributed with deviation 1."""


@dataclass(frozen=True)
class Clues:
    """What shows how good an estimate can be; levels are 0 to 255, all values are finite."""

    pixels: int
    """Of the picture."""
    detail: float
    """Root mean square of the luma's slope without the noise, levels per pixel."""
    noise: float
    """The estimated noise level."""
    fineness: float
    """Root mean square of the luma's curvature without the noise, as a share of its slope."""
    misfit: float
    """How far the kernel is from every Gaussian, as a share of the kernel."""
    other_noise: float | None
    """Noise level by a method without a network; None where the picture is too small for it."""
    clipped: float
    """Share of values that are at black or white."""


def find_clues(degradation: Degradation, image: Image | Pixels) -> Clues:
    """Look at a picture; in one of many megapixels, at blocks of it.

    Args:
        degradation: what is estimated.
        image: the picture that it was estimated from.
    """
    pixels = image.pixels if isinstance(image, Image) else image
    if isinstance(image, Image) and image.alpha is not None:
        pixels = bleed_colour(pixels, image.alpha)  # as the network saw it
    levels = _blocks(pixels) * np.float32(255)
    clean = (levels - _blocks(degradation.noise_map) * np.float32(255)) @ LUMA_WEIGHTS
    slope = math.hypot(*(_rms(np.diff(clean, axis=axis)) for axis in (1, 2)))
    curvature = math.hypot(*(_rms(np.diff(clean, 2, axis=axis)) for axis in (1, 2)))
    return Clues(
        pixels=pixels.shape[0] * pixels.shape[1],
        detail=slope,
        noise=degradation.noise_level,
        fineness=curvature / (slope + 0.1),
        misfit=_misfit(degradation),
        other_noise=_immerkaer(levels),
        clipped=float(np.mean((levels < 0.5) | (levels > 254.5))),
    )


def _blocks(array: Pixels) -> Pixels:
    """(n, h, w, 3): the array as one block, or blocks of it at even distances."""
    height, width = array.shape[:2]
    if height * width <= (BLOCKS * BLOCK) ** 2:
        return array[None]
    rows, columns = min(height, BLOCK), min(width, BLOCK)
    return np.stack(
        [
            array[top : top + rows, left : left + columns]
            for top in _starts(height, rows)
            for left in _starts(width, columns)
        ]
    )


def _starts(length: int, size: int) -> list[int]:
    return sorted(set(np.linspace(0, length - size, BLOCKS).astype(int).tolist()))


def _rms(values: NDArray[np.floating]) -> float:
    """Root mean square; 0 of nothing."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0


def _misfit(degradation: Degradation) -> float:
    kernel = degradation.kernel.astype(np.float64)
    nearest = gaussian_kernel(torch.tensor([degradation.kernel_width]), kernel.shape[0])[0].numpy()
    return _rms(kernel - nearest) / _rms(kernel)


def _immerkaer(levels: Pixels) -> float | None:
    """Noise level by Immerkaer's mask (1996), with the median for a mean, so that edges count less.

    Args:
        levels: blocks (n, h, w, 3), 0 to 255.
    """
    second = np.diff(np.diff(levels, 2, axis=1), 2, axis=2)
    if second.size == 0:
        return None
    return float(np.median(np.abs(second))) / (6 * _GAUSS_MEDIAN)
