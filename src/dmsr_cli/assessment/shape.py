"""How far a kernel is from round, and which way it points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dmsr_cli.pipeline import Pixels

FINEST = 0.5
"""Standard deviation in HR pixels below which the taps of a kernel cannot tell one from another."""
ROUND = 1.25
"""Anisotropy up to which a kernel counts as round. Of 1500 round kernels, the estimate was never
above 1.12, and of those of one odd picture with other kernels up to 1.20, at random angles."""


@dataclass(frozen=True)
class Shape:
    """Of a kernel."""

    anisotropy: float
    """Long over short standard deviation, at least 1."""
    orientation: float | None
    """Degrees from 0 up to 180, counter-clockwise from horizontal; None if it is round."""


def shape_of(kernel: Pixels) -> Shape:
    """The shape of a kernel (K, K), from the second moments of its square.

    A softmax leaves a little in the outermost taps, and they dominate the moments of the kernel
    itself: with 1e-4 in each tap, a ratio of 2 reads as 1.55 at a width of 0.6. The square of a
    Gaussian is a Gaussian that is narrower by the root of two. In its moments they count for
    nothing, and the border cuts less off: ratios of 1.5 to 3 come out within 4 % at a width of 1.
    """
    weights = np.square(kernel, dtype=np.float64)
    weights /= weights.sum()
    up, right = np.meshgrid(
        -np.arange(kernel.shape[0]), np.arange(kernel.shape[1]), indexing="ij"
    )  # rows count downwards
    places = np.stack([right.ravel(), up.ravel()]).astype(np.float64)
    places -= places @ weights.ravel()[:, None]
    moments = 2 * (places * weights.ravel()) @ places.T
    (short, long), axes = np.linalg.eigh(moments)
    deviations = np.maximum(np.sqrt(np.maximum([short, long], 0)), FINEST)
    anisotropy = float(deviations[1] / deviations[0])
    if anisotropy < ROUND:
        return Shape(anisotropy, None)
    angle = float(np.degrees(np.arctan2(axes[1, 1], axes[0, 1]))) % 180
    return Shape(anisotropy, angle % 180)  # the remainder of a tiny negative angle is 180 itself
