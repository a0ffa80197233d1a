"""The degradation extractor (DE): LR picture to blur kernel and noise map.

Paper: section 3.2, figure 3, table B.6.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmsr_cli.config import DMSRConfig
from dmsr_cli.degradation import KERNEL_WIDTHS, gaussian_kernel
from dmsr_cli.model.layers import RESIDUAL_START, ResidualBlock, conv3x3, spatial_mean

HIGH_PASS_GAIN = 3.0
"""Fine detail is weaker than brightness by more than this."""


class Degradation(NamedTuple):
    """What was done to a picture, as far as the network can tell."""

    kernel: Tensor
    """(N, K, K), non-negative, sums to 1, in HR pixels."""
    noise_map: Tensor
    """(N, 3, h, w): the noise that was added to each LR pixel, [0, 1] scale, signed."""


class DegradationExtractor(nn.Module):
    """Estimates kernel and noise map from the LR picture alone."""

    def __init__(self, config: DMSRConfig) -> None:
        super().__init__()
        channels = config.extractor_channels
        self.kernel_size = config.kernel_size
        self.radius = 1 + 2 * config.extractor_blocks + 2
        """How far, in LR pixels, an output of the branches sees."""
        self.head = conv3x3(3, channels)
        self.blocks = nn.Sequential(
            *(ResidualBlock(channels) for _ in range(config.extractor_blocks))
        )
        self.noise = conv3x3(channels, 3, gain=RESIDUAL_START)
        self.blur1 = conv3x3(channels, config.blur_channels)
        self.blur2 = conv3x3(config.blur_channels, config.kernel_size**2, gain=RESIDUAL_START)
        with torch.no_grad():
            _make_high_pass(self.head.weight)
            self.blur2.bias.copy_(_mean_kernel_logits(config.kernel_size))  # type: ignore[union-attr]

    def forward(self, lr: Tensor) -> Degradation:
        """Estimate the degradation of (N, 3, h, w); any h and w from 1 up."""
        logits, noise_map = self.maps(lr)
        return Degradation(self.kernel_of(spatial_mean(logits)), noise_map)

    def maps(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """What is local: kernel logits for each place (N, K*K, h, w), and the noise map.

        A picture can be taken in strips with a halo of `radius` pixels; the kernel then comes
        from the mean of the logits over all strips.
        """
        features = self.blocks(torch.relu_(self.head(lr)))
        logits = torch.relu_(self.blur2(torch.relu_(self.blur1(features))))
        return logits, self.noise(features).float()

    def kernel_of(self, mean_logits: Tensor) -> Tensor:
        """Softmax of (N, K*K) mean logits, in fp32: kernels (N, K, K) that sum to 1."""
        return F.softmax(mean_logits.float(), dim=1).view(-1, self.kernel_size, self.kernel_size)


def _make_high_pass(filters: Tensor) -> None:
    """Let filters (outputs, inputs, 3, 3) start blind to brightness, and louder for it.

    Blur and noise show in what is fine. In a picture that is a small part of the whole, and a
    network that starts from both learns the noise but hardly ever the blur (docs/experiments.md).
    """
    filters.sub_(filters.mean(dim=(2, 3), keepdim=True)).mul_(HIGH_PASS_GAIN)


def _mean_kernel_logits(size: int) -> Tensor:
    """Logits of the mean training kernel, raised above the ReLU: where the estimate starts."""
    kernels = gaussian_kernel(torch.linspace(*KERNEL_WIDTHS, 100), size)
    logits = torch.log(kernels.mean(dim=0).flatten() + 1e-4)
    return logits - logits.min() + 0.5
