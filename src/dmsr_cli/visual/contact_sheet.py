"""A contact sheet: what several networks made of one picture, in labelled cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dmsr_cli.images import Image, Samples
from dmsr_cli.visual.comparison import magnified
from dmsr_cli.visual.layout import DIVIDER, Pixels
from dmsr_cli.visual.painting import put, white_canvas
from dmsr_cli.visual.text import paragraph

SHOWN_SIDE = 256
"""Smaller pictures are shown with their pixels enlarged, up to about this."""
LEAST_CELL_WIDTH = 220
"""Room for the words, whatever the pictures are like."""
SPACE_BELOW_WORDS = 4


class SheetCell(NamedTuple):
    """One picture of a sheet, or why there is none."""

    name: str
    """One line of text, as is the next."""
    facts: str
    picture: Image | None
    """Shown whole: the pixels, nothing else of it."""


def contact_sheet(cells: Sequence[SheetCell], height: int, width: int) -> Image:
    """Cells from left to right and from top to bottom, each with its words above its picture.

    The sheet is roughly as wide as high. A cell without a picture has its facts in its place.

    Args:
        cells: at least one has a picture; all pictures are of one size and type.
        height: of each picture.
        width: the same.

    Returns:
        A picture on white, else like the first of the cells'.
    """
    times = max(1, SHOWN_SIDE // max(height, width))
    wide = max(times * width, LEAST_CELL_WIDTH)
    words = [_words(cell, wide) for cell in cells]
    above = max(len(text) for text, cell in zip(words, cells, strict=True) if cell.picture)
    tall = max(above + times * height, *(len(text) for text in words))
    columns = _columns(len(cells), tall + DIVIDER, wide + DIVIDER)
    rows = math.ceil(len(cells) / columns)
    first = next(cell.picture for cell in cells if cell.picture)
    size = rows * (tall + DIVIDER) + DIVIDER, columns * (wide + DIVIDER) + DIVIDER
    sheet = white_canvas(*size, first)
    for number, (cell, text) in enumerate(zip(cells, words, strict=True)):
        top = DIVIDER + number // columns * (tall + DIVIDER)
        left = DIVIDER + number % columns * (wide + DIVIDER)
        put(sheet, text, top, left)
        if cell.picture is not None:
            _show(sheet[top + above :, left:], cell.picture.pixels, times)
    return Image(sheet, None, first.grey, first.icc_profile, depth=first.depth)


def _words(cell: SheetCell, width: int) -> Pixels:
    words = np.concatenate([paragraph(cell.name, width), paragraph(cell.facts, width)])
    return np.pad(words, ((0, SPACE_BELOW_WORDS), (0, 0), (0, 0)), constant_values=1)


def _show(place: Samples, pixels: Samples, times: int) -> None:
    height, width = pixels.shape[:2]
    place[: times * height, : times * width] = magnified(pixels, times)


def _columns(count: int, height: int, width: int) -> int:
    """How many cells of this size in a row make a sheet that is nearly square and nearly full."""

    def cost(columns: int) -> float:
        rows = math.ceil(count / columns)
        empty = 1 - count / (rows * columns)
        return abs(math.log(columns * width / (rows * height))) + empty

    return min(range(1, count + 1), key=cost)
