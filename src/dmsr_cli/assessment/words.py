"""The words for blur and noise, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

BLUR_WORDS = ((0.5, "no visible"), (1.2, "slight"), (2.0, "moderate"), (2.7, "strong"))
"""Kernel width in HR pixels below which a word holds. They are about the enlarged picture, as the
number is: there half a pixel does not show, and the models know widths up to 3."""
NOISE_WORDS = ((1.5, "no visible"), (8, "slight"), (20, "moderate"), (40, "strong"))
"""The same for the noise level, 0 to 255."""
BEYOND = "very strong"


def blur_words(width: float, scale: int) -> str:
    """`moderate blur, about 1.6 px at x4`, for a kernel width in HR pixels."""
    shown = f"{width:.1f}"
    return f"{_word(shown, BLUR_WORDS)} blur, about {shown} px at x{scale}"


def noise_words(level: float) -> str:
    """`strong noise, sigma about 22`, for a noise level from 0 to 255."""
    shown = level_text(level)
    return f"{_word(shown, NOISE_WORDS)} noise, sigma about {shown}"


def level_text(level: float) -> str:
    """A noise level with as many digits as mean something."""
    return f"{level:.1f}" if level < 9.95 else f"{level:.0f}"


def _word(shown: str, words: Sequence[tuple[float, str]]) -> str:
    """For the number as it is shown, so that one number always has one word."""
    return next((word for limit, word in words if float(shown) < limit), BEYOND)
