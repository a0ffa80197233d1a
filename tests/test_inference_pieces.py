"""The stages in pieces: the same numbers as on the whole picture, however it is cut."""

import dataclasses

import pytest
import torch

from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.inference import pieces
from dmsr_cli.inference.pieces import extracted, features_of, rendered
from dmsr_cli.model import DMSR
from dmsr_cli.model.layers import ChannelAttention
from tiny_weights import with_strong_attention

SIZES = [(1, 1), (1, 17), (17, 1), (7, 13), (23, 29)]
PIECES = [1, 29, 100, 10_000]


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def random_inputs(height: int, width: int, count: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """LR pictures and noise maps."""
    generator = torch.Generator().manual_seed(0)
    lr = torch.rand(count, 3, height, width, generator=generator)
    return lr, torch.randn(count, 3, height, width, generator=generator) / 20


class TestFeatures:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("pixels", PIECES)
    def test_equal_the_whole(self, tiny_model, monkeypatch, size, pixels):
        monkeypatch.setitem(pieces.BODY_PIXELS, "cpu", pixels)
        restorer, inputs = with_strong_attention(tiny_model()).restorer, random_inputs(*size)
        features, gates = features_of(restorer, *inputs)
        torch.testing.assert_close(features, restorer.body(*inputs), atol=1e-5, rtol=1e-5)
        assert len(gates) == sum(len(group.blocks) for group in restorer.groups)

    def test_the_inputs_stay_as_they_are(self, tiny_model):
        inputs = random_inputs(9, 11)
        before = [tensor.clone() for tensor in inputs]
        features_of(tiny_model().restorer, *inputs)
        assert all(map(torch.equal, inputs, before))

    def test_given_gates_make_it_local(self, tiny_model):
        """With the whole picture's gates, a part with its surroundings gives its own pixels."""
        restorer = with_strong_attention(tiny_model()).restorer
        lr, noise_map = random_inputs(40, 50)
        whole, gates = features_of(restorer, lr, noise_map)
        part = (..., slice(8, 40), slice(10, 44))
        features, used = features_of(restorer, lr[part], noise_map[part], gates)
        assert used == gates
        inner = restorer.body_radius
        assert inner < 16
        torch.testing.assert_close(
            features[..., inner:, inner:-inner],
            whole[part][..., inner:, inner:-inner],
            atol=1e-5,
            rtol=1e-5,
        )
        with_own_gates, _ = features_of(restorer, lr[part], noise_map[part])
        assert (with_own_gates - features).abs().max() > 1e-3

    @pytest.mark.parametrize("count", [1, 3])
    def test_means_are_shared_and_leave_out_margins(self, tiny_model, count):
        restorer = with_strong_attention(tiny_model()).restorer
        inputs = random_inputs(12, 14, count)
        seen = []
        gate_of = ChannelAttention.gate

        def recording(self, mean):
            seen.append(mean)
            return gate_of(self, mean)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ChannelAttention, "gate", recording)
            _, gates = features_of(restorer, *inputs, margin=3)
        block = restorer.groups[0].blocks[0]
        start = restorer.head(restorer.denoise(torch.cat(inputs, dim=1)))
        residual = block.conv2(torch.relu(block.conv1(start)))
        expected = residual[..., 3:-3, 3:-3].mean(dim=(0, 2, 3))[None]
        torch.testing.assert_close(seen[0], expected, atol=1e-6, rtol=1e-5)
        assert {gate.shape[0] for gate in gates} == {1}

    def test_progress(self, tiny_model):
        shares = []
        features_of(tiny_model().restorer, *random_inputs(9, 11), on_progress=shares.append)
        assert shares == sorted(set(shares))
        assert shares[-1] == 1


class TestRendering:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("pixels", PIECES)
    @pytest.mark.parametrize(("scale", "window"), [(2, 15), (3, 7), (4, 7), (4, 1)])
    def test_equals_the_whole(self, tiny_config, monkeypatch, size, pixels, scale, window):
        monkeypatch.setitem(pieces.RENDER_PIXELS, "cpu", pixels)
        torch.manual_seed(0)
        restorer = DMSR(dataclasses.replace(tiny_config(scale), deblur_size=window)).restorer
        for parameter in restorer.deblur.meta.parameters():  # it starts as the identity
            parameter.add_(torch.randn_like(parameter) / 20)
        features = torch.randn(1, restorer.head.out_channels, *size)
        kernel = gaussian_kernel(1.3)
        expected = restorer.render(features, kernel)
        found, counts = torch.zeros_like(expected), torch.zeros_like(expected)
        for box, picture in rendered(restorer, features, kernel):
            found[..., box.rows, box.columns] += picture
            counts[..., box.rows, box.columns] += 1
        assert (counts == 1).all()
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


class TestExtraction:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("pixels", PIECES)
    def test_equals_the_whole(self, tiny_model, size, pixels):
        extractor = tiny_model().extractor
        lr, _ = random_inputs(*size)
        logits, noise_map = extractor.maps(lr)
        total, found = torch.zeros(extractor.kernel_size**2), torch.full_like(lr, torch.nan)
        parts = extracted(extractor, *size, lambda box: lr[..., box.rows, box.columns], pixels)
        for box, sums, noise in parts:
            assert box.height * box.width <= pixels
            total += sums
            found[..., box.rows, box.columns] = noise
        torch.testing.assert_close(total, logits[0].sum(dim=(1, 2)), atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(found, noise_map, atol=1e-6, rtol=1e-5)
