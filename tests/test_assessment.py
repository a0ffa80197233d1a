"""What an estimate says in words, its shape, and how far it is to be trusted."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from dmsr_cli.assessment import Clues, assess, kernel_confidence, noise_confidence
from dmsr_cli.assessment.clues import BLOCK, BLOCKS, find_clues
from dmsr_cli.assessment.confidence import (
    KERNEL_COEFFICIENTS,
    KERNEL_TERMS,
    NOISE_COEFFICIENTS,
    NOISE_TERMS,
)
from dmsr_cli.assessment.reservations import LOW, reservations
from dmsr_cli.assessment.shape import ROUND, shape_of
from dmsr_cli.assessment.words import blur_words, noise_words
from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.images import Image
from dmsr_cli.pipeline import Degradation
from dmsr_cli.visual import noise_overlay
from dmsr_cli.visual.noise_overlay import LONGEST_SIDE, SHORTEST_SIDE
from pictures import smooth

GOOD = Clues(10_000, 8.0, 20.0, 1.0, 0.02, 20.0, 0.0)


def turned_kernel(long: float, short: float, degrees: float, floor: float = 0) -> np.ndarray:
    """A Gaussian whose long axis is turned counter-clockwise, as one sees it."""
    rows, columns = np.mgrid[0:15, 0:15]
    right, up = columns - 7, 7 - rows
    angle = math.radians(degrees)
    along = right * math.cos(angle) + up * math.sin(angle)
    across = up * math.cos(angle) - right * math.sin(angle)
    kernel = np.exp(-0.5 * ((along / long) ** 2 + (across / short) ** 2)) + floor
    return (kernel / kernel.sum()).astype(np.float32)


def with_noise(
    pixels: np.ndarray, level: float, width: float = 1.3
) -> tuple[Degradation, np.ndarray]:
    """A picture with noise, and a degradation that knows all of it."""
    noise = np.random.default_rng(0).normal(0, level / 255, pixels.shape).astype(np.float32)
    kernel = gaussian_kernel(torch.tensor([width]))[0].numpy()
    return Degradation(kernel, noise), pixels + noise


class TestShape:
    @pytest.mark.parametrize("width", [0.2, 0.3, 0.5, 0.8, 1.3, 2.0, 3.0])
    def test_a_gaussian_is_round(self, width):
        shape = shape_of(gaussian_kernel(width)[0].numpy())
        assert shape.anisotropy == pytest.approx(1, abs=1e-4)
        assert shape.orientation is None

    @pytest.mark.parametrize("degrees", [0, 20, 45, 90, 110, 135, 179])
    @pytest.mark.parametrize("floor", [0, 5e-4])
    def test_its_long_axis_is_found(self, degrees, floor):
        shape = shape_of(turned_kernel(2, 1, degrees, floor))
        assert shape.anisotropy == pytest.approx(2, abs=0.06)
        off = (shape.orientation - degrees + 90) % 180 - 90
        assert abs(off) < 1
        assert 0 <= shape.orientation < 180

    def test_what_the_taps_cannot_show_is_round(self):
        assert shape_of(turned_kernel(0.4, 0.1, 0)).orientation is None

    def test_a_little_is_still_round(self):
        assert shape_of(turned_kernel(1.2, 1, 30)).orientation is None
        assert shape_of(turned_kernel(ROUND + 0.05, 1, 30)).orientation is not None

    @pytest.mark.parametrize("place", [(0, 0), (7, 7), (14, 3)])
    def test_a_single_tap(self, place):
        kernel = np.zeros((15, 15), np.float32)
        kernel[place] = 1
        assert shape_of(kernel).anisotropy == 1


class TestWords:
    def test_one_word_for_one_number(self):
        words = {}
        for width in np.arange(0.2, 6, 0.01):
            word, number = blur_words(width, 4).split(" blur, about ")
            assert words.setdefault(number, word) == word
        assert list(dict.fromkeys(words.values())) == [
            *("no visible", "slight", "moderate", "strong", "very strong"),
        ]

    @pytest.mark.parametrize(
        ("level", "text"),
        [
            (0, "no visible noise, sigma about 0.0"),
            (4.04, "slight noise, sigma about 4.0"),
            (9.96, "moderate noise, sigma about 10"),
            (22.3, "strong noise, sigma about 22"),
            (75, "very strong noise, sigma about 75"),
        ],
    )
    def test_noise(self, level, text):
        assert noise_words(level) == text

    def test_the_sentence(self):
        degradation, pixels = with_noise(smooth(), 22, 1.6)
        found = assess(degradation, pixels, 4)
        assert found.sentence == "moderate blur, about 1.6 px at x4; strong noise, sigma about 22"


class TestConfidence:
    def test_each_coefficient_has_its_term(self):
        assert KERNEL_COEFFICIENTS.keys() == KERNEL_TERMS.keys()
        assert NOISE_COEFFICIENTS.keys() == NOISE_TERMS.keys()

    def test_more_noise_hides_the_blur(self):
        found = [
            kernel_confidence(dataclasses.replace(GOOD, noise=level)) for level in (2, 5, 10, 20)
        ]
        assert found == sorted(found, reverse=True)
        assert found[0] > found[-1]

    def test_less_detail_hides_the_blur(self):
        found = [
            kernel_confidence(dataclasses.replace(GOOD, detail=detail)) for detail in (5, 10, 30)
        ]
        assert found == sorted(found)
        assert found[0] < found[-1]

    def test_contradiction(self):
        found = [
            noise_confidence(dataclasses.replace(GOOD, other_noise=other)) for other in (20, 15, 8)
        ]
        assert found == sorted(found, reverse=True)
        assert found[0] > found[-1] + 0.3

    def test_clipping(self):
        found = [noise_confidence(dataclasses.replace(GOOD, clipped=x)) for x in (0, 0.1, 0.6, 1)]
        assert found == sorted(found, reverse=True)
        assert found[-1] == 0

    @pytest.mark.parametrize("pixels", [1, 10**9])
    @pytest.mark.parametrize("detail", [0, 1e9])
    @pytest.mark.parametrize("noise", [0, 1e9])
    @pytest.mark.parametrize("other", [None, 0, 1e9])
    @pytest.mark.parametrize("clipped", [0, 1])
    def test_any_clues_give_a_probability(self, pixels, detail, noise, other, clipped):
        clues = Clues(pixels, detail, noise, detail, noise, other, clipped)
        confidences = kernel_confidence(clues), noise_confidence(clues)
        assert all(0 <= one <= 1 for one in confidences)
        assert reservations(clues, *confidences) or min(confidences) >= LOW


class TestReservations:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"pixels": 400}, "small"),
            ({"clipped": 1.0}, "all black or white"),
            ({"detail": 0.2}, "flat"),
            ({"noise": 60.0, "other_noise": 60.0}, "noise hides"),
            ({"clipped": 0.4}, "cut noise off"),
            ({"other_noise": 3.0}, "fine texture"),
            ({"other_noise": 90.0}, "noise of pictures like this"),
        ],
    )
    def test_each_has_its_reason(self, changes, said):
        clues = dataclasses.replace(GOOD, **changes)
        found = reservations(clues, LOW / 2, LOW / 2)
        assert said in " ".join(found)
        assert all("\n" not in one and len(one) < 78 for one in found)

    def test_nothing_is_said_of_what_is_well(self):
        assert reservations(GOOD, 0.6, 0.9) == ()


class TestClues:
    def test_of_noise_alone(self):
        degradation, pixels = with_noise(np.full((90, 80, 3), 0.5, np.float32), 12)
        clues = find_clues(degradation, pixels)
        assert clues.noise == pytest.approx(12, rel=0.03)
        assert clues.other_noise == pytest.approx(12, rel=0.05)
        assert clues.detail < 0.01
        assert clues.clipped == 0
        assert clues.misfit < 1e-3

    def test_detail_is_what_is_left_without_the_noise(self):
        few, many = (find_clues(*with_noise(smooth(), level)).detail for level in (1, 30))
        assert few == pytest.approx(many, rel=0.01)
        assert few > 1

    def test_large_pictures_are_seen_in_blocks(self):
        side = BLOCK * (BLOCKS + 1)
        degradation, pixels = with_noise(np.full((side, side, 3), 0.5, np.float32), 8)
        clues = find_clues(degradation, pixels)
        assert clues.pixels == side * side
        assert clues.other_noise == pytest.approx(8, rel=0.02)

    def test_what_is_transparent_does_not_count(self):
        degradation, pixels = with_noise(smooth(), 5)
        alpha = np.ones(pixels.shape[:2], np.float32)
        alpha[:, 28:] = 0
        garbage = pixels.copy()
        garbage[:, 28:] = np.random.default_rng(1).random((40, 28, 3))
        found = find_clues(degradation, Image(garbage.clip(0, 1), alpha))
        assert found.detail < find_clues(degradation, garbage.clip(0, 1)).detail / 2


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 3), (40, 40)])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("noise", [0.0, 0.2, 1e3])
def test_all_numbers_are_finite(size, value, noise):
    shape = (*size, 3)
    noise_map = (noise * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    kernel = gaussian_kernel(0.2)[0].numpy()
    found = assess(Degradation(kernel, noise_map), np.full(shape, value, np.float32), 2)
    numbers = [
        *(found.kernel_width, found.noise_level, *found.noise_levels, found.anisotropy),
        *(found.kernel_confidence, found.noise_confidence),
    ]
    assert all(map(math.isfinite, numbers))
    assert found.reservations
    assert min(found.kernel_confidence, found.noise_confidence) < LOW


def test_noise_levels_are_those_of_the_channels():
    noise_map = np.zeros((4, 6, 3), np.float32)
    noise_map[..., 1], noise_map[::2, :, 2] = 10 / 255, -20 / 255
    found = Degradation(gaussian_kernel(1.0)[0].numpy(), noise_map)
    assert found.noise_levels == pytest.approx((0, 10, 20 / math.sqrt(2)))
    assert found.noise_level == pytest.approx(math.sqrt(np.mean(np.square(found.noise_levels))))


class TestNoiseOverlay:
    @pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (13, 7), (300, 200)])
    def test_any_size(self, size):
        overlay = noise_overlay(np.zeros((*size, 3), np.float32), np.zeros((*size, 3), np.float32))
        factor = max(SHORTEST_SIDE // max(size), 1)
        assert overlay.dtype == np.uint8
        assert overlay.shape[1] >= factor * size[1]  # the legend may be wider
        assert overlay.shape[0] > factor * size[0]

    def test_noise_is_brighter_where_it_is(self):
        noise_map = np.zeros((256, 256, 3), np.float32)
        noise_map[:, 128:] = np.random.default_rng(0).normal(0, 0.1, (256, 128, 3))
        overlay = noise_overlay(np.full((256, 256, 3), 0.5, np.float32), noise_map)[:256]
        left, right = overlay[:, :120].mean(), overlay[:, 136:].mean()
        assert right > left + 40
        assert overlay[:, :120].std(axis=(0, 1)).max() == 0

    def test_the_photo_shines_through(self):
        photo = np.zeros((256, 256, 3), np.float32)
        photo[:128] = 1
        overlay = noise_overlay(photo, np.zeros_like(photo))
        assert overlay[:128].mean() > overlay[128:256].mean() + 80

    def test_large_ones_are_shrunk(self):
        wide = np.zeros((5, 2 * LONGEST_SIDE + 1, 3), np.float32)
        assert noise_overlay(wide, wide).shape[1] == (2 * LONGEST_SIDE + 1) // 3
