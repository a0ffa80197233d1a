"""The forward model of equation 1: blur, bicubic down-sampling, white Gaussian noise.

    LR = (HR convolved with the kernel), down-sampled by the scale, plus noise

Pictures are float tensors N x C x H x W with values nominally in [0, 1]; kernels are N x K x K,
non-negative, and sum to one; noise levels (the paper's sigma) are on the 0-255 scale.
Random draws take a `torch.Generator`, so that a seed gives the same pictures every time.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

KERNEL_SIZE = 15
"""Side of the blur kernel in HR pixels (paper, section 4.1)."""
KERNEL_WIDTHS = (0.2, 3.0)
"""Range of the Gaussian kernel's standard deviation in training, in HR pixels (section 4.1)."""
NOISE_LEVELS = (0.0, 75.0)
"""Range of the noise's standard deviation in training, on the 0-255 scale (section 4.1)."""


def gaussian_kernel(width: Tensor | float, size: int = KERNEL_SIZE) -> Tensor:
    """Isotropic Gaussian blur kernels.

    Args:
        width: standard deviation in pixels, greater than 0; a number, or a tensor of shape (N,).
        size: side of the kernel in pixels, odd.

    Returns:
        float32 of shape (N, size, size), each kernel summing to 1 (N = 1 for a number).
    """
    widths = torch.as_tensor(width).reshape(-1, 1)
    # Apple's GPUs have no float64.
    widths = widths.to(torch.float32 if widths.device.type == "mps" else torch.float64)
    offsets = torch.arange(size, dtype=widths.dtype, device=widths.device) - size // 2
    profile = torch.exp(-0.5 * (offsets / widths) ** 2)
    profile = profile / profile.sum(dim=1, keepdim=True)
    return (profile[:, :, None] * profile[:, None, :]).float()


def blur(image: Tensor, kernel: Tensor) -> Tensor:
    """Convolve each picture with its own kernel; borders are mirrored (edge pixel repeated).

    The paper does not say how borders are padded; mirroring invents no brightness.

    Args:
        image: (N, C, H, W), any H and W from 1 up.
        kernel: (N, K, K) or (1, K, K).

    Returns:
        (N, C, H, W).
    """
    radius = kernel.shape[-1] // 2
    padded = pad_symmetric(image, radius, radius, radius, radius)
    return _correlate_each(padded, kernel.flip(-1, -2), stride=1)


def bicubic_taps(scale: int) -> Tensor:
    """The antialiased bicubic filter that MATLAB's imresize uses to shrink by a whole number.

    The cubic convolution kernel with a = -0.5 (Keys, 1981), stretched by `scale`, sampled at the
    distances between HR pixel centres and the LR pixel centre.

    Returns:
        float64 of shape (4 * scale,), summing to 1. Tap i weighs HR pixel
        `scale * p + i - (3 * scale) // 2` for LR pixel p when scale is even; for odd scales
        one pixel further left, where the outermost weight is zero.
    """
    centre = (scale - 1) / 2
    first = _first_tap(scale)
    distance = (torch.arange(4 * scale, dtype=torch.float64) + first - centre).abs() / scale
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    taps = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
    return taps / taps.sum()


