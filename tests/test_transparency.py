"""The colour of what cannot be seen: filled from its surroundings, and no fringe in results."""

import numpy as np
import pytest

from dmsr_cli import pipeline
from dmsr_cli.errors import ImageError
from dmsr_cli.images import Image, bleed_colour, resize_alpha

SIDE = 40
INVISIBLE = ["black", "white", "random"]
BACKGROUNDS = [0, 1, (0.9, 0.1, 0.1), (0.1, 0.6, 0.9)]


def disc(radius: float = 13.3, parts: int = 8) -> np.ndarray:
    """Opacity of a disc with an antialiased edge: the share of each pixel that it covers."""
    across = (np.arange(SIDE * parts) + 0.5) / parts - SIDE / 2
    inside = across[:, None] ** 2 + across**2 < radius**2
    return inside.reshape(SIDE, parts, SIDE, parts).mean((1, 3)).astype(np.float32)


def painted(kind: str) -> np.ndarray:
    """A picture without an end, of which a disc will be seen."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    if kind == "red":
        return np.broadcast_to(np.float32([0.9, 0.1, 0.1]), (SIDE, SIDE, 3)).copy()
    planes = [0.6 + 0.4 * columns, 0.2 * rows, 0.3 * columns]
    return np.stack(planes, axis=2).astype(np.float32)


def with_invisible(pixels: np.ndarray, alpha: np.ndarray, kind: str) -> np.ndarray:
    random = np.random.default_rng(0).random(pixels.shape, dtype=np.float32)
    colour = {"black": 0, "white": 1, "random": random}[kind]
    return np.where(alpha[..., None] == 0, colour, pixels).astype(np.float32)


def over(pixels: np.ndarray, alpha: np.ndarray, background: object) -> np.ndarray:
    opacity = alpha[..., None]
    return pixels * opacity + np.asarray(background, np.float32) * (1 - opacity)


@pytest.fixture(scope="module")
def model() -> pipeline.Model:
    return pipeline.load_model(scale=2, device="cpu")


@pytest.fixture(scope="module")
def results(model) -> dict[tuple[str, str], Image]:
    alpha = disc()
    return {
        (kind, colour): pipeline.upscale(
            Image(with_invisible(painted(kind), alpha, colour), alpha), model
        )
        for kind in ("red", "gradient")
        for colour in INVISIBLE
    }


class TestFringe:
    @pytest.mark.parametrize("kind", ["red", "gradient"])
    @pytest.mark.parametrize("background", BACKGROUNDS)
    def test_the_invisible_colour_changes_nothing(self, results, kind, background):
        shown = [
            over(results[kind, c].pixels, results[kind, c].alpha, background) for c in INVISIBLE
        ]
        for other in shown[1:]:
            assert np.abs(other - shown[0]).max() * 255 < 1

    @pytest.mark.parametrize("kind", ["red", "gradient"])
    @pytest.mark.parametrize("background", BACKGROUNDS)
    def test_the_rim_is_that_of_a_picture_without_an_end(self, model, results, kind, background):
        """One whose colours go on behind the edge cannot have a fringe."""
        alpha = resize_alpha(disc(), model.scale)
        ideal = over(pipeline.upscale(painted(kind), model), alpha, background)
        for colour in INVISIBLE:
            found = over(results[kind, colour].pixels, results[kind, colour].alpha, background)
            # The means that keep the colours are partly of what lies behind the rim.
            assert np.abs(found - ideal).max() * 255 < 4

    @pytest.mark.parametrize("kind", ["red", "gradient"])
    def test_the_network_alone_sees_hardly_a_rim(self, model, kind):
        alpha, large = disc(), resize_alpha(disc(), model.scale)
        ideal = pipeline.upscale(painted(kind), model, colours=False)
        image = Image(with_invisible(painted(kind), alpha, "black"), alpha)
        found = pipeline.upscale(image, model, colours=False)
        assert np.abs(over(found.pixels, large, 0) - over(ideal, large, 0)).max() * 255 < 3

    def test_there_would_be_a_fringe(self, model):
        alpha = disc()
        black = with_invisible(painted("red"), alpha, "black")
        fringed = over(pipeline.upscale(black, model), resize_alpha(alpha, model.scale), 1)
        ideal = over(pipeline.upscale(painted("red"), model), resize_alpha(alpha, model.scale), 1)
        assert np.abs(fringed - ideal).max() * 255 > 20

    def test_the_invisible_colour_is_no_noise(self, model):
        alpha = disc()
        found = [
            pipeline.estimate(Image(with_invisible(painted("red"), alpha, c), alpha), model)
            for c in INVISIBLE
        ]
        for other in found[1:]:
            assert np.array_equal(other.noise_map, found[0].noise_map)
            assert np.array_equal(other.kernel, found[0].kernel)

    def test_a_whole_result_of_eight_bit_has_alpha_of_eight_bit(self, model):
        alpha = disc()
        for dtype in (np.uint8, np.uint16):
            result = pipeline.upscale(Image(painted("red"), alpha), model, dtype=dtype)
            assert result.alpha.dtype == result.pixels.dtype == dtype
            opaque = Image(painted("red"), np.ones_like(alpha))
            restored = pipeline.upscale(opaque, model, dtype=dtype)
            assert (restored.alpha == np.iinfo(dtype).max).all()


class TestBleeding:
    @pytest.mark.parametrize("size", [(1, 1), (1, 2), (1, 9), (9, 1), (2, 2), (3, 7), (33, 64)])
    def test_what_is_visible_stays_and_the_rest_does_not_count(self, size):
        random = np.random.default_rng(3)
        pixels = random.random((*size, 3), dtype=np.float32)
        alpha = random.choice(np.float32([0, 4 / 255, 0.5, 1]), size)
        alpha[0, 0] = 1
        bled = bleed_colour(pixels, alpha)
        assert np.array_equal(bled[alpha > 0], pixels[alpha > 0])
        assert 0 <= bled.min() <= bled.max() <= 1
        other = np.where(alpha[..., None] == 0, random.random(pixels.shape), pixels)
        assert np.array_equal(bleed_colour(other.astype(np.float32), alpha), bled)

    def test_a_single_colour_spreads_everywhere(self):
        pixels = np.random.default_rng(4).random((37, 53, 3), dtype=np.float32)
        alpha = np.zeros((37, 53), np.float32)
        alpha[20, 31] = 1
        bled = bleed_colour(pixels, alpha)
        np.testing.assert_allclose(bled, np.broadcast_to(pixels[20, 31], bled.shape), atol=1e-6)

    def test_the_nearest_colour_wins(self):
        pixels = np.zeros((32, 64, 3), np.float32)
        pixels[:, :8], pixels[:, -8:] = (1, 0, 0), (0, 0, 1)
        alpha = np.zeros((32, 64), np.float32)
        alpha[:, :8] = alpha[:, -8:] = 1
        bled = bleed_colour(pixels, alpha)
        np.testing.assert_allclose(
            bled[:, 8:10], np.float32([1, 0, 0]) + np.zeros((32, 2, 3)), atol=0.1
        )
        np.testing.assert_allclose(
            bled[:, 54:56], np.float32([0, 0, 1]) + np.zeros((32, 2, 3)), atol=0.1
        )
        assert (np.diff(bled[16, :, 0]) <= 1e-6).all()

    def test_faint_colours_fade_into_the_surroundings(self):
        pixels, alpha = np.zeros((9, 9, 3), np.float32), np.ones((9, 9), np.float32)
        pixels[4, 4] = 1
        found = []
        for level in (0, 1, 2, 3, 4, 255):
            alpha[4, 4] = level / 255
            found.append(bleed_colour(pixels, alpha)[4, 4, 1])
        assert found[0] == 0
        assert found[2] == pytest.approx(0.5, abs=0.1)
        assert found[-2:] == [1, 1]
        assert (np.diff(found) >= 0).all()

    def test_nothing_to_do(self):
        pixels = np.random.default_rng(5).random((6, 5, 3), dtype=np.float32)
        for alpha in (np.ones((6, 5)), np.zeros((6, 5)), np.full((6, 5), 7, np.uint8)):
            assert bleed_colour(pixels, alpha) is pixels

    def test_whole_numbers_of_alpha(self):
        pixels = np.random.default_rng(6).random((6, 5, 3), dtype=np.float32)
        levels = np.random.default_rng(7).integers(0, 9, (6, 5), dtype=np.uint8)
        expected = bleed_colour(pixels, levels / np.float32(255))
        assert np.array_equal(bleed_colour(pixels, levels), expected)
        assert np.array_equal(bleed_colour(pixels, levels * np.uint16(257)), expected)

    def test_the_picture_is_not_changed(self):
        pixels = np.random.default_rng(8).random((16, 15, 3), dtype=np.float32)
        before = pixels.copy()
        bleed_colour(pixels, (pixels[..., 0] > 0.5).astype(np.float32))
        assert np.array_equal(pixels, before)

    def test_alpha_that_is_not_finite(self):
        with pytest.raises(ImageError, match="not finite"):
            bleed_colour(np.zeros((2, 2, 3), np.float32), np.full((2, 2), np.nan))
