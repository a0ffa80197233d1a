"""Contact sheets, and text that is broken into lines."""

from __future__ import annotations

import numpy as np
import pytest

from dmsr_cli.images import Image
from dmsr_cli.visual.contact_sheet import LEAST_CELL_WIDTH, SheetCell, contact_sheet
from dmsr_cli.visual.layout import DIVIDER
from dmsr_cli.visual.text import paragraph, text_picture


def cell(name: str, level: int, size: tuple[int, int], facts: str = "1.0 s") -> SheetCell:
    return SheetCell(name, facts, Image(np.full((*size, 3), level, np.uint8)))


def cells(count: int, size: tuple[int, int]) -> list[SheetCell]:
    return [cell(f"model {number}", 10 * number, size) for number in range(count)]


def places(sheet: np.ndarray, count: int) -> list[tuple[int, ...]]:
    """Top, left, height and width of each picture."""
    found = []
    for number in range(count):
        # Text has every grey, but no large area of one.
        rows, columns = np.nonzero((sheet == 10 * number).all(axis=2))
        top, left = int(np.median(rows)), int(np.median(columns))
        row, column = sheet[top, :, 0] == 10 * number, sheet[:, left, 0] == 10 * number
        found.append((_start(column, top), _start(row, left), column.sum(), row.sum()))
    return found


def _start(same: np.ndarray, within: int) -> int:
    others = np.flatnonzero(~same[:within])
    return int(others[-1]) + 1 if len(others) else 0


@pytest.mark.parametrize(
    ("count", "size", "columns"),
    [
        (4, (300, 300), 2),
        (3, (300, 700), 1),
        (3, (700, 300), 3),
        (6, (300, 300), 3),
        (5, (560, 220), 5),
    ],
)
def test_a_sheet_is_nearly_square(count: int, size: tuple[int, int], columns: int) -> None:
    sheet = contact_sheet(cells(count, size), *size).pixels
    found = places(sheet, count)
    tops, lefts = {place[0] for place in found}, {place[1] for place in found}
    assert len(lefts) == columns
    assert len(tops) == -(-count // columns)
    assert found == sorted(found)
    assert sheet.shape[1] == columns * (size[1] + DIVIDER) + DIVIDER


def test_small_pictures_are_enlarged_and_have_room_for_words() -> None:
    sheet = contact_sheet(cells(3, (10, 2)), 10, 2).pixels
    assert {place[2] for place in places(sheet, 3)} == {250}
    assert sheet.shape[1] >= 2 * LEAST_CELL_WIDTH


def test_a_cell_without_a_picture_says_why() -> None:
    why = "the memory does not suffice, " * 20
    failed = SheetCell("broken", why, None)
    sheet = contact_sheet([cell("input", 90, (50, 50)), failed], 50, 50).pixels
    plain = contact_sheet([cell("input", 90, (50, 50)), failed._replace(facts="")], 50, 50).pixels
    assert (sheet < 128).sum() > (plain < 128).sum()
    assert (sheet[-DIVIDER:] == 255).all()


def test_a_sheet_is_of_the_type_of_its_pictures() -> None:
    pixels = np.full((40, 40, 3), 30000, np.uint16)
    sheet = contact_sheet([SheetCell("a", "b", Image(pixels, grey=True, depth=16))], 40, 40)
    assert (sheet.pixels.dtype, sheet.grey, sheet.depth) == (np.uint16, True, 16)
    assert (sheet.pixels == 30000).any()
    assert sheet.pixels.max() == 65535


@pytest.mark.parametrize("width", [1, 40, 90, 400])
@pytest.mark.parametrize(
    "text", ["", "a few plain words", "averyverylongname.safetensors", "W " * 9]
)
def test_lines_are_as_wide_as_they_may_be(text: str, width: int) -> None:
    picture = paragraph(text, width)
    assert picture.shape[1] == width
    count = len(picture) // len(text_picture("x"))
    assert len(picture) == count * len(text_picture("x"))
    if width == 400:
        assert count == 1
        line = text_picture(text.strip())
        np.testing.assert_array_equal(picture[:, : line.shape[1]], line)
    elif width == 90:
        assert count == {"": 1, "a few plain words": 2}.get(text, count)
        assert count > 1 or not text


def test_no_letter_is_lost() -> None:
    """Whatever the width, there is as much ink."""
    text = "averyverylongname.safetensors"
    ink = [(1 - paragraph(text, width)).sum() for width in (60, 100, 400)]
    assert ink == pytest.approx([ink[0]] * 3, rel=0.02)
