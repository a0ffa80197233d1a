"""Gates for tiles: exact while the picture is small, near enough when it is sampled."""

import pytest
import torch

from dmsr_cli.inference import attention
from dmsr_cli.inference.attention import sampled_gates, spread_patches
from dmsr_cli.inference.pieces import features_of
from tiny_weights import with_strong_attention

SIZES = [(1, 1), (1, 900), (900, 1), (40, 700), (300, 300), (501, 333)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pixels", [1, 5_000, 60_000])
def test_patches_lie_in_the_picture(size, pixels):
    boxes = spread_patches(*size, pixels)
    assert boxes
    assert len(set(boxes)) == len(boxes)
    side = attention.PATCH + 2 * attention.MARGIN
    for box in boxes:
        assert (box.height, box.width) == (min(side, size[0]), min(side, size[1]))
        assert 0 <= box.top <= size[0] - box.height
        assert 0 <= box.left <= size[1] - box.width
    assert len(boxes) == 1 or sum(box.height * box.width for box in boxes) <= pixels


@pytest.mark.parametrize("size", [(300, 300), (2000, 400), (400, 2000)])
def test_patches_are_spread(size):
    """No large part of the picture is without one, and what may be looked at is made use of."""
    boxes = spread_patches(*size, 40_000)
    assert sum(box.height * box.width for box in boxes) > 0.6 * 40_000
    for top in (0, size[0] // 2):
        for left in (0, size[1] // 2):
            rows, columns = range(top, top + size[0] // 2), range(left, left + size[1] // 2)
            here = [box for box in boxes if box.top in rows and box.left in columns]
            assert len(here) >= len(boxes) // 8


class TestGates:
    @pytest.fixture
    def inputs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A picture whose four quarters have nothing in common, and its noise."""
        generator = torch.Generator().manual_seed(0)
        lr = torch.rand(1, 3, 160, 200, generator=generator)
        lr[..., :80, :100] *= torch.tensor([1.0, 0.2, 0.1])[:, None, None]
        lr[..., 80:, 100:] = 0.3 + lr[..., 80:, 100:] / 10
        return lr, torch.randn(1, 3, 160, 200, generator=generator) / 20

    def gates(self, restorer, inputs, pixels, seen):
        def inputs_of(box):
            seen.append(box)
            return tuple(tensor[..., box.rows, box.columns] for tensor in inputs)

        with torch.inference_mode():
            return sampled_gates(restorer, 160, 200, inputs_of, pixels)

    def test_a_small_picture_is_taken_whole(self, tiny_model, inputs):
        restorer, seen = tiny_model().restorer, []
        found = self.gates(restorer, inputs, 160 * 200, seen)
        with torch.inference_mode():
            _, exact = features_of(restorer, *inputs)
        assert seen == [(0, 0, 160, 200)]
        assert all(map(torch.equal, found, exact))

    def test_a_sample_comes_near(self, tiny_model, inputs):
        restorer, seen = with_strong_attention(tiny_model()).restorer, []
        with torch.inference_mode():
            _, exact = features_of(restorer, *inputs)
            quarter = tuple(tensor[..., :80, :100] for tensor in inputs)
            _, of_quarter = features_of(restorer, *quarter)
        found = self.gates(restorer, inputs, 20_000, seen)
        assert len(seen) > 8

        def error(gates):
            return max((a - b).abs().max().item() for a, b in zip(gates, exact, strict=True))

        assert error(found) < 0.04
        assert error(of_quarter) > 2 * error(found)

    @pytest.mark.parametrize("missing", [1, attention.PATCH - 1])
    def test_a_patch_from_edge_to_edge_counts_whole(self, tiny_model, inputs, monkeypatch, missing):
        """Its margins are the picture's own edges, which the mean over the picture has, too."""
        side = attention.PATCH + 2 * attention.MARGIN
        margins, features_of = [], attention.features_of

        def recording(*arguments, margin):
            margins.append(margin)
            return features_of(*arguments, margin=margin)

        monkeypatch.setattr(attention, "features_of", recording)
        for strip in (side - missing, side):
            with torch.inference_mode():
                sampled_gates(
                    *(tiny_model().restorer, strip, 200),
                    lambda box: tuple(tensor[..., box.rows, box.columns] for tensor in inputs),
                    2000,
                )
        assert margins == [0, attention.MARGIN]

    def test_a_narrow_picture_has_no_margin_to_give(self, tiny_model):
        restorer = tiny_model().restorer
        narrow = (torch.rand(1, 3, 3, 900), torch.zeros(1, 3, 3, 900))
        with torch.inference_mode():
            gates = sampled_gates(
                *(restorer, 3, 900),
                lambda box: tuple(tensor[..., box.rows, box.columns] for tensor in narrow),
                500,
            )
        assert all(torch.isfinite(gate).all() for gate in gates)
