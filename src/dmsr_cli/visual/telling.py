"""Which part of a picture tells most about its restoration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dmsr_cli.images import LUMA_WEIGHTS, Image
from dmsr_cli.images.planes import as_float
from dmsr_cli.visual.layout import Pixels
from dmsr_cli.visual.painting import Window

CELLS = 4
"""Of a window, on each side: its place is found in steps of a cell."""
BORDER = 0.02
"""Share of each side that is not looked at: frames, and what is odd at the ends of a picture."""


def telling_window(result: Image, height: int, width: int) -> Window:
    """The window of a result in which most detail is.

    The detail of a cell is the root of its mean gradient: of a window full of texture more than of
    one with a single hard edge. It is looked for in the result, where the noise is gone, in the
    input it would count as detail; and only in what is visible. Of equal windows it is that next
    to the middle.

    Args:
        result: the restored picture.
        height: of the window, at most that of the picture.
        width: the same.
    """
    aside = min(int(result.height * BORDER), (result.height - height) // 2)
    beside = min(int(result.width * BORDER), (result.width - width) // 2)
    cell = max(1, height // CELLS), max(1, width // CELLS)
    inner = Window(aside, beside, result.height - 2 * aside, result.width - 2 * beside)
    detail = _detail(result, inner, cell)
    sums = _window_sums(detail, max(1, height // cell[0]), max(1, width // cell[1]))
    best = np.argwhere(sums >= sums.max() * (1 - 1e-6))
    middle = (np.array(sums.shape) - 1) / 2
    row, column = best[np.square(best - middle).sum(axis=1).argmin()]
    top = min(aside + int(row) * cell[0], result.height - height)
    left = min(beside + int(column) * cell[1], result.width - width)
    return Window(top, left, height, width)


def _detail(result: Image, inner: Window, cell: tuple[int, int]) -> NDArray[np.float64]:
    """Of each whole cell of a window; at least one."""
    height, width = cell
    rows, columns = inner.height // height, inner.width // width
    detail = np.empty((rows, columns))
    for number in range(rows):
        band = Window(inner.top + number * height, inner.left, height, columns * width)
        gradient = _gradient(result, band).sum(axis=0, dtype=np.float64)
        detail[number] = gradient.reshape(columns, width).sum(axis=1)
    return np.sqrt(detail / (height * width))


def _gradient(result: Image, window: Window) -> Pixels:
    """Differences of brightness to the pixels on the right and below; 0 at the picture's end."""
    beyond = Window(window.top, window.left, window.height + 1, window.width + 1)
    luma: Pixels = as_float(result.pixels[beyond.rows, beyond.columns]) @ LUMA_WEIGHTS
    if result.alpha is not None:
        luma *= as_float(result.alpha[beyond.rows, beyond.columns])
    gradient: Pixels = np.zeros((window.height, window.width), np.float32)
    across = np.abs(np.diff(luma, axis=1))[: window.height]
    down = np.abs(np.diff(luma, axis=0))[:, : window.width]
    gradient[:, : across.shape[1]] += across
    gradient[: down.shape[0]] += down
    return gradient


def _window_sums(cells: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """The sum of the cells in each window of `height` x `width` cells."""
    totals = np.pad(cells, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    down = totals[height:] - totals[:-height]
    sums: NDArray[np.float64] = down[:, width:] - down[:, :-width]
    return sums
