"""Why an estimate is not to be trusted, in plain words."""

from __future__ import annotations

from dmsr_cli.assessment.clues import Clues
from dmsr_cli.assessment.confidence import FLAT

FEW_PIXELS = 1024
"""Pixels up to which a picture is small."""
DROWNED = 2.0
"""Noise level over detail, from which the detail is lost in it."""
CLIPPED, ALL_CLIPPED = 0.05, 0.9
"""Share of values at black or white from which noise is noticeably cut off; nothing is seen."""
CONTRADICTED = 1.4
"""How many times the other method's noise level is exceeded where texture is taken for noise."""
LOW = 0.3
"""Confidence below which something must be said."""


def reservations(clues: Clues, kernel: float, noise: float) -> tuple[str, ...]:
    """Clauses for people; at least one if one of the two confidences is low.

    Args:
        clues: of the picture.
        kernel: confidence in the kernel width.
        noise: confidence in the noise level.
    """
    if overall := _of_the_picture(clues):
        return (overall,)
    found = []
    if kernel < LOW or clues.detail < FLAT:
        found.append(_of_the_kernel(clues))
    if noise < LOW:
        found.append(_of_the_noise(clues))
    return tuple(found)


def _of_the_picture(clues: Clues) -> str:
    """What spoils both; empty if nothing does."""
    if clues.pixels <= FEW_PIXELS:
        return "the picture is small: there is little to judge it by"
    if clues.clipped > ALL_CLIPPED:
        return "the picture is all black or white: neither blur nor noise can be seen"
    return ""


def _of_the_kernel(clues: Clues) -> str:
    if clues.detail < FLAT:
        return "the picture is flat: its blur cannot be seen"
    if clues.noise > DROWNED * clues.detail:
        return "noise hides the detail that would show the blur"
    return "the blur of pictures like this one is often misjudged"


def _of_the_noise(clues: Clues) -> str:
    if clues.clipped > CLIPPED:
        return "black and white parts cut noise off: it may be stronger"
    if clues.other_noise is not None and clues.noise + 1 > CONTRADICTED * (clues.other_noise + 1):
        return "part of what looks like noise may be fine texture"
    return "the noise of pictures like this one is often misjudged"
