"""Cut a plane into overlapping tiles and blend their results; knows nothing of models.

The blend weights of all tiles sum to one at every pixel by construction, and that is asserted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

    A ramp takes the middle half of an overlap. The outer quarters count for nothing: what a tile
    shows near its rim was made without its surroundings.

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
    """Weight at a depth into the overlap, 0 to 1: zero up to a quarter, one from three quarters."""
    return np.clip(2 * depth - 0.5, 0, 1)


def blend_tiles(
    height: int,
    width: int,
    tile: int,
    overlap: int,
    scale: int,
    restore: Callable[[Box], Plane],
    on_progress: Callable[[float], None] = lambda done: None,
) -> Plane:
    """Overlap-add of `restore(box)` over all tiles.

    Args:
        height: of the plane that is cut, in pixels; `width` likewise.
        width: see `height`.
        tile: largest side of a tile in pixels.
        overlap: pixels that neighbouring tiles share at least.
        scale: how much larger results are than their boxes.
        restore: box to float32 array (box.height * scale, box.width * scale, channels).
        on_progress: called after each tile with the share that is done, up to 1.

    Returns:
        float32 (height * scale, width * scale, channels).
    """
    rows, columns = spans(height, tile, overlap), spans(width, tile, overlap)
    result: Plane | None = None
    for number, (box, weight) in enumerate(_tiles(rows, columns, height, width, scale), start=1):
        piece = restore(box)
        if result is None:
            result = np.zeros((height * scale, width * scale, piece.shape[2]), np.float32)
        top, left = box.top * scale, box.left * scale
        result[top : top + piece.shape[0], left : left + piece.shape[1]] += piece * weight
        on_progress(number / (len(rows) * len(columns)))
    assert result is not None, "there is always a tile"
    return result


def _tiles(
    rows: list[tuple[int, int]],
    columns: list[tuple[int, int]],
    height: int,
    width: int,
    scale: int,
) -> Iterator[tuple[Box, Plane]]:
    """Boxes and their blend weights (box.height * scale, box.width * scale, 1)."""
    row_weights = _scaled_weights(rows, height, scale)
    column_weights = _scaled_weights(columns, width, scale)
    for (top, bottom), row_weight in zip(rows, row_weights, strict=True):
        for (left, right), column_weight in zip(columns, column_weights, strict=True):
            weight = row_weight[:, None, None] * column_weight[None, :, None]
            yield Box(top, left, bottom - top, right - left), weight


def _scaled_weights(pieces: list[tuple[int, int]], length: int, scale: int) -> list[Plane]:
    scaled = [(start * scale, stop * scale) for start, stop in pieces]
    return blend_weights(scaled, length * scale)
