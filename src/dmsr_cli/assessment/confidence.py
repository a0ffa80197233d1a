"""How probable it is that an estimate is right: measured by benchmarks/confidence.py.

Two logistic formulas. Their terms are held within the range that was measured: what is beyond it
is as good, or as bad, as the last that was seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dmsr_cli.assessment.clues import Clues

WIDTH_TOLERANCE = 0.3
"""How many HR pixels the width of a good estimate may be off."""
FLAT = 1.0
"""Levels per pixel of detail, below which a picture is flat."""
LEVEL_TOLERANCE, LEVEL_SHARE = 1.0, 0.1
"""How many levels the noise of a good estimate may be off, or what share; the greater counts."""


@dataclass(frozen=True)
class Coefficient:
    """What a term weighs, and the range it is held in."""

    weight: float
    low: float
    high: float


def _noise_over_detail(clues: Clues) -> float:
    return math.log((clues.noise + 1) / (clues.detail + 0.5))


def _disagreement(clues: Clues) -> float:
    if clues.other_noise is None:
        return math.inf
    return abs(math.log((clues.noise + 1) / (clues.other_noise + 1)))


def _clipped_noise(clues: Clues) -> float:
    return math.sqrt(clues.clipped) * clues.noise


KERNEL_TERMS: Mapping[str, Callable[[Clues], float]] = {
    "misfit": lambda clues: math.log(clues.misfit + 1e-3),
    "noise over detail": _noise_over_detail,
    "fineness": lambda clues: clues.fineness,
    "pixels": lambda clues: math.log(clues.pixels),
}
NOISE_TERMS: Mapping[str, Callable[[Clues], float]] = {
    "disagreement": _disagreement,
    "noise over detail": _noise_over_detail,
    "clipped noise": _clipped_noise,
    "pixels": lambda clues: math.log(clues.pixels),
}

# What benchmarks/confidence.py prints, for the bundled models of the lite family.
KERNEL_INTERCEPT = -3.166
KERNEL_COEFFICIENTS: Mapping[str, Coefficient] = {
    "misfit": Coefficient(-0.515, -4.856, -0.651),
    "noise over detail": Coefficient(-0.382, -1.316, 1.391),
    "fineness": Coefficient(0.558, 0.677, 1.663),
    "pixels": Coefficient(0.192, 2.708, 9.170),
}
NOISE_INTERCEPT = -0.615
NOISE_COEFFICIENTS: Mapping[str, Coefficient] = {
    "disagreement": Coefficient(-7.074, 0.002, 1.907),
    "noise over detail": Coefficient(1.329, -1.316, 1.391),
    "clipped noise": Coefficient(-0.292, 0.000, 27.072),
    "pixels": Coefficient(0.367, 2.708, 9.170),
}


def kernel_confidence(clues: Clues) -> float:
    """Probability that the kernel width is within the tolerance, 0 to 1."""
    seen = min(1.0, clues.detail / FLAT)  # a width that is right by chance earns no confidence
    return seen * _probability(clues, KERNEL_TERMS, KERNEL_INTERCEPT, KERNEL_COEFFICIENTS)


def noise_confidence(clues: Clues) -> float:
    """Probability that the noise level is within the tolerance, 0 to 1."""
    return _probability(clues, NOISE_TERMS, NOISE_INTERCEPT, NOISE_COEFFICIENTS)


def _probability(
    clues: Clues,
    terms: Mapping[str, Callable[[Clues], float]],
    intercept: float,
    coefficients: Mapping[str, Coefficient],
) -> float:
    total = intercept
    for name, one in coefficients.items():
        total += one.weight * min(max(terms[name](clues), one.low), one.high)
    seen = min(1.0, 2 * (1 - clues.clipped))  # where more than half is black or white, less is seen
    return seen / (1 + math.exp(-total))
