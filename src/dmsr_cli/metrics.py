"""PSNR and SSIM as super-resolution papers measure them.

On the luma (Y) channel of BT.601 in studio range, after cropping a border of `scale` pixels.
Pictures are float tensors N x 3 x H x W, RGB in [0, 1].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
PEAK = 255.0


def luma(image: Tensor) -> Tensor:
    """BT.601 luma of RGB (N, 3, H, W) in [0, 1]: (N, H, W), 16 for black to 235 for white."""
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=image.dtype, device=image.device)
    return torch.einsum("c,nchw->nhw", weights, image) + 16


def psnr(restored: Tensor, hr: Tensor, border: int = 0) -> float:
    """Peak signal-to-noise ratio on luma, in dB; infinite for equal pictures.

    Args:
        restored: (N, 3, H, W) in [0, 1].
        hr: the same shape.
        border: pixels to crop on each side.

    Returns:
        The mean over the N pictures of each picture's PSNR.
    """
    left, right = _cropped_luma(restored, border), _cropped_luma(hr, border)
    errors = (left - right).square().mean(dim=(1, 2)).tolist()
    values = [10 * math.log10(PEAK**2 / error) if error else math.inf for error in errors]
    return sum(values) / len(values)


def ssim(restored: Tensor, hr: Tensor, border: int = 0) -> float:
    """Structural similarity on luma (Wang et al., 2004): Gaussian window 11x11, sigma 1.5.

    Only windows that lie inside the picture count. Arguments as for `psnr`.

    Raises:
        ValueError: what is left after cropping is smaller than the window.
    """
    left, right = _cropped_luma(restored, border), _cropped_luma(hr, border)
    if min(left.shape[1:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs {SSIM_WINDOW} pixels a side, not {tuple(left.shape[1:])}")
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    mean_left, mean_right = _window_mean(left), _window_mean(right)
    variance_left = _window_mean(left**2) - mean_left**2
    variance_right = _window_mean(right**2) - mean_right**2
    covariance = _window_mean(left * right) - mean_left * mean_right
    similarity = ((2 * mean_left * mean_right + c1) * (2 * covariance + c2)) / (
        (mean_left**2 + mean_right**2 + c1) * (variance_left + variance_right + c2)
    )
    return similarity.mean(dim=(1, 2)).mean().item()


def _cropped_luma(image: Tensor, border: int) -> Tensor:
    y = luma(image.double())
    return y[:, border : y.shape[1] - border, border : y.shape[2] - border]


def _window_mean(planes: Tensor) -> Tensor:
    offsets = torch.arange(SSIM_WINDOW, dtype=planes.dtype, device=planes.device)
    profile = torch.exp(-0.5 * ((offsets - SSIM_WINDOW // 2) / SSIM_SIGMA) ** 2)
    profile = profile / profile.sum()
    filtered = F.conv2d(planes.unsqueeze(1), profile.view(1, 1, -1, 1))
    return F.conv2d(filtered, profile.view(1, 1, 1, -1)).squeeze(1)
