"""Pictures side by side and one below the other, on white."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]

DIVIDER = 4
"""Pixels between the two halves of a comparison, and between the pictures of a strip."""


def grey_picture(brightness: Pixels, magnification: int) -> Pixels:
    """(K, K) in [0, 1] as a grey picture with `magnification` pixels for each value."""
    enlarged = brightness.repeat(magnification, 0).repeat(magnification, 1)
    return np.repeat(enlarged[..., None], 3, axis=2)


def side_by_side(pictures: Sequence[Pixels], widths: Sequence[int]) -> Pixels:
    """Each picture in the middle of its column, on white, with a divider on every side of it."""
    height = max(picture.shape[0] for picture in pictures)
    line = np.ones((height, sum(widths) + DIVIDER * (len(widths) + 1), 3), np.float32)
    column = DIVIDER
    for picture, width in zip(pictures, widths, strict=True):
        top = (height - picture.shape[0]) // 2
        left = column + (width - picture.shape[1]) // 2
        line[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        column += width + DIVIDER
    return line


def stacked(lines: Sequence[Pixels]) -> Pixels:
    """Lines from the left border on, on white, with dividers between."""
    width = max(line.shape[1] for line in lines)
    return np.concatenate(
        [
            np.pad(line, ((0, DIVIDER), (0, width - line.shape[1]), (0, 0)), constant_values=1)
            for line in lines
        ]
    )
