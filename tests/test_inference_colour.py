"""Local means come back to the picture's, and what noise or detail did to them stays."""

import tracemalloc

import numpy as np
import pytest
import torch

from dmsr_cli.inference.colour import _interpolated, is_neutral, keep_colours
from dmsr_cli.pipeline import Model, upscale

SCALE = 2
LEVEL = 1 / 255


def picture(height: int = 70, width: int = 90, seed: int = 0) -> np.ndarray:
    """Blobs of colour, far enough from black and white."""
    coarse = np.random.default_rng(seed).uniform(0.2, 0.8, (height // 8 + 1, width // 8 + 1, 3))
    blobs = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    return blobs.astype(np.float32)


def enlarged(pixels: np.ndarray, scale: int = SCALE) -> np.ndarray:
    """The perfect result: no mean has changed."""
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def white_noise(pixels: np.ndarray, level: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, level * LEVEL, pixels.shape)
    return noise.astype(np.float32)


def kept(result: np.ndarray, pixels: np.ndarray, noise: float = 0, **options) -> np.ndarray:
    """`keep_colours` of a copy, as float levels."""
    result = result.copy()
    keep_colours(result, pixels, white_noise(pixels, noise), **options)
    white = 1 if result.dtype == np.float32 else np.iinfo(result.dtype).max
    return result.astype(np.float64) / white * 255


def drift(result: np.ndarray, pixels: np.ndarray, block: int = 32, scale: int = SCALE) -> float:
    """The largest difference of means, in levels, over blocks wherever they begin."""
    difference = result - enlarged(pixels, scale).astype(np.float64) * 255
    side = block * scale
    return max(
        np.abs(difference[top : top + side, left : left + side].mean(axis=(0, 1))).max()
        for top in range(0, result.shape[0] - side + 1, 7)
        for left in range(0, result.shape[1] - side + 1, 7)
    )


class TestDrift:
    @pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.uint16])
    def test_means_come_back(self, dtype):
        pixels = picture()
        shifted = enlarged(pixels) + np.array([6, -9, 2], np.float32) * LEVEL
        shifted[:60] += 8 * LEVEL
        white = 1 if dtype == np.float32 else np.iinfo(dtype).max
        result = (shifted * white).round(7 if white == 1 else 0).astype(dtype)
        assert drift(result / white * 255, pixels) > 8
        assert drift(kept(result, pixels), pixels) < 1

    def test_detail_stays(self):
        pixels = picture()
        detail = np.random.default_rng(2).normal(0, 0.05, enlarged(pixels).shape)
        sharp = (enlarged(pixels) + detail).astype(np.float32)
        after = kept(sharp + np.float32(5 * LEVEL), pixels)
        assert np.abs(after - sharp * 255).max() < 2.5

    def test_what_is_within_the_tolerance_is_not_touched(self):
        pixels = picture()
        result = enlarged(pixels) + np.float32(0.2 * LEVEL)
        np.testing.assert_array_equal(kept(result, pixels), result.astype(np.float64) * 255)

    def test_places_that_did_not_drift_are_not_touched(self):
        pixels = picture()
        result = enlarged(pixels)
        result[:40, :40] += 9 * LEVEL
        after = kept(result, pixels)
        np.testing.assert_array_equal(after[110:], result[110:].astype(np.float64) * 255)
        assert drift(after, pixels) < 1

    def test_clipping_is_made_up_for(self):
        """Half of the pixels can become no darker: the others have to."""
        pixels = np.full((32, 32, 3), 1 * LEVEL, np.float32)
        result = np.zeros((64, 64, 3), np.float32)
        result[::2] = 20 * LEVEL
        after = kept(result, pixels)
        assert after.min() >= 0
        assert drift(after, pixels) < 1

    def test_values_beyond_white_have_no_say(self):
        """No result can be brighter than white."""
        pixels = np.full((16, 16, 3), 0.4, np.float32)
        pixels[::2] = 1.5
        result = enlarged(pixels.clip(0, 1))
        np.testing.assert_array_equal(kept(result, pixels), result.astype(np.float64) * 255)

    @pytest.mark.parametrize("size", [(1, 1), (1, 37), (37, 1), (23, 25), (64, 33)])
    def test_any_size(self, size):
        pixels = picture(*size)
        after = kept(enlarged(pixels, 3) + np.float32(5 * LEVEL), pixels)
        assert drift(after, pixels, min(size), 3) < 1


