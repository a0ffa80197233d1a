"""Keeps the colours of a picture: its local means stay, whatever the network did to them.

A network moves colours that it has seen too little of, saturated ones above all, by several levels
over whole areas. What it is asked for, detail, changes no mean of some hundred pixels; where such a
mean changed, it is moved back. The picture is cut into cells, the means of a cell are compared with
those of the LR picture, and what lies beyond a tolerance is taken off the result, interpolated
between the middles of the cells.

Two things bound this. The mean of a noisy picture is noisy itself, so nothing is learned from it
where noise is strong. And noise that was clipped has moved the mean near black and white: there a
result that lies nearer to the bound is right, as far as the clipping explains it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dmsr_cli.images.picture import Samples

Pixels = NDArray[np.float32]
Means = NDArray[np.float32]
"""(rows, columns, 3): for each cell and channel."""

CELL = 16
"""Side of a cell in LR pixels. Across the edges of smaller ones blur moves too much (at 8, PSNR
falls); larger ones do not hold the means of blocks that lie across them."""
TOLERANCE = 0.25 / 255
"""How far apart means may stay."""
SWEEPS = 6
"""How often means are compared at the most: interpolation smooths what is taken off, and clipping
undoes some of it."""
FADE = (20 / 255, 35 / 255)
"""Noise levels from which on the tolerance grows, and has no end."""
TEXTURE = 8 / 255
"""Up to this level, what is estimated may be texture of a picture that has no noise."""
CLIPPING = 0.8
"""Clipping noise at a share p of the pixels moves their mean by 0.8 p times its level where the
true value is the bound, and by less where it is not."""


def keep_colours(result: Samples, pixels: Pixels, noise_map: Pixels, *, grey: bool = False) -> None:
    """Bring the local means of a restored picture back to those of its LR picture, in place.

    Args:
        result: (height * scale, width * scale, 3), float32 in [0, 1], uint8 or uint16.
        pixels: the LR picture (height, width, 3).
        noise_map: estimated noise, of the same shape.
        grey: whether the three channels of the result are equal; they stay so.
    """
    grid = _Grid(_edges(pixels.shape[0]), _edges(pixels.shape[1]))
    levels = np.sqrt(_means(grid, lambda rows: np.square(noise_map[rows])))
    trust = np.interp(np.sqrt(np.mean(np.square(levels))), FADE, (1, 0))
    if trust == 0:
        return
    target = _means(grid, lambda rows: pixels[rows].clip(0, 1))
    # Noise is everywhere, but texture that is taken for it is not.
    clipping = CLIPPING * math.sqrt(max(0, np.quantile(levels, 0.25) ** 2 - TEXTURE**2))
    below, above = (
        TOLERANCE / trust + clipping * _shares_of_noise(_means(grid, clipped))
        for clipped in (lambda rows: pixels[rows] <= 0, lambda rows: pixels[rows] >= 1)
    )
    corrected = _Corrected(result, grid.scaled(result.shape[0] // pixels.shape[0]))
    for _ in range(SWEEPS):
        drift = _means(corrected.grid, corrected.strip) - target
        excess = drift - drift.clip(-below, above)
        corrected.take_off(excess.mean(axis=2, keepdims=True) if grey else excess)
        if np.abs(excess).max() <= TOLERANCE:
            break
    corrected.write()


def is_neutral(pixels: Pixels) -> bool:
    """Whether all pixels (height, width, 3) are grey."""
    return bool((pixels[..., :1] == pixels[..., 1:]).all())


class _Grid(NamedTuple):
    """Cells of nearly equal size: where each begins, and where the last ends."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    def scaled(self, factor: int) -> _Grid:
        """The same cells of a picture that is `factor` times larger."""
        return _Grid(self.rows * factor, self.columns * factor)

    def strips(self) -> list[slice]:
        """The rows of pixels that each row of cells has."""
        return [slice(*ends) for ends in itertools.pairwise(self.rows.tolist())]


class _Corrected:
    """A restored picture less a smooth correction.

    It is written only in the end: until then nothing is rounded, and a row of cells is all that
    is in memory as float.
    """

    def __init__(self, result: Samples, grid: _Grid) -> None:
        self.result = result
        self.grid = grid
        self.white = 1 if result.dtype == np.float32 else np.iinfo(result.dtype).max
        self._amounts = np.zeros((len(grid.rows) - 1, len(grid.columns) - 1, 3), np.float32)
        self._wide = self._amounts

    def take_off(self, amounts: Means) -> None:
        """Subtract an amount from each cell, on top of what was."""
        self._amounts = self._amounts + amounts
        across = _interpolated(self._amounts.swapaxes(0, 1), self.grid.columns, slice(None))
        self._wide = across.swapaxes(0, 1)

    def strip(self, rows: slice) -> Pixels:
        """Corrected rows, float32 in [0, 1]."""
        strip: Pixels = self.result[rows].astype(np.float32)
        strip /= self.white
        if self._amounts.any():
            strip -= _interpolated(self._wide, self.grid.rows, rows)
            strip.clip(0, 1, out=strip)
        return strip

    def write(self) -> None:
        """Make the result what `strip` gives."""
        if not self._amounts.any():
            return
        for rows in self.grid.strips():
            strip = self.strip(rows)
            self.result[rows] = strip if self.white == 1 else np.rint(strip * self.white)


def _edges(length: int) -> NDArray[np.int64]:
    """Where the cells along a side begin, and its end."""
    count = max(1, round(length / CELL))
    return np.arange(count + 1) * length // count


def _interpolated(values: Pixels, edges: NDArray[np.int64], pixels: slice) -> Pixels:
    """Values at the middles of cells, linearly interpolated along the first axis at pixels of it.

    They are constant beyond the outermost middles.
    """
    start, stop, _ = pixels.indices(int(edges[-1]))
    # Of a tall picture this is called for each of thousands of strips: only the cells around it.
    first = max(0, int(np.searchsorted(edges, start, "right")) - 2)
    last = int(np.searchsorted(edges, stop)) + 1
    edges, values = edges[first : last + 1], values[first:last]
    middles = (edges[1:] + edges[:-1]) / 2
    places = np.interp(np.arange(start, stop) + 0.5, middles, first + np.arange(len(middles)))
    lower = places.astype(np.int64)
    share = (places - lower).astype(np.float32)[:, None, None]
    lower -= first
    upper = np.minimum(lower + 1, len(middles) - 1)
    interpolated: Pixels = values[upper]
    below = values[lower]
    interpolated -= below
    interpolated *= share
    interpolated += below
    return interpolated


def _means(grid: _Grid, strip_of: Callable[[slice], NDArray[Any]]) -> Means:
    """Means of the cells of a picture that is given row of cells by row of cells."""
    widths = np.diff(grid.columns)[:, None]
    means = []
    for rows in grid.strips():
        columns = strip_of(rows).mean(axis=0, dtype=np.float32)
        means.append(np.add.reduceat(columns, grid.columns[:-1], axis=0) / widths)
    return np.stack(means)


def _shares_of_noise(clipped: Means) -> Means:
    """Shares of clipped pixels that noise can have made: it leaves as many unclipped, or more."""
    return np.minimum(clipped, 1 - clipped)
