"""The display matrix of a clip: how its pictures are turned before they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dmsr_cli.images import FloatArray

if TYPE_CHECKING:
    from av import VideoFrame as Picture


@dataclass(frozen=True)
class Rotation:
    """Quarter turns and mirrors: sides are swapped first."""

    swaps_sides: bool = False
    mirrors_columns: bool = False
    mirrors_rows: bool = False

    def upright(self, pixels: FloatArray) -> FloatArray:
        """A picture, height x width x 3, as it is shown; contiguous."""
        if self.swaps_sides:
            pixels = pixels.transpose(1, 0, 2)
        columns, rows = -1 if self.mirrors_columns else 1, -1 if self.mirrors_rows else 1
        return np.ascontiguousarray(pixels[::rows, ::columns])


def rotation_of(picture: Picture) -> Rotation | None:
    """The rotation by the display matrix of a decoded picture; None if not by quarter turns."""
    matrix: Any = picture.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Rotation()
    # Where one column to the right, and one row down, goes on the screen.
    right_x, right_y, _, down_x, down_y = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if right_y == down_x == 0 and right_x and down_y:
        return Rotation(False, right_x < 0, down_y < 0)
    if right_x == down_y == 0 and right_y and down_x:
        return Rotation(True, down_x < 0, right_y < 0)
    return None
