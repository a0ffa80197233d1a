"""Three tests for damage that the models do not know, each from a plane that is there anyway.

A network may explain such damage perfectly: a result with the blocks of a JPEG gives an input with
these blocks. What is tested is therefore what damage of the known kind does not do: to leave a
residual with single high peaks, noise that repeats every 8 pixels, or detail in one direction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dmsr_cli.consistency.calibration import DIRECTION_LIMIT, GRID_LIMIT, PEAKS_LIMIT

Pixels = NDArray[np.float32]

LEAST_SIDE = 32
"""Of a smaller picture nothing can be said."""
FEW_PIXELS = 64
"""Side of a picture of which the limits are twice as high: chance counts more."""
LARGEST_SIDE = 1024
"""Of larger pictures, the middle is looked at."""
JPEG_BLOCK = 8
BORDER = 4
"""Pixels at each edge where the noise map shows the edge."""
FAINT = 0.2
"""Steps in levels that are as good as none."""
RARE = 0.995
"""Salt and pepper are found if they strike more than the rest of the pixels."""


class Planes(NamedTuple):
    """What the tests look at: means of the channels, (h, w), on the 0-255 scale."""

    residual: Pixels
    """Input less re-degraded result."""
    noise: Pixels
    """The estimated noise map."""
    explained: Pixels
    """The re-degraded result."""


class Verdict(NamedTuple):
    """What the tests say."""

    score: float
    """How many times the limit of the test that is nearest to it, or farthest beyond."""
    seen: str
    """What that test catches."""


def judge(planes: Planes) -> Verdict | None:
    """The worst of all tests; None if the picture is too small for them."""
    height, width = planes.residual.shape
    if min(height, width) < LEAST_SIDE:
        return None
    leniency = leniency_of(height, width)
    return max(
        Verdict(test.strength(planes) / (test.limit * leniency), test.seen) for test in TESTS
    )


def leniency_of(height: int, width: int) -> float:
    """By what the limits are higher than for a very large picture."""
    return 1 + FEW_PIXELS / float(np.sqrt(height * width))


def middle(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns that are looked at."""
    rows, columns = (
        slice(max(0, (side - LARGEST_SIDE) // 2), max(0, (side - LARGEST_SIDE) // 2) + LARGEST_SIDE)
        for side in (height, width)
    )
    return rows, columns


def peaks(residual: Pixels) -> float:
    """Catches salt and pepper: single pixels that lie far outside their four neighbours.

    Returns:
        By how much the highest pixels do, in terms of the mean plus one level: in white noise
        up to 9, whatever its level.
    """
    inner = residual[1:-1, 1:-1]
    beside = (residual[:-2, 1:-1], residual[2:, 1:-1], residual[1:-1, :-2], residual[1:-1, 2:])
    above = inner - np.maximum(np.maximum(*beside[:2]), np.maximum(*beside[2:]))
    below = np.minimum(np.minimum(*beside[:2]), np.minimum(*beside[2:])) - inner
    heights = np.maximum(np.maximum(above, below), 0)
    return float(np.quantile(heights, RARE) / (heights.mean() + 1))


def grid(noise: Pixels) -> float:
    """Catches JPEG: steps that are higher every 8 pixels, across and down.

    Returns:
        By which share they are higher than the others, 0 if they are not.
    """
    inner = noise[BORDER:-BORDER, BORDER:-BORDER]
    return max(0.0, min(_repeating(inner), _repeating(inner.T)))


def direction(explained: Pixels) -> float:
    """Catches motion blur: fine detail varies across the movement, not along it.

    Taken from what the result explains, in which little noise is left.

    Returns:
        Logarithm of how much stronger the gradients of fine detail are in their main direction
        than across it.
    """
    fine = explained[2:-2, 2:-2] - _smoothed(_smoothed(explained).T).T
    down_right, down_left = fine[1:, 1:] - fine[:-1, :-1], fine[1:, :-1] - fine[:-1, 1:]
    across, down = (down_right - down_left) / 2, (down_right + down_left) / 2
    mean = float(np.mean(across * across) + np.mean(down * down))
    apart = float(
        np.hypot(np.mean(across * across) - np.mean(down * down), 2 * np.mean(across * down))
    )
    rounding = 0.25  # of 8-bit values: without it a flat picture would have a direction
    return float(np.log((mean + apart + rounding) / (mean - apart + rounding)))


class Test(NamedTuple):
    """A test, and from where on it speaks."""

    strength: Callable[[Planes], float]
    limit: float
    seen: str


TESTS = (
    Test(
        lambda planes: peaks(planes.residual),
        PEAKS_LIMIT,
        "single pixels that stand out: salt and pepper",
    ),
    Test(lambda planes: grid(planes.noise), GRID_LIMIT, "blocks of 8x8: JPEG"),
    Test(
        lambda planes: direction(planes.explained),
        DIRECTION_LIMIT,
        "detail in one direction only: motion blur",
    ),
)


def _repeating(plane: Pixels) -> float:
    """By which share the steps between columns are higher at every eighth than at the others."""
    steps = np.diff(plane, axis=1)
    bends = np.abs(steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2)
    # Edges of the picture must not count for more than many small steps.
    columns = np.minimum(bends, 2 * bends.mean() + FAINT).mean(axis=0)
    phases = np.array([columns[phase::JPEG_BLOCK].mean() for phase in range(JPEG_BLOCK)])
    highest = phases.max()
    others = (phases.sum() - highest) / (JPEG_BLOCK - 1)
    return float(highest / (others + FAINT)) - 1


def _smoothed(plane: Pixels) -> Pixels:
    """Weighted means of 5 neighbours along rows, without the two at each end."""
    smoothed: Pixels = (
        plane[:, :-4] + plane[:, 4:] + 4 * (plane[:, 1:-3] + plane[:, 3:-1]) + 6 * plane[:, 2:-2]
    ) / np.float32(16)
    return smoothed
