"""Cut a plane into pieces and put their results together; knows nothing of models.

Two ways to cut. `cut` makes pieces that do not overlap, for what is exact once each piece is read
with enough surroundings. `blend_tiles` makes overlapping tiles, for what is only nearly so: their
blend weights sum to one at every pixel by construction, and that is asserted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


class Box(NamedTuple):
    """A rectangle of a plane, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        """Index of its rows."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """Index of its columns."""
        return slice(self.left, self.left + self.width)

    def grown(self, margin: int, height: int, width: int) -> Box:
        """With `margin` more pixels on each side, as far as a plane of that size goes."""
        top, left = max(0, self.top - margin), max(0, self.left - margin)
        bottom = min(height, self.top + self.height + margin)
        right = min(width, self.left + self.width + margin)
        return Box(top, left, bottom - top, right - left)

    def inside(self, other: Box) -> Box:
        """The same rectangle, counted from the corner of `other`."""
        return Box(self.top - other.top, self.left - other.left, self.height, self.width)

    def scaled(self, factor: int) -> Box:
        """The same rectangle of a plane that is `factor` times larger."""
        return Box(*(factor * value for value in self))

    def transposed(self) -> Box:
        """The same rectangle of the plane with rows and columns exchanged."""
        return Box(self.left, self.top, self.width, self.height)


def cut(height: int, width: int, pixels: int) -> list[Box]:
    """Cut a plane into nearly equal, nearly square pieces of about `pixels` pixels at the most."""
    side = max(1, math.isqrt(pixels))
    columns = _shares(width, max(side, pixels // height))
    rows = _shares(height, max(1, pixels // (columns[0][1] - columns[0][0])))
    return [
        Box(top, left, bottom - top, right - left)
        for top, bottom in rows
        for left, right in columns
    ]


def _shares(length: int, most: int) -> list[tuple[int, int]]:
    """Start and stop of nearly equal shares of a length, each `most` long at the most."""
    count = -(-length // most)
    edges = [-(-length * index // count) for index in range(count + 1)]
    return list(itertools.pairwise(edges))


def spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Start and stop of the tiles along one axis: as few as cover it, of equal length.

    Args:
        length: pixels to cover, at least 1.
        tile: pixels of a tile, at least 1.
        overlap: pixels that neighbours share at least; less than `tile`.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap must be from 0 to {tile - 1}, not {overlap}")
    if length <= tile:
        return [(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    starts = [round(index * (length - tile) / (count - 1)) for index in range(count)]
    return [(start, start + tile) for start in starts]


def blend_weights(pieces: list[tuple[int, int]], length: int) -> list[Plane]:
    """One weight for each pixel of each piece: ramps in the overlaps, one elsewhere.

    A ramp takes the middle eighth of an overlap. The rest of a tile's rim counts for nothing: it
    was made without its surroundings.

    Returns:
        float32 arrays as long as the pieces; at every pixel they sum to one.
    """
    raw = []
    for index, (start, stop) in enumerate(pieces):
        position = np.arange(start, stop, dtype=np.float64) + 0.5
        weight = np.ones(stop - start)
        if index > 0:
            shared = pieces[index - 1][1] - start
            if shared > 0:
                weight = np.minimum(weight, _ramp((position - start) / shared))
        if index < len(pieces) - 1:
            shared = stop - pieces[index + 1][0]
            if shared > 0:
                weight = np.minimum(weight, _ramp((stop - position) / shared))
        raw.append(weight)
    total = np.zeros(length)
    for (start, stop), weight in zip(pieces, raw, strict=True):
        total[start:stop] += weight
    assert (total > 0).all(), "a pixel is covered by no tile"
    return [
        (weight / total[start:stop]).astype(np.float32)
        for (start, stop), weight in zip(pieces, raw, strict=True)
    ]


def _ramp(depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weight at a depth into the overlap, 0 to 1: zero up to 7/16 of it, one from 9/16."""
    return np.clip(8 * depth - 3.5, 0, 1)


def blend_tiles(
    height: int,
    width: int,
    tile: int,
    overlap: int,
    scale: int,
    restore: Callable[[Box], Plane],
    emit: Callable[[Box, Plane], None],
    on_progress: Callable[[float], None] = lambda done: None,
) -> None:
    """Overlap-add of `restore(box)` over all tiles, handed on as soon as it is complete.

    What is in memory at a time is a band of tiles across the shorter side of the plane.

    Args:
        height: of the plane that is cut, in pixels; `width` likewise.
        width: see `height`.
        tile: largest side of a tile in pixels.
        overlap: pixels that neighbouring tiles share at least.
        scale: how much larger results are than their boxes.
        restore: box to float32 array (box.height * scale, box.width * scale, channels).
        emit: is given each part of the result once, with its box in pixels of the result; the
            array is float32, may be changed, and does not stay valid.
        on_progress: called after each tile with the share that is done, up to 1.
    """
    if width > height:
        blend_tiles(
            *(width, height, tile, overlap, scale),
            lambda box: restore(box.transposed()).swapaxes(0, 1),
            lambda box, part: emit(box.transposed(), part.swapaxes(0, 1)),
            on_progress,
        )
        return
    rows, columns = spans(height, tile, overlap), spans(width, tile, overlap)
    row_weights = _scaled_weights(rows, height, scale)
    column_weights = _scaled_weights(columns, width, scale)
    open_rows: Plane | None = None  # the sums of the rows that the next band adds to
    for band, (top, bottom) in enumerate(rows):
        sums: Plane | None = None
        for number, (left, right) in enumerate(columns):
            piece = restore(Box(top, left, bottom - top, right - left))
            if sums is None:
                sums = np.zeros(((bottom - top) * scale, width * scale, piece.shape[2]), np.float32)
            weight = row_weights[band][:, None, None] * column_weights[number][None, :, None]
            sums[:, left * scale : right * scale] += piece * weight
            on_progress((band * len(columns) + number + 1) / (len(rows) * len(columns)))
        assert sums is not None, "there is always a tile"
        if open_rows is not None:
            sums[: len(open_rows)] += open_rows
        complete = (bottom if band == len(rows) - 1 else rows[band + 1][0]) - top
        emit(Box(top * scale, 0, complete * scale, width * scale), sums[: complete * scale])
        open_rows = sums[complete * scale :].copy()


def _scaled_weights(pieces: list[tuple[int, int]], length: int, scale: int) -> list[Plane]:
    scaled = [(start * scale, stop * scale) for start, stop in pieces]
    return blend_weights(scaled, length * scale)
