"""estimate() and upscale(): results, overrides, and one clear line for what is wrong."""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.errors import ImageError, SettingsError
from dmsr_cli.images import LUMA_WEIGHTS, Image, resize_alpha
from dmsr_cli.inference.pieces import EXTRACTION_PIXELS
from dmsr_cli.pipeline import Degradation, Model, estimate, upscale

SIZES = [(1, 1), (1, 17), (17, 1), (7, 13), (23, 29)]


def picture(height: int = 23, width: int = 29) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, 3), dtype=np.float32)


def degradation_of(width: float, pixels: np.ndarray, noise: float = 0.05) -> Degradation:
    """An isotropic kernel and white noise that fit `pixels`."""
    noise_map = np.random.default_rng(1).normal(0, noise, pixels.shape).astype(np.float32)
    return Degradation(gaussian_kernel(width)[0].numpy(), noise_map)


@contextlib.contextmanager
def always_warned() -> Iterator[None]:
    """Let torch give each of its warnings every time, not only the first."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        yield
    finally:
        torch.set_warn_always(before)


def message(caught: pytest.ExceptionInfo) -> str:
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


@pytest.fixture
def model(tiny_model) -> Model:
    return Model(tiny_model(), "tiny-x4", torch.device("cpu"), torch.float32)


@pytest.fixture
def seen(model, monkeypatch) -> list[tuple[int, int]]:
    """Sizes of what the extractor is given, in the order of the calls."""
    sizes, maps = [], model.network.extractor.maps

    def recording(lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(tuple(lr.shape[2:]))
        return maps(lr)

    monkeypatch.setattr(model.network.extractor, "maps", recording)
    return sizes


class TestEstimate:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("pixels_at_a_time", [1, 29, 100])
    def test_pieces_equal_the_whole(self, model, monkeypatch, seen, size, pixels_at_a_time):
        pixels = picture(*size)
        with torch.inference_mode():
            lr = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)
            expected = model.network.extractor(lr)
        seen.clear()
        monkeypatch.setitem(EXTRACTION_PIXELS, "cpu", pixels_at_a_time)
        found = estimate(pixels, model)
        halo = 2 * model.network.extractor.radius
        assert len(seen) >= -(-size[0] * size[1] // pixels_at_a_time)
        for height, width in seen:
            assert max(1, height - halo) * max(1, width - halo) <= pixels_at_a_time
        np.testing.assert_allclose(found.kernel, expected.kernel[0].numpy(), atol=1e-6)
        noise_map = expected.noise_map[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(found.noise_map, noise_map, atol=1e-6)

    def test_what_it_gives(self, model):
        pixels = picture()
        found = estimate(pixels, model)
        assert found.kernel.shape == (15, 15)
        assert found.noise_map.shape == pixels.shape
        assert found.kernel.dtype == found.noise_map.dtype == np.float32
        assert found.kernel.sum() == pytest.approx(1, abs=1e-5)
        of_image = estimate(Image(pixels), model)
        assert np.array_equal(of_image.kernel, found.kernel)
        assert np.array_equal(of_image.noise_map, found.noise_map)


class TestDegradation:
    @pytest.mark.parametrize("width", [0.2, 0.5, 1.3, 2.6, 3.0, 5.5])
    def test_kernel_width_is_recovered(self, width):
        assert degradation_of(width, picture()).kernel_width == pytest.approx(width, abs=0.02)

    def test_kernel_width_has_ends(self):
        assert degradation_of(0.05, picture()).kernel_width == 0.2
        assert degradation_of(12.0, picture()).kernel_width == 6.0

    def test_noise_level(self):
        noise_map = np.full((4, 5, 3), -10 / 255, np.float32)
        assert Degradation(np.ones((1, 1), np.float32), noise_map).noise_level == pytest.approx(10)

    def test_with_kernel_width(self):
        before = degradation_of(1.0, picture())
        after = before.with_kernel_width(2.4)
        assert after.kernel_width == pytest.approx(2.4, abs=0.01)
        assert after.kernel.shape == before.kernel.shape
        assert after.noise_map is before.noise_map
        assert before.kernel_width == pytest.approx(1.0, abs=0.01)

    def test_with_noise_level(self):
        before = degradation_of(1.0, picture())
        after = before.with_noise_level(30)
        assert after.noise_level == pytest.approx(30, rel=1e-4)
        assert after.noise_map.dtype == np.float32
        assert after.kernel is before.kernel
        assert np.corrcoef(before.noise_map.ravel(), after.noise_map.ravel())[0, 1] > 0.9999
        assert before.with_noise_level(0).noise_level == 0

    def test_no_noise_has_no_pattern_to_scale(self):
        assert degradation_of(1.0, picture(), noise=0).with_noise_level(30).noise_level == 0

    def test_with_denoise(self):
        before = degradation_of(1.0, picture())
        assert np.array_equal(before.with_denoise(1).noise_map, before.noise_map)
        assert before.with_denoise(0.5).noise_level == pytest.approx(before.noise_level / 2)
        assert not before.with_denoise(0).noise_map.any()

    @pytest.mark.parametrize(
        ("method", "values"),
        [
            ("with_kernel_width", (0, -1, 20.5, float("nan"), float("inf"))),
            ("with_noise_level", (-1, 256, float("nan"), float("inf"))),
            ("with_denoise", (-0.1, float("nan"), float("inf"))),
        ],
    )
    def test_impossible_values(self, method, values):
        for value in values:
            with pytest.raises(SettingsError) as caught:
                getattr(degradation_of(1.0, picture()), method)(value)
            assert str(value) in message(caught)


class TestUpscale:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_whole_picture_is_one_pass(self, tiny_model, size, scale):
        network, pixels = tiny_model(scale), picture(*size)
        model = Model(network, "tiny", torch.device("cpu"), torch.float32)
        with torch.inference_mode():
            expected, _ = network(torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0))
        expected = expected[0].permute(1, 2, 0).clamp(0, 1).numpy()
        for tile in (0, "auto", max(size)):
            restored = upscale(pixels, model, tile=tile, colours=False)
            assert restored.shape == (size[0] * scale, size[1] * scale, 3)
            assert restored.dtype == np.float32
            np.testing.assert_allclose(restored, expected, atol=1e-5)
        assert model.scale == scale

    def test_an_array_is_not_changed(self, model):
        pixels = picture()
        before = pixels.copy()
        restored = upscale(pixels * 3 - 1, model)  # values outside [0, 1] are welcome
        assert restored.min() >= 0
        assert restored.max() <= 1
        upscale(pixels, model)
        assert np.array_equal(pixels, before)
        np.testing.assert_allclose(
            upscale(pixels.astype(np.float64), model), upscale(pixels, model), atol=1e-6
        )

    @pytest.mark.parametrize("tile", ["auto", 0, 12])
    def test_arrays_of_any_kind(self, model, tile):
        """Mirrored and read-only ones give what fresh ones do, and no warnings of torch."""
        pixels = picture()
        good = estimate(pixels, model)
        expected = upscale(pixels, model, good, tile)
        mirrored = dataclasses.replace(good, kernel=good.kernel[::-1].copy()[::-1])
        for array in (pixels, mirrored.kernel):
            array.flags.writeable = False
        with always_warned(), warnings.catch_warnings():
            warnings.simplefilter("error")
            found = upscale(pixels, model, mirrored, tile)
        np.testing.assert_array_equal(found, expected)

    def test_an_image_stays_an_image(self, model):
        alpha = np.random.default_rng(2).random((9, 11), dtype=np.float32)
        image = Image(
            picture(9, 11),
            alpha,
            icc_profile=b"profile",
            exif=b"Exif",
            dpi=(72, 72),
            format="PNG",
        )
        restored = upscale(image, model)
        assert isinstance(restored, Image)
        np.testing.assert_array_equal(restored.pixels, upscale(image.pixels, model))
        np.testing.assert_array_equal(restored.alpha, resize_alpha(alpha, 4))
        for name in ("grey", "icc_profile", "exif", "dpi", "format"):
            assert getattr(restored, name) == getattr(image, name)
        assert upscale(dataclasses.replace(image, alpha=None), model).alpha is None

    def test_grey_comes_back_grey(self, model):
        grey = np.repeat(picture(9, 11)[..., :1], 3, axis=2)
        restored = upscale(Image(grey, grey=True), model, colours=False).pixels
        tinted = upscale(grey, model, colours=False)
        assert not np.array_equal(tinted[..., 0], tinted[..., 2])
        assert np.array_equal(restored[..., 0], restored[..., 2])
        np.testing.assert_allclose(restored[..., 1], tinted @ LUMA_WEIGHTS, atol=1e-6)

    def test_the_degradation_guides(self, model, seen):
        pixels = picture()
        found = estimate(pixels, model)
        expected = upscale(pixels, model)
        seen.clear()
        np.testing.assert_array_equal(upscale(pixels, model, found), expected)
        assert not seen
        assert not np.array_equal(upscale(pixels, model, found.with_denoise(0)), expected)

    def test_progress(self, model):
        shares = []
        upscale(picture(), model, tile=10, overlap=3, on_progress=shares.append)
        assert len(shares) > 4
        assert shares == sorted(shares)
        assert shares[-1] == 1

    def test_reduced_precision(self, model):
        pixels = picture()
        reduced = dataclasses.replace(model, precision=torch.bfloat16)
        restored = upscale(pixels, reduced)
        assert restored.dtype == np.float32
        assert 0 < np.abs(restored - upscale(pixels, model)).max() < 0.1


class TestTiles:
    @pytest.mark.parametrize("size", [(1, 37), (37, 1), (23, 29)])
    @pytest.mark.parametrize(("tile", "overlap"), [(1, 0), (5, 2), (16, 8), (16, None)])
    def test_any_size_works(self, model, size, tile, overlap):
        restored = upscale(picture(*size), model, tile=tile, overlap=overlap)
        assert restored.shape == (size[0] * 4, size[1] * 4, 3)
        assert np.isfinite(restored).all()

    def test_estimated_once_for_the_whole_picture(self, model, seen):
        upscale(picture(), model, tile=8, overlap=2)
        assert seen == [(23, 29)]


class TestResultType:
    @pytest.mark.parametrize("tile", ["auto", 0, 12])
    @pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), ("uint16", 65535)])
    def test_integers_are_rounded(self, model, dtype, white, tile):
        pixels = picture() * 2 - 0.5  # the result is clipped at both ends
        exact = upscale(pixels, model, tile=tile, colours=False)
        assert exact.min() == 0
        assert exact.max() == 1
        rounded = upscale(pixels, model, tile=tile, dtype=dtype, colours=False)
        assert rounded.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(rounded, np.rint(exact * white))

    def test_of_an_image(self, model):
        image = Image(picture(9, 11), np.full((9, 11), 0.5, np.float32), grey=True)
        restored = upscale(image, model, dtype=np.uint8)
        assert restored.pixels.dtype == np.uint8
        assert np.array_equal(restored.pixels[..., 0], restored.pixels[..., 2])

    @pytest.mark.parametrize("dtype", ["int32", np.float64, bool])
    def test_others_are_refused(self, model, dtype):
        with pytest.raises(SettingsError, match="dtype") as caught:
            upscale(picture(), model, dtype=dtype)
        assert np.dtype(dtype).name in message(caught)


class TestErrors:
    @pytest.mark.parametrize(
        ("pixels", "words"),
        [
            (np.zeros((4, 5), np.float32), "shape"),
            (np.zeros((4, 5, 4), np.float32), "shape"),
            (np.zeros((0, 5, 3), np.float32), "shape"),
            (np.zeros((1, 4, 5, 3), np.float32), "shape"),
            (np.zeros((4, 5, 3), np.uint8), "uint8"),
            (np.zeros((4, 5, 3), bool), "bool"),
            (np.full((4, 5, 3), np.nan, np.float32), "finite"),
            (np.full((4, 5, 3), np.inf, np.float32), "finite"),
            (np.full((4, 5, 3), 1e300), "finite"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:overflow encountered in cast")
    def test_pictures(self, model, pixels, words):
        for call in (estimate, upscale):
            with pytest.raises(ImageError, match=words) as caught:
                call(pixels, model)
            message(caught)

    @pytest.mark.parametrize("tile", ["big", "16", -1])
    def test_tile(self, model, tile):
        with pytest.raises(SettingsError, match="tile") as caught:
            upscale(picture(), model, tile=tile)
        assert repr(tile) in message(caught)

    @pytest.mark.parametrize(
        ("tile", "overlap"), [(8, 8), (8, 99), (8, -1), (0, -1), ("auto", -5), (16, 16)]
    )
    def test_overlap(self, model, tile, overlap):
        with pytest.raises(SettingsError, match="overlap") as caught:
            upscale(picture(), model, tile=tile, overlap=overlap)
        assert str(overlap) in message(caught)

    def test_degradation_of_another_picture(self, model):
        pixels = picture()
        good = estimate(pixels, model)
        other_kernel = dataclasses.replace(good, kernel=gaussian_kernel(1.0, 7)[0].numpy())
        other_noise = dataclasses.replace(good, noise_map=good.noise_map[:-1])
        for wrong, words in ((other_kernel, "kernel"), (other_noise, "noise map")):
            with pytest.raises(SettingsError, match=words) as caught:
                upscale(pixels, model, wrong)
            message(caught)

    def test_degradation_that_cannot_be_used(self, model):
        pixels = picture()
        good = estimate(pixels, model)
        endless = dataclasses.replace(good, noise_map=good.noise_map * np.float32(np.inf))
        double = dataclasses.replace(good, kernel=good.kernel.astype(np.float64))
        for wrong, words in ((endless, "finite$"), (double, "float32, not float64$")):
            with pytest.raises(SettingsError, match=words) as caught:
                upscale(pixels, model, wrong)
            message(caught)
