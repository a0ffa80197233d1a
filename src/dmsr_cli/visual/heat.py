"""Numbers as colours, and the legend that says which is which."""

from __future__ import annotations

import numpy as np

from dmsr_cli.visual.layout import Pixels
from dmsr_cli.visual.text import text_picture

STOPS = np.array(
    [
        *((68, 1, 84), (71, 45, 123), (59, 82, 139), (44, 114, 142), (33, 145, 140)),
        *((40, 174, 128), (94, 201, 98), (173, 220, 48), (253, 231, 37)),
    ],
    np.float32,
) / np.float32(255)
"""Of matplotlib's viridis, from low to high: each is lighter than the one before, so that the
order is seen in grey, too, and by those who cannot tell red from green."""
UNKNOWN = np.float32(0.5)
"""The grey of NaN."""
BAR_HEIGHT = 12
"""Of a legend, in pixels."""
SPACE_BETWEEN_NUMBERS = 8


def heat_picture(values: Pixels, low: float, high: float) -> Pixels:
    """Numbers as colours: `low` and less dark violet, `high` and more light yellow.

    Args:
        values: (h, w), float32; NaN becomes grey.
        low: the number of the darkest colour.
        high: that of the lightest; if it is not above `low`, all is of the darkest.

    Returns:
        float32 (h, w, 3) in [0, 1].
    """
    span = high - low if high > low else np.inf
    shares = np.clip((values - np.float32(low)) / np.float32(span), 0, 1).ravel()
    known = ~np.isnan(shares)
    places = np.where(known, shares, 0) * np.float32(len(STOPS) - 1)
    picture = np.empty((*values.shape, 3), np.float32)
    for colour in range(3):
        mixed = np.interp(places, np.arange(len(STOPS)), STOPS[:, colour])
        picture[..., colour] = np.where(known, mixed, UNKNOWN).reshape(values.shape)
    return picture


def heat_legend(low: float, high: float, unit: str = "", width: int = 256) -> Pixels:
    """A bar of all colours with the numbers of its ends, and of its middle if there is room.

    Args:
        low: as for `heat_picture`.
        high: the same.
        unit: what stands behind the last number: "dB".
        width: in pixels; the legend is wider where the numbers need it.

    Returns:
        float32 (height, width, 3) in [0, 1], on white.
    """
    ends = (f"{low:.3g}", f"{high:.3g} {unit}".strip())
    first, last = map(text_picture, ends)
    middle = text_picture(f"{(low + high) / 2:.3g}")
    width = max(width, first.shape[1] + SPACE_BETWEEN_NUMBERS + last.shape[1])
    bar = heat_picture(np.linspace(0, 1, width, dtype=np.float32)[None], 0, 1)
    line = np.ones((first.shape[0], width, 3), np.float32)
    line[:, : first.shape[1]] = first
    line[:, width - last.shape[1] :] = last
    left = (width - middle.shape[1]) // 2
    right = left + middle.shape[1]
    room = slice(max(left - SPACE_BETWEEN_NUMBERS, 0), right + SPACE_BETWEEN_NUMBERS)
    if (line[:, room] == 1).all():
        line[:, left:right] = middle
    return np.concatenate([bar.repeat(BAR_HEIGHT, 0), line])
