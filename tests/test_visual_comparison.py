"""A result beside its input: every mode, any size, any kind of pixels."""

from __future__ import annotations

import io
import math

import numpy as np
import PIL.Image
import pytest

from dmsr_cli.cli.compare_options import COMPARE_MODES
from dmsr_cli.images import Image, read_image, resize_alpha, write_image
from dmsr_cli.visual import COMPARISONS
from dmsr_cli.visual.comparison import SHOWN_SIDE, _crop_size, _label, magnified
from dmsr_cli.visual.layout import DIVIDER
from dmsr_cli.visual.painting import DARK_SQUARE, SQUARE, Window, paint_enlarged, whole
from dmsr_cli.visual.telling import telling_window
from pictures import SRGB, smooth

SCALE = 4
MODES = pytest.mark.parametrize("mode", COMPARE_MODES)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.uint16])


def white_of(dtype: type) -> int:
    return 1 if dtype is np.float32 else np.iinfo(dtype).max


def pair(height: int, width: int, dtype: type = np.uint8, **facts: object) -> tuple[Image, Image]:
    """A picture of noise, and a result that is flat but for a step across its middle."""
    draw = np.random.default_rng(0)
    before = draw.random((height, width, 3)).astype(np.float32)
    after = np.full((SCALE * height, SCALE * width, 3), 0.25 * white_of(dtype)).astype(dtype)
    after[len(after) // 2 :] *= 3
    return Image(before, **facts), Image(after, **facts)


def enlarged(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """All at once, by Pillow."""
    planes = [PIL.Image.fromarray(np.ascontiguousarray(pixels[..., c])) for c in range(3)]
    size, method = (width, height), PIL.Image.Resampling.BICUBIC
    return np.stack([np.asarray(plane.resize(size, method)) for plane in planes], 2).clip(0, 1)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    """To one level of the type."""
    white = white_of(found.dtype.type)
    step = 1e-5 if white == 1 else 1.01 / white
    np.testing.assert_allclose(found / white, expected, atol=step)


def test_the_command_line_has_the_modes() -> None:
    assert tuple(COMPARISONS) == COMPARE_MODES


@DTYPES
def test_side_by_side(dtype: type) -> None:
    before, after = pair(9, 12, dtype)
    both = COMPARISONS["side-by-side"](before, after).pixels
    assert both.dtype == dtype
    assert both.shape == (36, 2 * 48 + DIVIDER, 3)
    close(both[:, :48], enlarged(before.pixels, 36, 48))
    assert (both[:, 48:-48] == white_of(dtype)).all()
    np.testing.assert_array_equal(both[:, -48:], after.pixels)


@DTYPES
def test_split(dtype: type) -> None:
    before, after = pair(40, 60, dtype)
    both = COMPARISONS["split"](before, after).pixels
    assert both.dtype == dtype
    assert both.shape == after.pixels.shape
    below = slice(60, None)  # the labels are above
    close(both[below, :118], enlarged(before.pixels, 160, 240)[below, :118])
    np.testing.assert_array_equal(both[below, 122:], after.pixels[below, 122:])
    np.testing.assert_array_equal(both[:, 119:122, 0] / white_of(dtype), [[0, 1, 0]] * 160)
    assert (both[8:20, 8:30] == white_of(dtype)).any()
    assert (both[8:20, -30:-8] == white_of(dtype)).any()


@pytest.mark.parametrize(("height", "width"), [(8, 12), (8, 100), (60, 8)])
def test_labels_are_left_out_where_they_would_hide_too_much(height: int, width: int) -> None:
    before, after = pair(height, width)
    beyond = SCALE * width // 2 + 2  # the line between the halves
    both = COMPARISONS["split"](before, after).pixels
    np.testing.assert_array_equal(both[:, beyond:], after.pixels[:, beyond:])


@pytest.mark.parametrize(("height", "width"), [(60, 100), (100, 60), (80, 80), (200, 30), (3, 9)])
def test_zoom(height: int, width: int) -> None:
    """The crops are about half of the picture, below or beside it, and show what the frame does."""
    before, after = pair(height, width)
    high, wide = SCALE * height, SCALE * width
    after.pixels[high // 2 :, wide // 2 :] += np.arange(wide - wide // 2, dtype=np.uint8)[:, None]
    both = COMPARISONS["zoom"](before, after).pixels
    shown = max(1, SHOWN_SIDE // max(high, wide))
    label = _label("before", round(shown * math.sqrt(high * wide)))
    text_height = len(label)
    crop, times = _crop_size(high, wide, shown, text_height)
    if times * crop[1] < label.shape[1]:
        text_height = 0
        crop, times = _crop_size(high, wide, shown, 0)
    window = telling_window(after, *crop)
    new = magnified(after.pixels[window.rows, window.columns], times)
    is_upright = high > wide
    long, end = (len(new), len(both)) if is_upright else (new.shape[1], both.shape[1])
    assert end - 2 * long < 3 * times + 2 * text_height + DIVIDER
    if is_upright:
        places = [(text_height, shown * wide + DIVIDER)]
        places.append((2 * text_height + long + DIVIDER, shown * wide + DIVIDER))
    else:
        places = [(shown * high + DIVIDER + text_height, left) for left in (0, long + DIVIDER)]
    old, found = (both[top : top + len(new), left : left + new.shape[1]] for top, left in places)
    np.testing.assert_array_equal(found, new)
    old = old[times // 2 :: times, times // 2 :: times]
    close(old, enlarged(before.pixels, high, wide)[window.rows, window.columns])
    framed = Window(*(shown * side for side in window))
    inside = both[framed.rows, framed.columns]
    np.testing.assert_array_equal(inside[::shown, ::shown], new[::times, ::times])
    assert (both[framed.top - 1 : framed.top, framed.columns] == 255).all()
    assert (both[framed.rows, framed.left - 1 : framed.left] == 255).all()


@MODES
@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (1, 2), (2, 1), (3, 3), (1, 300), (300, 1), (7, 100), (32, 32), (100, 1200)],
)
def test_any_size(mode: str, height: int, width: int) -> None:
    before, after = pair(height, width)
    both = COMPARISONS[mode](before, after)
    assert both.pixels.shape[0] >= after.height
    assert both.pixels.shape[1] >= after.width
    assert both.pixels.size <= max(3 * after.pixels.size, 3 * 800 * 800)
    write_image(both, io.BytesIO(), format="png")


@MODES
def test_a_smaller_result(mode: str) -> None:
    """--size may be smaller than the picture."""
    before, _ = pair(50, 80)
    _, after = pair(5, 8)
    assert COMPARISONS[mode](before, after).pixels.dtype == np.uint8


@MODES
def test_grey_stays_grey_and_profile_and_depth_stay(mode: str, tmp_path) -> None:
    facts = {"grey": True, "depth": 16}
    before, after = pair(40, 50, np.uint16, **facts)
    before.pixels[:] = before.pixels[..., :1]
    both = COMPARISONS[mode](before, after)
    np.testing.assert_array_equal(both.pixels[..., 0], both.pixels[..., 1])
    write_image(both, tmp_path / "grey.png")
    assert PIL.Image.open(tmp_path / "grey.png").mode.startswith("I;16")
    before, after = pair(40, 50, icc_profile=SRGB)
    write_image(COMPARISONS[mode](before, after), tmp_path / "colour.png")
    assert read_image(tmp_path / "colour.png").icc_profile == SRGB


@DTYPES
def test_a_checkerboard_shows_through_in_the_same_places(
    dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever colour is stored where nothing is to be seen, and however it is cut into strips."""
    monkeypatch.setattr("dmsr_cli.images.planes.STRIP_PIXELS", 1300)
    alpha = np.zeros((20, 30), np.float32)
    alpha[5:15, 10:20] = 1
    pixels = np.full((20, 30, 3), 0.5, np.float32)
    pixels[alpha == 0] = [1, 0, 1]
    result = np.full((80, 120, 3), white_of(dtype) // 2 or 0.5, dtype)
    after = Image(result, alpha=resize_alpha(alpha, SCALE, dtype))
    both = COMPARISONS["side-by-side"](Image(pixels, alpha=alpha), after)
    assert both.alpha is None
    old, new = both.pixels[:, :120], both.pixels[:, -120:]
    close(old, new / white_of(dtype))
    corner = old[: 2 * SQUARE, : 2 * SQUARE, 0] / white_of(dtype)
    squares = [[corner[0, 0], corner[0, -1]], [corner[-1, 0], corner[-1, -1]]]
    np.testing.assert_allclose(squares, [[1, DARK_SQUARE], [DARK_SQUARE, 1]], atol=0.005)
    close(old[40:41, 60:61], np.full((1, 1, 3), result[0, 0, 0] / white_of(dtype)))


@MODES
def test_inputs_are_left_alone(mode: str) -> None:
    alpha = np.linspace(0, 1, 40 * 50, dtype=np.float32).reshape(40, 50)
    before, after = pair(40, 50)
    before = Image(before.pixels, alpha=alpha)
    after = Image(after.pixels, alpha=resize_alpha(alpha, SCALE, np.uint8))
    arrays = [before.pixels, before.alpha, after.pixels, after.alpha]
    copies = [array.copy() for array in arrays if array is not None]
    COMPARISONS[mode](before, after)
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_strips_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmsr_cli.images.planes.STRIP_PIXELS", 1000)
    pixels = smooth(40, 56)
    canvas = np.empty((160, 224, 3), np.float32)
    source = Image(pixels)
    paint_enlarged(canvas, source, whole(Image(canvas)), 160, 224)
    np.testing.assert_allclose(canvas, enlarged(pixels, 160, 224), atol=1e-5)


def test_the_telling_window_has_texture_not_one_hard_edge() -> None:
    pixels = np.full((200, 300, 3), 100, np.uint8)
    pixels[:, :50] = 255
    draw = np.random.default_rng(0)
    pixels[120:160, 200:240] += draw.integers(0, 6, (40, 40, 1), dtype=np.uint8)
    window = telling_window(Image(pixels), 40, 40)
    assert abs(window.top - 120) <= 10
    assert abs(window.left - 200) <= 10


def test_the_telling_window_is_no_border_and_nothing_transparent() -> None:
    draw = np.random.default_rng(0)
    pixels = np.full((200, 300, 3), 100, np.uint8)
    pixels[-3:] = draw.integers(0, 256, (3, 300, 3))
    pixels[20:60, 20:60] = draw.integers(0, 256, (40, 40, 3))
    pixels[130:150, 200:220] += draw.integers(0, 8, (20, 20, 3), dtype=np.uint8)
    alpha = np.ones((200, 300), np.float32)
    alpha[:80] = 0
    window = telling_window(Image(pixels, alpha=alpha), 20, 20)
    assert (window.top, window.left) == pytest.approx((130, 200), abs=5)


def test_of_a_flat_picture_the_middle_is_as_telling_as_anything() -> None:
    window = telling_window(Image(np.zeros((200, 300, 3), np.uint8)), 40, 60)
    assert (window.top, window.left) == pytest.approx((80, 120), abs=10)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (5, 5)])
def test_a_window_as_large_as_the_picture(height: int, width: int) -> None:
    window = telling_window(Image(np.zeros((height, width, 3), np.uint8)), height, width)
    assert window == (0, 0, height, width)
