"""Any output size: what is asked for, which models reach it, and the resize itself."""

from __future__ import annotations

import math

import numpy as np
import PIL.Image
import pytest
import skimage.transform

from dmsr_cli import resizing
from dmsr_cli.errors import ImageError, SettingsError
from dmsr_cli.images import Image, write_image
from dmsr_cli.resizing import (
    Enlargement,
    OutputSize,
    check_output,
    parse_factor,
    parse_size,
    plan_passes,
    resize_image,
)
from pictures import smooth


@pytest.mark.parametrize(
    ("text", "factor"),
    [("2", 2), ("x4", 4), ("X3.5", 3.5), ("4.0", 4), ("1.01", 1.01), ("16", 16), ("1e1", 10)],
)
def test_factors(text: str, factor: float) -> None:
    parsed = parse_factor(text).factor
    assert parsed == factor
    assert type(parsed) is type(factor)


@pytest.mark.parametrize(
    "text", ["1", "0", "-3", "nan", "inf", "x", "", "xx2", "16.1", "1e999", "2,5", "2x"]
)
def test_impossible_factors(text: str) -> None:
    with pytest.raises(SettingsError, match="not a number above 1") as caught:
        parse_factor(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size", "label"),
    [
        ("800x600", OutputSize(800, 600), "_800x600"),
        ("800X600", OutputSize(800, 600), "_800x600"),
        ("800x", OutputSize(800, None), "_w800"),
        ("x4", OutputSize(None, 4), "_h4"),
        ("65536x32768", OutputSize(65536, 32768), "_65536x32768"),
    ],
)
def test_sizes(text: str, size: OutputSize, label: str) -> None:
    assert parse_size(text) == size
    assert size.label == label


@pytest.mark.parametrize(
    "text",
    [
        *("0x5", "5x0", "0x", "axb", "x", "", "800", "-1x5", "1.5x2", "5x5x5", "٣x٣", "5x5\n"),
        *("65536x32769", "9999999999x", "x9999999999", "9" * 5000 + "x1"),
    ],
)
def test_impossible_sizes(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_size(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "size", "factor"),
    [
        (Enlargement(4), (36, 48), 4),
        (Enlargement(3.5), (32, 42), 3.5),  # 31.5 is rounded up
        (Enlargement(1.04), (9, 12), 1.04),
        (OutputSize(36, 20), (20, 36), 3),
        (OutputSize(36, None), (27, 36), 3),
        (OutputSize(None, 30), (30, 40), 10 / 3),
        (OutputSize(12, 9), (9, 12), 1),
        (OutputSize(6, None), (5, 6), 5 / 9),  # 4.5 is rounded up
        (OutputSize(1, None), (1, 1), 1 / 9),
        (OutputSize(None, 1), (1, 1), 1 / 9),
    ],
)
def test_size_and_factor_of_a_picture(
    wanted: Enlargement | OutputSize, size: tuple[int, int], factor: float
) -> None:
    assert wanted.size_of(9, 12) == size
    found = wanted.factor_of(9, 12)
    assert found == pytest.approx(factor)
    assert type(found) is type(factor)


def test_a_thin_picture_keeps_a_pixel() -> None:
    assert OutputSize(10, None).size_of(1, 1000) == (1, 10)
    assert OutputSize(None, 10).size_of(1000, 1) == (10, 1)


def test_the_models_result_is_never_smaller_than_what_is_wanted() -> None:
    draw = np.random.default_rng(0)
    for _ in range(500):
        height, width, side = (int(number) for number in draw.integers(1, 60, 3))
        for wanted in (
            Enlargement(float(draw.uniform(1.001, 16))),
            OutputSize(side, None),
            OutputSize(None, side),
            OutputSize(side, int(draw.integers(1, 60))),
        ):
            factor = wanted.factor_of(height, width)
            if factor > 16:
                continue
            scale = math.prod(plan_passes(factor, "lite", (2, 3, 4), 2))
            high, wide = wanted.size_of(height, width)
            assert 1 <= high <= height * scale
            assert 1 <= wide <= width * scale


@pytest.mark.parametrize(
    ("factor", "passes"),
    [
        *((0.1, (2,)), (1, (2,)), (1.5, (2,)), (2, (2,)), (2.01, (3,)), (3, (3,)), (3.5, (4,))),
        *((4, (4,)), (4.01, (3, 2)), (5, (3, 2)), (6, (3, 2)), (7, (4, 2)), (8, (4, 2))),
        *((9, (3, 3)), (10, (4, 3)), (12, (4, 3)), (13, (4, 4)), (16, (4, 4))),
    ],
)
def test_plans(factor: float, passes: tuple[int, ...]) -> None:
    assert plan_passes(factor, "lite", (2, 3, 4), 2) == passes
    if len(passes) == 1:
        assert plan_passes(factor, "lite", (2, 3, 4)) == passes


def test_plans_with_one_model() -> None:
    assert plan_passes(2.5, "mine", [4]) == (4,)
    assert plan_passes(3.5, "mine", [2], 2) == (2, 2)
    assert plan_passes(6, "mine", [4], 2) == (4, 4)
    assert plan_passes(7, "mine", [8]) == (8,)