def _first_tap(scale: int) -> int:
    """Offset of the first tap from HR pixel `scale * p`: the filter reaches 2 * scale each way."""
    return -((3 * scale + 1) // 2)


def bicubic_downsample(image: Tensor, scale: int) -> Tensor:
    """Shrink by a whole number with MATLAB's antialiased bicubic filter, mirrored borders.

    Args:
        image: (N, C, H, W) with H and W multiples of `scale`.
        scale: at least 1; 1 returns the picture itself.

    Returns:
        (N, C, H / scale, W / scale).

    Raises:
        ValueError: H or W is not a multiple of `scale`.
    """
    if image.shape[-1] % scale or image.shape[-2] % scale:
        raise ValueError(f"size {tuple(image.shape[-2:])} is not a multiple of scale {scale}")
    if scale == 1:
        return image
    before = -_first_tap(scale)
    after = 4 * scale - before - scale
    padded = pad_symmetric(image, before, after, before, after)
    return _filter_separably(padded, bicubic_taps(scale), stride=scale)


def bicubic_upsample(image: Tensor, scale: int) -> Tensor:
    """Enlarge by a whole number as MATLAB's imresize does: the baseline of every comparison.

    Args:
        image: (N, C, H, W).
        scale: at least 1.

    Returns:
        (N, C, H * scale, W * scale); may overshoot the range of the input.
    """
    reach = 2  # LR pixels that the cubic filter sees beyond the border
    height, width = image.shape[-2:]
    padded = pad_symmetric(image, reach, reach, reach, reach)
    size = ((height + 2 * reach) * scale, (width + 2 * reach) * scale)
    # With antialias the filter has a = -0.5 as MATLAB's; without, a = -0.75.
    enlarged = F.interpolate(padded, size, mode="bicubic", antialias=True)
    cut = reach * scale
    return enlarged[..., cut : cut + height * scale, cut : cut + width * scale]


def degrade(
    image: Tensor,
    kernel: Tensor,
    scale: int,
    noise_level: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Equation 1 on whole pictures, float output that is not clipped (the paper's float LR).

    Args:
        image: HR, (N, C, H, W), H and W multiples of `scale`.
        kernel: (N, K, K) or (1, K, K).
        scale: magnification that is to be undone.
        noise_level: standard deviation of the noise, 0-255 scale.
        generator: source of the noise, on the CPU so that all devices get the same noise.
    """
    clean = bicubic_downsample(blur(image, kernel), scale)
    if noise_level == 0:
        return clean
    noise = torch.randn(clean.shape, generator=generator)
    return clean + noise.to(clean) * (noise_level / 255)


def to_8bit(image: Tensor) -> Tensor:
    """Clip to [0, 1] and round to 256 levels, as any 8-bit file does; stays float."""
    return (image.clamp(0, 1) * 255).round() / 255


def crop_to_multiple(image: Tensor, scale: int) -> Tensor:
    """Drop the last rows and columns so that height and width are multiples of `scale`."""
    height, width = image.shape[-2:]
    return image[..., : height - height % scale, : width - width % scale]


class PatchDegradation:
    """Equation 1 on training patches that carry a margin, at 1 / scale^2 of the cost.

    Blur and down-sampling are both linear and shift-invariant, so they can change places:
    the patch is first filtered with the bicubic taps at full resolution (once), then each
    kernel is applied with stride `scale`, only where an LR pixel is wanted. In the interior this
    equals `bicubic_downsample(blur(...))`; the margin keeps borders out of it.
    """

    def __init__(self, scale: int, kernel_size: int = KERNEL_SIZE) -> None:
        self.scale = scale
        self.kernel_size = kernel_size
        reach = max(-_first_tap(scale), 4 * scale + _first_tap(scale) - scale) + kernel_size // 2
        self.margin = -(-reach // scale) * scale
        """HR pixels that a patch needs around the area that is to be degraded."""

    def prefilter(self, patch: Tensor) -> Tensor:
        """Bicubic taps at full resolution: (N, C, H + 2 margin, W + 2 margin) to smaller."""
        rows, columns = (
            _bicubic_matrix(self.scale, length, patch.device) for length in patch.shape[-2:]
        )
        return rows @ patch @ columns.t()

    def downsample(self, prefiltered: Tensor, kernel: Tensor) -> Tensor:
        """Apply kernels (N, K, K) to what `prefilter` gave: the noise-free LR patch.

        Differentiable in the kernel, for the degradation consistency loss (equation 8).
        """
        start = self.margin + _first_tap(self.scale) - self.kernel_size // 2
        return _correlate_each(prefiltered[..., start:, start:], kernel.flip(-1, -2), self.scale)[
            ..., : self._lr_side(prefiltered, -2), : self._lr_side(prefiltered, -1)
        ]

    def _lr_side(self, prefiltered: Tensor, axis: int) -> int:
        hr_side = prefiltered.shape[axis] + 4 * self.scale - 1 - 2 * self.margin
        return hr_side // self.scale


def pad_symmetric(image: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Mirror the borders with the edge pixel repeated, as MATLAB's "symmetric"; any size."""
    rows = _mirrored_indices(image.shape[-2], top, bottom, image.device)
    columns = _mirrored_indices(image.shape[-1], left, right, image.device)
    return image.index_select(-2, rows).index_select(-1, columns)


def _mirrored_indices(length: int, before: int, after: int, device: torch.device) -> Tensor:
    positions = torch.arange(-before, length + after, device=device) % (2 * length)
    return torch.minimum(positions, 2 * length - 1 - positions)


def _filter_separably(image: Tensor, taps: Tensor, stride: int) -> Tensor:
    """Correlate rows, then columns, with the same taps; no padding."""
    count, channels, height, width = image.shape
    weight = taps.to(image)
    planes = image.reshape(count * channels, 1, height, width)
    planes = F.conv2d(planes, weight.view(1, 1, 1, -1), stride=(1, stride))
    planes = F.conv2d(planes, weight.view(1, 1, -1, 1), stride=(stride, 1))
    return planes.reshape(count, channels, *planes.shape[-2:])


@functools.lru_cache(maxsize=8)
def _bicubic_matrix(scale: int, length: int, device: torch.device) -> Tensor:
    """Correlation with `bicubic_taps` as a matrix (length - taps + 1, length), float32.

    On patches, two matrix products take a fraction of the time of two convs with one channel.
    Kept, because a copy to a GPU waits for it.
    """
    taps = bicubic_taps(scale).float()
    rows = length - len(taps) + 1
    # Each row is the one above, one place to the right: the period is one longer than a row.
    matrix = F.pad(taps, (0, rows)).repeat(rows)[: rows * length].view(rows, length)
    return matrix.to(device)


def _correlate_each(image: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """Correlate each picture (N, C, H, W) with its own kernel (N or 1, K, K); no padding."""
    kernel = kernel.expand(image.shape[0], -1, -1).unsqueeze(1)
    # Pictures become groups and colours become the batch: one call for N different kernels.
    planes = image.transpose(0, 1)
    return F.conv2d(planes, kernel, stride=stride, groups=image.shape[0]).transpose(0, 1)
