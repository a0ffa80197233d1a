"""Parts of a picture and of its result, painted into larger pictures a strip at a time.

The canvases have the type of the result's pixels. What is transparent is shown over a checkerboard.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from dmsr_cli.images import Image, Samples, bleed_colour
from dmsr_cli.images.planes import as_float, strips
from dmsr_cli.visual.layout import Pixels

SQUARE = 8
"""Side of the squares of the checkerboard, in pixels of the result."""
DARK_SQUARE = np.float32(0.8)
"""The others are white."""


class Window(NamedTuple):
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        """From top to bottom."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """From left to right."""
        return slice(self.left, self.left + self.width)


def whole(image: Image) -> Window:
    """The window that shows all of a picture."""
    return Window(0, 0, image.height, image.width)


def white_canvas(height: int, width: int, like: Image) -> Samples:
    """White pixels (height, width, 3) of the type that another picture has."""
    dtype = like.pixels.dtype
    return np.full((height, width, 3), _white(dtype), dtype)


def put(canvas: Samples, picture: Pixels, top: int, left: int) -> None:
    """Paint float pixels in [0, 1]; what is beyond the canvas is cut off."""
    place = canvas[top : top + picture.shape[0], left : left + picture.shape[1]]
    place[:] = _stored(picture[: place.shape[0], : place.shape[1]], canvas.dtype)


def paint_result(canvas: Samples, result: Image, window: Window) -> None:
    """Paint a window of a result into a canvas of the window's size."""
    canvas[:] = result.pixels[window.rows, window.columns]
    if result.alpha is None or not canvas.size:
        return
    alpha = result.alpha[window.rows, window.columns]
    white = _white(canvas.dtype)
    for rows in strips(window.height, window.width):
        colours = canvas[rows].astype(np.float32) / np.float32(white)
        _lay_on_squares(colours, as_float(alpha[rows]), window.top + rows.start, window.left)
        canvas[rows] = _stored(colours, canvas.dtype)


def paint_enlarged(canvas: Samples, source: Image, window: Window, height: int, width: int) -> None:
    """Paint what a window of the result had been before, enlarged plainly (bicubic).

    Args:
        canvas: of the window's size.
        source: the picture, float32 in [0, 1].
        window: in pixels of the result.
        height: of the whole result.
        width: the same.
    """
    if not canvas.size:
        return
    pixels = source.pixels if source.alpha is None else bleed_colour(source.pixels, source.alpha)
    planes = [_plane(pixels[..., colour]) for colour in range(3)]
    opacity = None if source.alpha is None else _plane(as_float(source.alpha))
    down, across = source.height / height, source.width / width
    for rows in strips(window.height, window.width):
        top = (window.top + rows.start) * down
        bottom = min((window.top + rows.stop) * down, source.height)
        right = min((window.left + window.width) * across, source.width)
        box = (window.left * across, top, right, bottom)
        size = (window.width, rows.stop - rows.start)
        # Pillow sees beyond the box: strips leave no seam.
        strip = np.stack([_resized(plane, size, box) for plane in planes], axis=2)
        if opacity is not None:
            shown = _resized(opacity, size, box)
            _lay_on_squares(strip, shown, window.top + rows.start, window.left)
        canvas[rows] = _stored(strip, canvas.dtype)


def _plane(values: NDArray[np.float32]) -> PillowImage.Image:
    return PillowImage.fromarray(np.ascontiguousarray(values, np.float32))


def _resized(
    plane: PillowImage.Image, size: tuple[int, int], box: tuple[float, float, float, float]
) -> Pixels:
    resized = plane.resize(size, PillowImage.Resampling.BICUBIC, box)
    return np.asarray(resized, np.float32).clip(0, 1)


def _lay_on_squares(colours: Pixels, opacity: Pixels, top: int, left: int) -> None:
    """Show the checkerboard through `colours` (h, w, 3), which lie at (top, left) of a result."""
    height, width = opacity.shape
    rows = (np.arange(top, top + height) // SQUARE)[:, None]
    columns = np.arange(left, left + width) // SQUARE
    board = np.where((rows + columns) % 2 == 0, np.float32(1), DARK_SQUARE)
    colours *= opacity[..., None]
    colours += (board * (1 - opacity))[..., None]


def _white(dtype: np.dtype[np.generic]) -> int:
    return 1 if dtype.kind == "f" else int(np.iinfo(dtype.name).max)


def _stored(colours: Pixels, dtype: np.dtype[np.generic]) -> Samples:
    """Float colours in [0, 1] as numbers of a type."""
    return colours if dtype.kind == "f" else np.rint(colours * _white(dtype)).astype(dtype)
