"""What a network makes of a picture under several degradations, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dmsr_cli.visual.layout import DIVIDER, Pixels, grey_picture, side_by_side, stacked
from dmsr_cli.visual.text import text_picture

SPACE_BESIDE_NAMES = ((0, 0), (DIVIDER, DIVIDER), (0, 0))
STRIP_COLUMNS = ("LR", "result", "HR", "true kernel", "estimated kernel")


class StripRow(NamedTuple):
    """One degradation of a picture, and what a network made of it."""

    lr: Pixels
    """(h, w, 3), float32, nominally in [0, 1]."""
    restored: Pixels
    """(H, W, 3), as all HR pictures."""
    hr: Pixels
    true_kernel: Pixels
    """(K, K), float32, not negative."""
    estimated_kernel: Pixels
    label: str
    """One line of text."""


def validation_strip(rows: Sequence[StripRow]) -> Pixels:
    """A row of pictures for each degradation, under its label: LR, result, HR and both kernels.

    LR and kernels are enlarged plainly, so that one sees their pixels. All kernels have the same
    brightness scale, that of the largest tap in the strip, and can be compared; the brightness is
    the cube root of a tap, because a wide kernel has only a fortieth of a narrow one's peak.

    Args:
        rows: at least one.

    Returns:
        float32 (height, width, 3) in [0, 1] on white, with the names of the columns on top.
    """
    largest = max(max(row.true_kernel.max(), row.estimated_kernel.max()) for row in rows)
    pictures = [_strip_pictures(row, max(float(largest), 1e-12)) for row in rows]
    names = [
        np.pad(text_picture(name), SPACE_BESIDE_NAMES, constant_values=1) for name in STRIP_COLUMNS
    ]
    widths = [
        max(picture.shape[1] for picture in column) for column in zip(names, *pictures, strict=True)
    ]
    lines = [side_by_side(names, widths)]
    for row, cells in zip(rows, pictures, strict=True):
        label = text_picture(row.label)
        lines += [side_by_side([label], [label.shape[1]]), side_by_side(cells, widths)]
    return stacked(lines)


def _strip_pictures(row: StripRow, largest_tap: float) -> list[Pixels]:
    height, width = row.hr.shape[:2]
    from_rows = np.arange(height) * row.lr.shape[0] // height
    from_columns = np.arange(width) * row.lr.shape[1] // width
    pictures = [row.lr[from_rows][:, from_columns], row.restored, row.hr]
    kernels = [row.true_kernel, row.estimated_kernel]
    return [np.clip(picture, 0, 1).astype(np.float32) for picture in pictures] + [
        _kernel_square(np.cbrt(np.clip(kernel / largest_tap, 0, 1)), height) for kernel in kernels
    ]


def _kernel_square(brightness: Pixels, side: int) -> Pixels:
    """A kernel as large as whole pixels per tap allow, in the middle of a black square."""
    magnification = max(side // brightness.shape[0], 1)
    enlarged = grey_picture(brightness.astype(np.float32), magnification)
    missing = max(side - enlarged.shape[0], 0)
    before, after = missing // 2, missing - missing // 2
    return np.pad(enlarged, ((before, after), (before, after), (0, 0)))
