"""What an estimate says in plain words, and how far it is to be trusted."""

from __future__ import annotations

from dataclasses import dataclass

from dmsr_cli.assessment.clues import Clues, find_clues
from dmsr_cli.assessment.confidence import kernel_confidence, noise_confidence
from dmsr_cli.assessment.reservations import reservations
from dmsr_cli.assessment.shape import shape_of
from dmsr_cli.assessment.words import blur_words, noise_words
from dmsr_cli.images import Image
from dmsr_cli.pipeline import Degradation, Pixels

__all__ = [
    "Assessment",
    "Clues",
    "assess",
    "blur_words",
    "find_clues",
    "kernel_confidence",
    "noise_confidence",
]


@dataclass(frozen=True)
class Assessment:
    """What is wrong with a picture, as people and programs are told; all numbers are finite."""

    kernel_width: float
    """As `Degradation.kernel_width`: in HR pixels."""
    noise_level: float
    """As `Degradation.noise_level`: 0 to 255."""
    noise_levels: tuple[float, float, float]
    """The same of red, green and blue."""
    anisotropy: float
    """Long over short standard deviation of the kernel, at least 1."""
    orientation: float | None
    """Of the kernel's long axis in degrees, 0 up to 180: 0 is horizontal, and 45 rises to the right
    as one sees it. None if the kernel is round."""
    kernel_confidence: float
    """Probability that the width is at most 0.3 pixels off, 0 to 1."""
    noise_confidence: float
    """Probability that the level is at most 10 % or 1 off, whichever is more, 0 to 1."""
    sentence: str
    """Blur and noise in plain words, on one line."""
    reservations: tuple[str, ...]
    """Why not to trust it, each a clause: `the picture is flat: its blur cannot be seen`."""


def assess(degradation: Degradation, image: Image | Pixels, scale: int) -> Assessment:
    """Judge an estimate.

    Args:
        degradation: what `estimate` says of the picture.
        image: the picture, as `estimate` was given it.
        scale: of the model.
    """
    clues = find_clues(degradation, image)
    shape = shape_of(degradation.kernel)
    confidences = kernel_confidence(clues), noise_confidence(clues)
    width, level = degradation.kernel_width, degradation.noise_level
    return Assessment(
        *(width, level, degradation.noise_levels),
        *(shape.anisotropy, shape.orientation),
        *confidences,
        f"{blur_words(width, scale)}; {noise_words(level)}",
        reservations(clues, *confidences),
    )
