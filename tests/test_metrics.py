"""PSNR and SSIM against scikit-image."""

import math

import numpy as np
import pytest
import skimage.color
import skimage.metrics
import torch

from dmsr_cli.metrics import luma, psnr, ssim

SIZES = [(11, 11), (24, 31), (40, 17)]


def pair(height: int, width: int, count: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth picture and a noisy copy of it, so that SSIM is neither 0 nor 1."""
    generator = torch.Generator().manual_seed(height * 100 + width)
    rows, columns = torch.meshgrid(
        torch.linspace(0, 6, height), torch.linspace(0, 4, width), indexing="ij"
    )
    waves = torch.stack((rows.sin(), columns.cos(), (rows + columns).sin())) / 3 + 0.5
    hr = waves.expand(count, -1, -1, -1)
    noise = torch.randn(count, 3, height, width, generator=generator)
    levels = torch.linspace(0.05, 0.2, count).view(-1, 1, 1, 1)
    return (hr + levels * noise).clamp(0, 1), hr


def luma_of(image: torch.Tensor) -> np.ndarray:
    return skimage.color.rgb2ycbcr(image[0].permute(1, 2, 0).double().numpy())[..., 0]


def test_luma():
    ends = torch.tensor([[0.0, 0, 0], [1, 1, 1]]).view(2, 3, 1, 1)
    assert luma(ends).flatten().tolist() == pytest.approx([16, 235], abs=1e-4)
    restored, _ = pair(24, 31)
    np.testing.assert_allclose(luma(restored.double())[0].numpy(), luma_of(restored), atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_psnr(size):
    restored, hr = pair(*size)
    expected = skimage.metrics.peak_signal_noise_ratio(
        luma_of(hr), luma_of(restored), data_range=255
    )
    assert psnr(restored, hr) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_ssim(size):
    restored, hr = pair(*size)
    _, similarity = skimage.metrics.structural_similarity(
        *(luma_of(restored), luma_of(hr)),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        full=True,
    )
    expected = similarity[5:-5, 5:-5].mean()
    assert 0.05 < expected < 0.95
    assert ssim(restored, hr) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_the_border_is_cropped(metric):
    restored, hr = pair(30, 26)
    damaged = restored.clone()
    damaged[..., :4, :] = damaged[..., -4:, :] = 0
    damaged[..., :, :4] = damaged[..., :, -4:] = 1
    inner = (..., slice(4, -4), slice(4, -4))
    assert metric(damaged, hr, border=4) == metric(restored[inner], hr[inner])
    assert metric(damaged, hr, border=3) < metric(restored, hr, border=3)


def test_equal_pictures():
    _, hr = pair(20, 20)
    assert psnr(hr, hr) == math.inf
    assert ssim(hr, hr) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_a_batch_gives_the_mean(metric):
    restored, hr = pair(20, 23, count=3)
    alone = [metric(restored[i : i + 1], hr[i : i + 1]) for i in range(3)]
    assert max(alone) - min(alone) > 0.01
    assert metric(restored, hr) == pytest.approx(sum(alone) / 3, abs=1e-9)


def test_too_small_for_ssim():
    restored, hr = pair(18, 20)
    ssim(restored, hr, border=3)
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(restored, hr, border=4)