class TestNoise:
    @pytest.mark.parametrize(
        ("level", "least", "most"), [(15, 0, 0.4), (27, 0.4, 1), (36, 4.9, 5.1)]
    )
    def test_the_tolerance_grows(self, level, least, most):
        """The mean of a noisy picture says nothing about small differences."""
        pixels = picture()
        result = enlarged(pixels) + np.float32(5 * LEVEL)
        after = kept(result, pixels, noise=level)
        assert least <= drift(after, pixels) < most

    @pytest.mark.parametrize("bound", [0, 1])
    def test_black_stays_black(self, bound):
        """Clipped noise has made the picture lighter, and the result is right not to be."""
        black = np.full((64, 64, 3), bound, np.float32)
        noise = white_noise(black, 15)
        pixels = (black + noise).clip(0, 1)
        result = np.full((128, 128, 3), abs(bound - 2 * LEVEL), np.float32)
        assert abs(pixels.mean() - bound) > 5 * LEVEL
        after = kept(result, pixels, noise=15)
        assert np.abs(after - result * 255.0).max() < 0.7  # the picture's mean is 6 levels away
        assert drift(kept(result, pixels, noise=5), pixels) < 1  # so little noise does not do that

    def test_the_other_bound_is_no_excuse(self):
        pixels = (white_noise(np.zeros((64, 64, 3)), 15)).clip(0, 1)
        result = np.full((128, 128, 3), 12 * LEVEL, np.float32)
        assert drift(kept(result, pixels, noise=15), pixels) < 1

    def test_texture_is_no_noise(self):
        """What part of a picture looks noisy excuses no drift anywhere."""
        pixels = picture(96, 96)
        pixels[:, 48:] = 0
        pixels[::2, 48:] = 40 * LEVEL
        result = enlarged(pixels)
        result[:, 96:] -= 4 * LEVEL
        noise_map = white_noise(pixels, 1)
        noise_map[:, 64:] *= 15
        result = result.clip(0, 1)
        keep_colours(result, pixels, noise_map)
        assert drift(result * 255.0, pixels) < 1


class TestGrey:
    @pytest.mark.parametrize("dtype", [np.float32, np.uint8])
    def test_equal_channels_stay_equal(self, dtype):
        """Even where those of the picture are not quite."""
        pixels = picture()
        grey = enlarged(pixels).mean(axis=2, keepdims=True).repeat(3, axis=2) * 0.9
        result = (grey * (255 if dtype == np.uint8 else 1)).astype(dtype)
        after = kept(result, pixels, grey=True)
        assert is_neutral(after)
        assert not np.array_equal(after, kept(result, pixels))
        assert abs(after.mean() / 255 - pixels.mean()) < LEVEL

    def test_is_neutral(self):
        pixels = picture()
        pixels[..., 1:] = pixels[..., :1]
        assert is_neutral(pixels)
        for channel in range(3):
            tinted = pixels.copy()
            tinted[-1, -1, channel] += LEVEL
            assert not is_neutral(tinted)


class TestUpscale:
    @pytest.fixture
    def model(self, tiny_model) -> Model:
        """An untrained network shifts colours; this one finds no noise anywhere."""
        network = tiny_model(SCALE)
        with torch.no_grad():
            network.extractor.noise.weight.zero_()
        return Model(network, "tiny", torch.device("cpu"), torch.float32)

    @pytest.mark.parametrize("tile", ["auto", 0, 24])
    @pytest.mark.parametrize("dtype", [np.float32, np.uint8])
    def test_colours(self, model, tile, dtype):
        pixels, white = picture(), 1 if dtype == np.float32 else 255
        drifted, after = (
            upscale(pixels, model, tile=tile, dtype=dtype, colours=colours) / white * 255
            for colours in (False, True)
        )
        # What an untrained network does differs from pixel to pixel, by tens of levels.
        assert drift(drifted, pixels) > 20
        assert drift(after, pixels) < 4
        assert np.abs((after / 255 - enlarged(pixels)).mean(axis=(0, 1))).max() < LEVEL / 2

    def test_tiles_equal_the_whole(self, model):
        pixels = picture(120, 130)
        whole, tiles = (upscale(pixels, model, tile=tile) for tile in (0, 48))
        np.testing.assert_allclose(tiles, whole, atol=1e-4)

    def test_grey_without_a_file_that_says_so(self, model):
        pixels = picture()[..., :1].repeat(3, axis=2)
        assert is_neutral(upscale(pixels, model))
        assert not is_neutral(upscale(pixels, model, colours=False))


def test_memory():
    """Rows of cells become float, one after the other, never the whole picture."""
    pixels = picture(1024, 256)
    result = np.full((4096, 1024, 3), 100, np.uint8)
    noise_map = np.zeros_like(pixels)
    keep_colours(result[:512], pixels[:128], noise_map[:128])  # what is imported and cached once
    tracemalloc.start()
    keep_colours(result, pixels, noise_map)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < result.nbytes  # float copies take four times as much


def test_a_strip_of_a_tall_picture_costs_what_it_holds():
    """Else a 1x60000 picture takes several times as long as a square one of as many pixels."""
    edges = np.arange(0, 4_000_001, 16)
    values = np.random.default_rng(0).random((len(edges) - 1, 1, 3), np.float32)
    whole = _interpolated(values[:100], edges[:101], slice(None))
    tracemalloc.start()
    for start in (0, 160, 805):
        strip = slice(start, start + 16)
        np.testing.assert_array_equal(_interpolated(values, edges, strip), whole[strip])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
