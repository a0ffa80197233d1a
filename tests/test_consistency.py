"""How far a result explains its input, and what damage is told from noise and blur."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import dmsr_cli
from dmsr_cli.consistency import (
    WARNING,
    Consistency,
    check_consistency,
    consistency_overlay,
    redegraded,
)
from dmsr_cli.consistency.checking import MOST_DECIBELS
from dmsr_cli.consistency.damage import direction, grid, peaks
from dmsr_cli.degradation import bicubic_downsample, blur, gaussian_kernel
from dmsr_cli.images import Image

SAMPLE = Path(__file__).parent.parent / "examples" / "cat_noisy.png"


def random_array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def degraded_whole(result: np.ndarray, kernel: np.ndarray, scale: int) -> np.ndarray:
    """What the forward model gives."""
    planes = torch.from_numpy(result).permute(2, 0, 1).unsqueeze(0)
    small = bicubic_downsample(blur(planes, torch.from_numpy(kernel).unsqueeze(0)), scale)
    return small[0].permute(1, 2, 0).numpy()


def some_kernel(width: float) -> np.ndarray:
    return gaussian_kernel(width)[0].numpy()


class TestRedegraded:
    @pytest.mark.parametrize("scale", [2, 3, 4])
    @pytest.mark.parametrize("size", [(1, 1), (1, 23), (23, 31)])
    def test_it_is_the_forward_model(self, scale, size):
        result = random_array(size[0] * scale, size[1] * scale, 3)
        found = redegraded(result, some_kernel(1.7), scale)
        expected = degraded_whole(result, some_kernel(1.7), scale)
        np.testing.assert_allclose(found, expected, atol=3e-6)

    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_a_crooked_kernel_is_turned_as_a_convolution_turns_it(self, scale):
        result = random_array(20 * scale, 24 * scale, 3)
        kernel = random_array(15, 15, seed=1)
        kernel /= kernel.sum()
        found = redegraded(result, kernel, scale)[2:-2, 2:-2]
        expected = degraded_whole(result, kernel, scale)[2:-2, 2:-2]
        np.testing.assert_allclose(found, expected, atol=3e-6)

    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_strips_give_the_whole(self, scale):
        result = random_array(53 * scale, 17 * scale, 3)
        kernel = some_kernel(2.5)
        whole = redegraded(result, kernel, scale, strip_pixels=10**6)
        np.testing.assert_allclose(
            redegraded(result, kernel, scale, strip_pixels=1), whole, atol=1e-6
        )

    @pytest.mark.parametrize("kind", [np.uint8, np.uint16])
    def test_whole_numbers_stand_for_shares_of_white(self, kind):
        white = np.iinfo(kind).max
        result = (random_array(40, 40, 3) * white).astype(kind)
        found = redegraded(result, some_kernel(1), 2)
        expected = redegraded(result.astype(np.float32) / np.float32(white), some_kernel(1), 2)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def white_noise(level: float, side: int = 160) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal((side, side)) * level
    return noise.astype(np.float32)


class TestPeaks:
    @pytest.mark.parametrize("level", [0.5, 5, 50])
    def test_noise_of_any_level_has_none(self, level):
        assert peaks(white_noise(level)) < 10

    def test_one_pixel_in_a_hundred_is_found(self):
        plane = white_noise(3)
        struck = np.random.default_rng(1).random(plane.shape) < 0.01
        assert peaks(np.where(struck, np.float32(100), plane)) > 20
        assert peaks(np.where(struck, np.float32(-100), plane)) > 20

    def test_an_edge_is_none(self):
        plane = white_noise(1)
        plane[:, 80:] += 100
        assert peaks(plane) < 10


class TestGrid:
    @pytest.mark.parametrize("level", [0, 1, 50])
    def test_noise_has_none(self, level):
        assert grid(white_noise(level)) < 0.06

    @pytest.mark.parametrize("shift", [0, 3])
    def test_blocks_are_found_wherever_they_begin(self, shift):
        steps = np.random.default_rng(1).standard_normal((24, 24)).repeat(8, 0).repeat(8, 1)
        plane = white_noise(3) + 6 * steps[shift : shift + 160, shift : shift + 160]
        assert grid(plane.astype(np.float32)) > 0.1

    def test_stripes_in_one_direction_are_no_blocks(self):
        plane = white_noise(3)
        plane[:, ::8] += 10
        assert grid(plane) < 0.06


class TestDirection:
    def test_noise_has_none(self):
        assert direction(white_noise(20)) < 0.1
        assert direction(np.zeros((64, 64), np.float32)) == 0

    @pytest.mark.parametrize("axis", [0, 1])
    def test_what_is_smeared_has_one(self, axis):
        plane = white_noise(60)
        smeared = sum(np.roll(plane, shift, axis) for shift in range(9)) / 9
        assert direction(smeared.astype(np.float32)) > 2

    def test_also_along_a_diagonal(self):
        plane = white_noise(60)
        smeared = sum(np.roll(plane, (shift, shift), (0, 1)) for shift in range(9)) / 9
        assert direction(smeared.astype(np.float32)) > 2


def check(image, result, noise=None, scale: int = 2, **options) -> Consistency:
    shape = (image.pixels if isinstance(image, Image) else image).shape
    noise_map = np.zeros(shape, np.float32) if noise is None else noise
    return check_consistency(image, result, some_kernel(1), noise_map, scale, **options)


class TestCheck:
    def test_a_result_that_explains_all_is_capped(self):
        result = np.full((80, 80, 3), 0.5, np.float32)
        image = redegraded(result, some_kernel(1), 2)
        found = check(image, result)
        assert found.decibels == MOST_DECIBELS
        assert found.map.max() == 0
        assert found.is_in_range
        assert found.warning is None

    def test_decibels_are_the_psnr_of_what_is_left(self):
        result = random_array(80, 80, 3)
        left = (white_noise(1, 40) / 25)[..., None].repeat(3, 2)
        image = redegraded(result, some_kernel(1), 2) + left
        found = check(image, result, is_steered=True)
        assert found.decibels == pytest.approx(-10 * np.log10(np.mean(np.square(left))), abs=1e-3)

    def test_estimated_noise_explains_as_much_as_there_is_of_it(self):
        result = random_array(80, 80, 3)
        noise = (random_array(40, 40, 3, seed=1) - 0.5) * np.float32(0.2)
        clean = redegraded(result, some_kernel(1), 2)
        for share in (0.3, 1):
            found = check(clean + np.float32(share) * noise, result, noise)
            assert found.decibels > 90
        # Noise that the result has too much of is not explained by taking off more than all.
        assert check(clean + 2 * noise, result, noise).decibels < 30
        assert check(clean - noise, result, noise).decibels < 30

    def test_the_map_shows_where(self):
        result = np.full((80, 80, 3), 0.5, np.float32)
        image = redegraded(result, some_kernel(1), 2)
        image[10:20, 10:20] += np.float32(0.2)
        found = check(image, result)
        assert found.map.shape == (40, 40)
        assert found.map.dtype == np.float32
        assert found.map[15, 15] > 10
        assert found.map[30, 30] == 0

    def test_what_is_usual_grows_with_the_noise(self):
        result = random_array(80, 80, 3)
        image = redegraded(result, some_kernel(1), 2) + np.float32(0.05)
        noise = (random_array(40, 40, 3, seed=1) - 0.5).astype(np.float32)
        assert check(image, result, noise).map.mean() < check(image, result).map.mean() / 2

    def test_told_degradation_gets_no_verdict(self):
        result = random_array(80, 80, 3)
        image = redegraded(result, some_kernel(1), 2)
        image[::9, ::9] = 1
        assert check(image, result).is_in_range is False
        found = check(image, result, is_steered=True)
        assert (found.is_in_range, found.reason, found.warning) == (None, None, None)

    @pytest.mark.parametrize("size", [(1, 1), (1, 50), (31, 300)])
    def test_of_a_small_picture_nothing_is_said(self, size):
        found = check(random_array(*size, 3), random_array(size[0] * 2, size[1] * 2, 3))
        assert found.is_in_range is None
        assert np.isfinite(found.decibels)
        assert np.isfinite(found.map).all()

    def test_what_cannot_be_seen_does_not_count(self):
        result = np.full((80, 80, 3), 0.5, np.float32)
        image = np.full((40, 40, 3), 0.5, np.float32)
        alpha = np.ones((40, 40), np.float32)
        alpha[:10] = 0
        image[:10] = random_array(10, 40, 3)
        assert check(Image(image, alpha=alpha), result).decibels > 60
        assert check(image, result).decibels < 20

    def test_large_pictures_are_tested_in_the_middle(self, monkeypatch):
        monkeypatch.setattr("dmsr_cli.consistency.damage.LARGEST_SIDE", 40)
        result = random_array(240, 240, 3)
        image = redegraded(result, some_kernel(1), 2)
        image[::5, :30:5] = 1  # one pixel in a hundred of the whole
        assert check(image, result).is_in_range
        image[::9, ::9] = 1
        assert check(image, result).is_in_range is False


def as_8_bit(pixels: np.ndarray) -> np.ndarray:
    return (np.rint(pixels.clip(0, 1) * 255) / 255).astype(np.float32)


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """A sharp picture without noise: the sample, made smaller."""
    picture = PIL.Image.open(SAMPLE).convert("RGB").resize((160, 110), PIL.Image.Resampling.BOX)
    return np.asarray(picture, np.float32) / np.float32(255)


def with_salt_and_pepper(pixels: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(0)
    struck = pixels.copy()
    places = random.random(pixels.shape[:2]) < 0.03
    struck[places] = random.integers(0, 2, (places.sum(), 1))
    return struck


def as_jpeg(pixels: np.ndarray) -> np.ndarray:
    stored = io.BytesIO()
    PIL.Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(stored, "JPEG", quality=20)
    return np.asarray(PIL.Image.open(stored), np.float32) / np.float32(255)


def moved(pixels: np.ndarray) -> np.ndarray:
    return as_8_bit(sum(np.roll(pixels, shift, axis=1) for shift in range(11)) / 11)


class TestBundledModel:
    @pytest.fixture
    def checked(self):
        model = dmsr_cli.load_model("dmsr-lite-x2", "cpu")

        def run(pixels: np.ndarray) -> Consistency:
            found = dmsr_cli.estimate(pixels, model)
            result = dmsr_cli.upscale(pixels, model, found)
            return check_consistency(pixels, result, found.kernel, found.noise_map, 2)

        return run

    @pytest.mark.parametrize(
        ("damaged", "seen"),
        [(with_salt_and_pepper, "salt"), (as_jpeg, "JPEG"), (moved, "motion")],
    )
    def test_other_damage_is_seen_and_costs_consistency(self, checked, clean, damaged, seen):
        found = checked(damaged(clean))
        assert found.is_in_range is False
        assert seen in found.warning
        assert found.warning.startswith(WARNING)
        assert found.decibels < checked(clean).decibels - 3

    @pytest.mark.parametrize("level", [0, 10, 40])
    def test_noise_is_no_other_damage(self, checked, clean, level):
        noise = np.random.default_rng(0).standard_normal(clean.shape) * (level / 255)
        found = checked(as_8_bit(clean + noise))
        assert found.is_in_range
        assert 25 < found.decibels < 50
        assert 0.4 < np.sqrt(np.mean(np.square(found.map))) < 2.5

    @pytest.mark.parametrize("value", [0, 90, 255])
    def test_a_flat_picture_is_explained(self, checked, value):
        found = checked(np.full((48, 48, 3), value / 255, np.float32))
        assert found.is_in_range
        assert 40 < found.decibels <= MOST_DECIBELS
        assert np.isfinite(found.map).all()


class TestOverlay:
    def test_as_expected_the_photo_stays_grey(self):
        photo = random_array(300, 300, 3)
        picture = consistency_overlay(photo, np.ones((300, 300), np.float32))
        assert picture.dtype == np.uint8
        assert picture.shape[1:] == (300, 3)
        shown = picture[:300].astype(int)
        assert (shown.max(axis=2) == shown.min(axis=2)).all()

    def test_more_is_red_and_the_legend_stands_below(self):
        strength = np.ones((300, 300), np.float32)
        strength[:150] = 9
        picture = consistency_overlay(np.full((300, 300, 3), 0.5, np.float32), strength)
        assert picture[10, 10, 0] > 2 * picture[10, 10, 1]
        assert picture.shape[0] > 300
        assert (picture[-1] == 255).all()

    @pytest.mark.parametrize("size", [(1, 1), (3, 5000), (5000, 3)])
    def test_any_size_can_be_shown(self, size):
        picture = consistency_overlay(random_array(*size, 3), random_array(*size))
        assert picture.shape[1] >= 256
        assert max(picture.shape) < 2500


class TestCommandLine:
    @pytest.fixture
    def photo(self, tmp_path, clean, monkeypatch):
        monkeypatch.chdir(tmp_path)
        PIL.Image.fromarray(np.rint(clean * 255).astype(np.uint8)).save("photo.jpg", quality=15)
        return Path("photo.jpg")

    @pytest.fixture
    def run(self, capsys):
        from dmsr_cli.cli.main import main

        def call(*arguments: object) -> tuple[list[dict], str]:
            capsys.readouterr()
            assert main([*map(str, arguments), "--device", "cpu"]) == 0
            said = capsys.readouterr()
            records = [line for line in said.out.splitlines() if line.startswith("{")]
            return [json.loads(line, parse_constant=pytest.fail) for line in records], said.err

        return call

    def test_upscale_records_and_saves_it(self, photo, run):
        (record,), _ = run("upscale", photo, "-s", 2, "--save-degradation", "--json")
        assert record["damage_in_range"] is False
        assert 10 < record["consistency"] < 40
        assert any("JPEG" in warning for warning in record["warnings"])
        assert np.load("photo_x2_consistency.npy").shape == (110, 160)
        assert PIL.Image.open("photo_x2_consistency.png").size[0] >= 160

    def test_it_is_said_once_to_people(self, photo, run):
        _, said = run("upscale", photo, "-s", 2)
        assert said.count(f"dmsr: warning: photo.jpg: {WARNING} (blocks of 8x8: JPEG)") == 1

    def test_with_two_passes_the_first_result_is_checked(self, photo, run):
        PIL.Image.open(photo).crop((40, 40, 80, 80)).save("part.png")
        (twice,), _ = run("upscale", "part.png", "-s", 5, "--passes", 2, "--json")
        first, _ = twice["model"].split("+")
        (once,), _ = run("upscale", "part.png", "--model", first, "--json")
        # The other model's would be 3 dB off.
        assert twice["consistency"] == pytest.approx(once["consistency"], abs=0.1)

    def test_a_told_kernel_gets_no_verdict(self, photo, run):
        (record,), said = run("upscale", photo, "-s", 2, "--kernel-width", 2, "--json")
        assert record["damage_in_range"] is None
        assert record["consistency"] is not None
        assert WARNING not in said

    def test_of_an_animation_the_first_frame_is_checked(self, photo, run, clean):
        frames = [PIL.Image.fromarray(np.rint(clean[:40, :40] * 255).astype(np.uint8))] * 2
        frames[0].save("moving.png", save_all=True, append_images=[frames[1].rotate(90)])
        (record,), _ = run("upscale", "moving.png", "-s", 2, "--json", "--save-degradation")
        assert record["frames"] == 2
        assert record["consistency"] is not None
        assert Path("moving_x2_consistency.npy").exists()
        assert np.load("moving_x2_consistency.npy").shape == (40, 40)

    def test_estimate_checks_if_asked(self, photo, run):
        (record,), _ = run("estimate", photo, "-s", 2, "--json")
        assert (record["consistency"], record["damage_in_range"]) == (None, None)
        (record,), _ = run("estimate", photo, "-s", 2, "--json", "--check")
        assert record["damage_in_range"] is False
        (upscaled,), _ = run("upscale", photo, "-s", 2, "--json")
        assert record["consistency"] == pytest.approx(upscaled["consistency"], abs=0.05)
        _, said = run("estimate", photo, "-s", 2, "--check")
        assert WARNING in said