@pytest.mark.parametrize(
    ("factor", "scales", "passes", "words"),
    [
        (2.5, [2], 1, ["mine is a x2 model", "needs a x3 model", "-s 2"]),
        (3.5, [3], 1, ["mine is a x3 model", "needs a x4 model", "-s 3"]),
        (5, [2], 2, ["mine is a x2 model", "needs a x3 model in two passes", "-s 4"]),
        (4.5, [2, 3, 4], 1, ["x4.5", "at most x4", "--passes 2", "adds no information"]),
        (5, [2], 1, ["at most x4", "--passes 2"]),
        (16.5, [2, 3, 4], 2, ["x16.5", "at most x16"]),
        (200, [2, 3, 4], 1, ["x200", "at most x16"]),
    ],
)
def test_out_of_reach(factor: float, scales: list[int], passes: int, words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        plan_passes(factor, "mine", scales, passes)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_what_cannot_end_well_is_refused_beforehand() -> None:
    check_output((2**15, 2**16), (2**15, 2**16), ".png")
    with pytest.raises(ImageError, match="131072 x 32768 pixels would have to be made"):
        check_output((5, 5), (2**15, 2**17), ".png")


@pytest.mark.parametrize(("suffix", "side"), [(".webp", 16_383), (".JPG", 65_500)])
def test_limits_of_formats_are_those_of_writing(tmp_path, suffix: str, side: int) -> None:
    path = tmp_path / f"wide{suffix}"
    check_output((1, side), (1, side), suffix)
    write_image(np.zeros((1, side, 3), np.float32), path)
    with pytest.raises(ImageError, match=f"allows {side}"):
        check_output((1, side + 1), (1, side + 1), suffix)
    with pytest.raises(ImageError):
        write_image(np.zeros((1, side + 1, 3), np.float32), path)


def lanczos_matrix(before: int, after: int) -> np.ndarray:
    """The filter as its definition has it: a row of weights for each pixel of the result."""
    stretch = max(before / after, 1)
    centres = (np.arange(after) + 0.5) * before / after
    distance = (np.arange(before) + 0.5 - centres[:, None]) / stretch
    weights = np.where(abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(31, 47), (40, 47), (31, 56), (7, 11), (1, 1)])
def test_resize_is_the_lanczos_filter(size: tuple[int, int]) -> None:
    pixels = 0.3 + 0.4 * np.random.default_rng(0).random((40, 56, 3)).astype(np.float32)
    expected = np.einsum(
        "ah,bw,hwc->abc", lanczos_matrix(40, size[0]), lanczos_matrix(56, size[1]), pixels
    )
    resized = resize_image(Image(pixels), *size).pixels
    assert resized.dtype == np.float32
    assert resized.shape == (*size, 3)
    np.testing.assert_allclose(resized, expected, atol=1e-6)


def test_resize_agrees_with_another_library_on_a_smooth_picture() -> None:
    pixels = np.sin(3 * smooth(80, 112)) / 2 + 0.5
    resized = resize_image(Image(pixels), 70, 98).pixels
    other = skimage.transform.resize(pixels, (70, 98), order=3, anti_aliasing=True)
    inner = slice(5, -5)  # borders are padded in another way
    np.testing.assert_allclose(resized[inner, inner], other[inner, inner], atol=2e-3)


@pytest.mark.parametrize("strip", [1, 100, 1000])
def test_strips_change_nothing(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image(np.random.default_rng(0).random((61, 83, 3)).astype(np.float32))
    monkeypatch.setattr(resizing, "_STRIP_PIXELS", strip)
    resized = resize_image(image, 53, 71).pixels
    for channel in range(3):
        plane = PIL.Image.fromarray(np.ascontiguousarray(image.pixels[..., channel]))
        whole = np.asarray(plane.resize((71, 53), PIL.Image.Resampling.LANCZOS))
        np.testing.assert_allclose(resized[..., channel], whole.clip(0, 1), atol=1e-6)


def test_the_same_size_is_the_same_picture() -> None:
    image = Image(smooth())
    assert resize_image(image, image.height, image.width) is image


def test_what_belongs_to_a_picture_stays() -> None:
    edge = np.zeros((40, 56), np.float32)
    edge[:, 28:] = 1  # where Lanczos overshoots
    grey = np.repeat(edge[..., None], 3, axis=2)
    image = Image(grey, alpha=edge, grey=True, icc_profile=b"profile", dpi=(72, 72), format="PNG")
    before = grey.copy()
    resized = resize_image(image, 33, 50)
    assert (image.pixels == before).all()
    assert (resized.grey, resized.icc_profile) == (True, b"profile")
    assert (resized.dpi, resized.format) == ((72, 72), "PNG")
    assert resized.alpha is not None
    assert resized.alpha.shape == (33, 50)
    for channel in range(3):
        assert (resized.pixels[..., channel] == resized.alpha).all()
    assert resized.alpha.min() == 0
    assert resized.alpha.max() == 1


def test_a_constant_stays_exactly_constant() -> None:
    value = np.float32(100 / 255)
    flat = np.full((40, 56), value)
    image = resize_image(Image(np.repeat(flat[..., None], 3, axis=2), alpha=flat), 37, 51)
    assert (image.pixels == value).all()
    assert image.alpha is not None
    assert (image.alpha == value).all()
