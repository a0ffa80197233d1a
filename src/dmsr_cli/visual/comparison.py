"""A result beside its input, in one picture."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from dmsr_cli.images import Image, Samples
from dmsr_cli.visual.layout import DIVIDER, Pixels
from dmsr_cli.visual.painting import (
    Window,
    paint_enlarged,
    paint_result,
    put,
    white_canvas,
    whole,
)
from dmsr_cli.visual.telling import telling_window
from dmsr_cli.visual.text import TEXT_HEIGHT, text_picture

NAMES = ("before", "after")
LARGEST_TEXT = 96
"""Labels grow with the picture up to this font size, so that they can be read when all is seen."""
SPACE_AROUND_LABELS = 6
LINE = 3
"""Width of the line between the halves of a split picture: white between black."""
LEAST_MAGNIFICATION = 3
LONGEST_CROP = 320
"""Pixels of the result on the longer side of a crop: more would not look enlarged."""
SHOWN_SIDE = 384
"""A smaller result is shown with its pixels enlarged, up to about this."""
LONGEST_SHAPE = 4
"""A crop is at most so many times as long as it is wide, where the picture allows it."""


def side_by_side_comparison(before: Image, after: Image) -> Image:
    """The input, enlarged plainly (bicubic), on the left, and the result on the right.

    Args:
        before: the input, float32.
        after: the result; float32, uint8 or uint16.

    Returns:
        (H, 2 * W + 4, 3) of the type of `after`, with a white line between. Here and in all other
        comparisons, what is transparent is shown over a checkerboard, and profile, greyness and
        depth are those of `after`.
    """
    height, width = after.height, after.width
    both = white_canvas(height, 2 * width + DIVIDER, after)
    paint_enlarged(both[:, :width], before, whole(after), height, width)
    paint_result(both[:, width + DIVIDER :], after, whole(after))
    return _like(after, both)


def split_comparison(before: Image, after: Image) -> Image:
    """One picture of the result's size: its left half as it was, its right half as it is now.

    A thin line is between them. Each half is labelled, if there is room.
    """
    height, width = after.height, after.width
    middle = width // 2
    both = white_canvas(height, width, after)
    left, right = Window(0, 0, height, middle), Window(0, middle, height, width - middle)
    paint_enlarged(both[:, :middle], before, left, height, width)
    paint_result(both[:, middle:], after, right)
    labels = [_label(name, math.isqrt(height * width)) for name in NAMES]
    space = max(label.shape[1] for label in labels) + 2 * SPACE_AROUND_LABELS + LINE
    if space <= middle and 2 * (labels[0].shape[0] + SPACE_AROUND_LABELS) <= height:
        from_right = width - SPACE_AROUND_LABELS - labels[1].shape[1]
        put(both, labels[0], SPACE_AROUND_LABELS, SPACE_AROUND_LABELS)
        put(both, labels[1], SPACE_AROUND_LABELS, from_right)
    if width >= 4 * LINE:
        line = np.array([0, 1, 0], np.float32)[None, :, None].repeat(height, 0)
        put(both, line.repeat(3, axis=2), 0, middle - LINE // 2)
    return _like(after, both)


def zoom_comparison(before: Image, after: Image) -> Image:
    """The result with a frame around the telling window, and that window before and after.

    The two crops, whose pixels are enlarged at least three times, stand beside an upright picture
    and below any other, labelled, if there is room. They are half as high and half as wide as it,
    at the least. A small result is enlarged, too.
    """
    height, width = after.height, after.width
    shown = max(1, SHOWN_SIDE // max(height, width))
    texts = [_label(name, round(shown * math.sqrt(height * width))) for name in NAMES]
    crop, times = _crop_size(height, width, shown, texts[0].shape[0])
    if times * crop[1] < max(text.shape[1] for text in texts):
        texts = [text[:0] for text in texts]
        crop, times = _crop_size(height, width, shown, 0)
    window = telling_window(after, *crop)
    panel = texts[0].shape[0] + times * crop[0], times * crop[1]
    tall, wide = shown * height, shown * width
    if height > width:
        places = [(0, wide + DIVIDER), (panel[0] + DIVIDER, wide + DIVIDER)]
    else:
        places = [(tall + DIVIDER, 0), (tall + DIVIDER, panel[1] + DIVIDER)]
    ends = np.array([(tall, wide), *np.add(places, panel)]).max(axis=0)
    canvas = white_canvas(int(ends[0]), int(ends[1]), after)
    _paint_whole(canvas[:tall, :wide], after, shown)
    _frame(canvas[:tall, :wide], Window(*(shown * side for side in window)))
    crops = [white_canvas(*crop, after) for _ in NAMES]
    paint_enlarged(crops[0], before, window, height, width)
    paint_result(crops[1], after, window)
    for (top, left), text, pixels in zip(places, texts, crops, strict=True):
        put(canvas, text, top, left)
        area = Window(top + text.shape[0], left, times * crop[0], times * crop[1])
        canvas[area.rows, area.columns] = magnified(pixels, times)
    return _like(after, canvas)


COMPARISONS: dict[str, Callable[[Image, Image], Image]] = {
    "side-by-side": side_by_side_comparison,
    "split": split_comparison,
    "zoom": zoom_comparison,
}
"""By the names that the command line has for them."""


def magnified(pixels: Samples, times: int) -> Samples:
    """Each pixel as a square of `times` x `times`."""
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def _crop_size(
    height: int, width: int, shown: int, text_height: int
) -> tuple[tuple[int, int], int]:
    """Height and width of the crops, in pixels of the result, and how much they are magnified."""
    is_upright = height > width
    long, short = (height, width) if is_upright else (width, height)
    panel = (shown * long - DIVIDER) // 2 - (text_height if is_upright else 0)
    times = max(LEAST_MAGNIFICATION, 2 * shown, math.ceil(panel / LONGEST_CROP))
    along = max(1, min(long, panel // times))
    across = max(1, min(short, max(shown * short // 2 // times, along // LONGEST_SHAPE)))
    return ((along, across) if is_upright else (across, along)), times


def _paint_whole(canvas: Samples, after: Image, shown: int) -> None:
    if shown == 1:
        paint_result(canvas, after, whole(after))
        return
    small = white_canvas(after.height, after.width, after)
    paint_result(small, after, whole(after))
    canvas[:] = magnified(small, shown)


def _frame(canvas: Samples, window: Window) -> None:
    """White, and black around it, so that it is seen on anything; what it frames stays."""
    height, width = canvas.shape[:2]
    thickness = max(1, math.isqrt(height * width) // 250)
    kept = canvas[window.rows, window.columns].copy()
    for brightness, reach in ((0, 2 * thickness), (1, thickness)):
        top, left = max(window.top - reach, 0), max(window.left - reach, 0)
        bottom = min(window.top + window.height + reach, height)
        right = min(window.left + window.width + reach, width)
        colour = np.full((1, 1, 3), brightness, np.float32)
        put(canvas, np.broadcast_to(colour, (bottom - top, right - left, 3)), top, left)
    canvas[window.rows, window.columns] = kept


def _label(text: str, side: int) -> Pixels:
    """Text with a white border, for a picture whose sides are about so long."""
    size = min(max(side // 40, TEXT_HEIGHT), LARGEST_TEXT)
    space = ((0, size // 3), (size // 3, size // 3), (0, 0))
    return np.pad(text_picture(text, size), space, constant_values=1)


def _like(after: Image, pixels: Samples) -> Image:
    """A picture with the colours of a result and nothing else of it."""
    return dataclasses.replace(
        after, pixels=pixels, alpha=None, exif=None, xmp=None, dpi=None, warnings=()
    )
