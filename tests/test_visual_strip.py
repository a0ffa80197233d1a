"""The strip of pictures that validations leave."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
from PIL import ImageDraw, ImageFont

from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.visual import StripRow, kernel_picture, validation_strip
from dmsr_cli.visual.layout import DIVIDER
from dmsr_cli.visual.strips import STRIP_COLUMNS
from dmsr_cli.visual.text import SPACE_ABOVE_TEXT, TEXT_HEIGHT, text_picture

SIDE, SCALE, TAPS = 128, 4, 15
CELL = SIDE + DIVIDER


def row(
    label: str = "width 1.3, noise 15: 27.41 dB",
    side: int = SIDE,
    true_width: float = 1.3,
    estimated_width: float = 2.6,
) -> StripRow:
    draw = np.random.default_rng(0)

    def pixels(length: int) -> np.ndarray:
        return draw.uniform(0.1, 0.9, (length, length, 3)).astype(np.float32)

    return StripRow(
        pixels(side // SCALE),
        pixels(side),
        pixels(side),
        kernel(true_width),
        kernel(estimated_width),
        label,
    )


def kernel(width: float) -> np.ndarray:
    return gaussian_kernel(width, TAPS)[0].numpy()


def cells_of(strip: np.ndarray, number: int = 0) -> list[np.ndarray]:
    """The five pictures of a row: the places where nothing but white is between them."""
    # From below: the last row ends at the divider that closes the strip.
    whole_rows = np.flatnonzero((strip[:, DIVIDER : DIVIDER + SIDE] < 0.95).any(axis=(1, 2)))
    starts = [place for place in whole_rows if set(range(place, place + SIDE)) <= {*whole_rows}]
    tops = [place for place in starts if place - 1 not in starts]
    line = strip[tops[number] : tops[number] + SIDE]
    return [line[:, DIVIDER + CELL * place : CELL * (place + 1)] for place in range(5)]


def test_pictures_stand_side_by_side() -> None:
    entry = row()
    strip = validation_strip([entry])
    assert strip.dtype == np.float32
    assert strip.shape[1] == DIVIDER + 5 * CELL
    assert strip.min() >= 0
    assert strip.max() <= 1
    lr, restored, hr, _, _ = cells_of(strip)
    np.testing.assert_array_equal(lr, entry.lr.repeat(SCALE, 0).repeat(SCALE, 1))
    np.testing.assert_array_equal(restored, entry.restored)
    np.testing.assert_array_equal(hr, entry.hr)


def test_dividers_are_white() -> None:
    strip = validation_strip([row(), row()])
    for place in range(6):
        left = CELL * place
        text_height = 60  # of names and label
        assert (strip[text_height : text_height + SIDE // 2, left : left + DIVIDER] == 1).all()
    assert (strip[-DIVIDER:] == 1).all()


def test_a_row_for_each_degradation_in_order() -> None:
    entries = [row(), row()._replace(hr=np.full((SIDE, SIDE, 3), 0.25, np.float32))]
    strip = validation_strip(entries)
    assert len(strip) > 2 * SIDE
    for number, entry in enumerate(entries):
        np.testing.assert_array_equal(cells_of(strip, number)[2], entry.hr)


def test_kernels_are_enlarged_by_whole_numbers_and_centred_on_black() -> None:
    *_, true, _ = cells_of(validation_strip([row()]))
    magnification, border = SIDE // TAPS, SIDE % TAPS // 2
    inner = true[border : SIDE - border, border : SIDE - border]
    assert inner.shape[0] == magnification * TAPS
    expected = np.cbrt(kernel(1.3) / kernel(1.3).max())
    np.testing.assert_allclose(inner[::magnification, ::magnification, 0], expected, atol=1e-6)
    np.testing.assert_array_equal(
        inner, inner[::magnification, ::magnification].repeat(magnification, 0).repeat(8, 1)
    )
    frame = true.copy()
    frame[border : SIDE - border, border : SIDE - border] = 0
    assert not frame.any()


def test_one_brightness_for_all_kernels() -> None:
    """The same kernel looks the same anywhere in the strip, and a wider one darker."""
    strip = validation_strip([row(true_width=0.5), row(true_width=2.6, estimated_width=0.2)])
    first, second = cells_of(strip, 0), cells_of(strip, 1)
    np.testing.assert_array_equal(first[4], second[3])
    peaks = [cell.max() for cell in (second[4], first[3], second[3])]
    widths = (0.2, 0.5, 2.6)
    assert peaks == pytest.approx(
        [float(np.cbrt(kernel(width).max())) for width in widths], rel=0.01
    )
    assert peaks[2] > 0.25  # still to be seen


def test_values_beyond_the_range_are_clipped_and_inputs_left_alone() -> None:
    entry = row()
    for pixels in (entry.lr, entry.restored, entry.hr):
        pixels[0, 0] = [-0.5, 1.5, 0.5]
    entry.estimated_kernel[0, 0] = -0.1
    before = [np.array(field) for field in entry[:5]]
    cells = cells_of(validation_strip([entry]))
    for cell in cells[:3]:
        np.testing.assert_array_equal(cell[0, 0], np.float32([0, 1, 0.5]))
    assert cells[4].min() == 0
    for field, copy in zip(entry, before, strict=False):
        np.testing.assert_array_equal(field, copy)


def test_labels_and_names_of_columns_are_written() -> None:
    strips = [validation_strip([row(label)]) for label in ("width 1.3", "width 2.6", "")]
    assert strips[0].shape == strips[1].shape
    different = np.flatnonzero((strips[0] != strips[1]).any(axis=(1, 2)))
    names_end = SPACE_ABOVE_TEXT + 2 * TEXT_HEIGHT
    assert names_end - TEXT_HEIGHT < different.min()
    assert different.max() < len(strips[0]) - SIDE - DIVIDER
    top = strips[2][: SPACE_ABOVE_TEXT + TEXT_HEIGHT]
    for place in range(5):
        name = top[:, DIVIDER + CELL * place : CELL * (place + 1)]
        assert name.min() < 0.3
        assert (name[:, :3] == 1).all()
        assert (name[:, -3:] == 1).all()


@pytest.mark.parametrize("side", [8, 12, 32, 100])
def test_small_pictures_leave_room_for_all_text(side: int) -> None:
    label = "width 1.3, noise 15: 27.41 dB, and far more words than pictures are wide"
    strip = validation_strip([row(label, side), row("short", side)])
    ink = strip.min(axis=(0, 2)) < 1
    assert not ink[:DIVIDER].any()
    widest = max(text_picture(label).shape[1], sum(text_picture(n).shape[1] for n in STRIP_COLUMNS))
    assert strip.shape[1] >= widest + 2 * DIVIDER
    assert not (strip[:, -2:] < 0.5).any()


@pytest.mark.parametrize("text", ["LR", "width 1.3, noise 15: 27.41 dB", "(Ägjpq|)", "j", "_f"])
def test_text_is_not_cut_off(text: str) -> None:
    """It has all the ink that the same text has on a canvas with room around it."""
    font = ImageFont.load_default(size=TEXT_HEIGHT)
    canvas = PIL.Image.new("L", (400, 100), 255)
    ImageDraw.Draw(canvas).text((50, 50), text, fill=0, font=font)
    written = text_picture(text)
    assert (255 - np.asarray(canvas, int)).sum() == np.rint(255 * (1 - written[..., 0])).sum()
    assert (written[: SPACE_ABOVE_TEXT - 2] == 1).all()


def test_no_kernel_at_all() -> None:
    nothing = np.zeros((TAPS, TAPS), np.float32)
    entry = row()._replace(true_kernel=nothing, estimated_kernel=nothing)
    assert np.isfinite(validation_strip([entry])).all()


def test_kernel_picture_is_as_it_was() -> None:
    picture = kernel_picture(kernel(1.3))
    assert picture.shape == (16 * TAPS, 16 * TAPS, 3)
    assert picture.dtype == np.float32
    expected = (kernel(1.3) / kernel(1.3).max()).clip(0, 1)
    np.testing.assert_array_equal(picture[8::16, 8::16, 1], expected)
    np.testing.assert_array_equal(picture, picture[::16, ::16].repeat(16, 0).repeat(16, 1))
