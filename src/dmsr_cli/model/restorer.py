"""The restorer: meta-denoise module, residual groups, up-sampling, meta-deblur module.

Paper: section 3.1, figure 2, table B.7.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmsr_cli.config import DMSRConfig
from dmsr_cli.model.layers import RESIDUAL_START, ResidualGroup, conv3x3, pad_replicate
from dmsr_cli.model.meta_deblur import MetaDeblur

COLOURS = 3


class Restorer(nn.Module):
    """Restores the HR picture from the LR picture and its degradation."""

    def __init__(self, config: DMSRConfig) -> None:
        super().__init__()
        self.scale = config.scale
        self.body_radius = config.body_radius
        self.render_radius = config.render_radius
        channels = config.channels
        self.denoise = nn.Conv2d(2 * COLOURS, channels, 1)
        self.head = conv3x3(channels, channels)
        self.groups = nn.Sequential(
            *(
                ResidualGroup(channels, config.blocks, config.reduction)
                for _ in range(config.groups)
            )
        )
        self.tail = conv3x3(channels, channels, gain=RESIDUAL_START)
        self.upsample = conv3x3(channels, config.upsampled_channels * config.scale**2)
        self.to_rgb = conv3x3(config.upsampled_channels, COLOURS)
        self.deblur = MetaDeblur(config)
        self.output = nn.Conv2d(COLOURS, COLOURS, 3)
        self._start_as_interpolation()

    def forward(self, lr: Tensor, kernel: Tensor, noise_map: Tensor) -> Tensor:
        """Restore.

        Args:
            lr: (N, 3, h, w), RGB, nominally in [0, 1].
            kernel: (N, K, K).
            noise_map: (N, 3, h, w).

        Returns:
            (N, 3, h * scale, w * scale), float32, not clipped.
        """
        return self.render(self.body(lr, noise_map), kernel)

    def body(self, lr: Tensor, noise_map: Tensor) -> Tensor:
        """Meta-denoise module and residual groups, all at LR size (equation 3)."""
        features = self.head(self.denoise(torch.cat((lr, noise_map), dim=1)))
        return features + self.tail(self.groups(features))  # type: ignore[no-any-return]

    def render(self, features: Tensor, kernel: Tensor) -> Tensor:
        """What comes after the body: up-sampling and meta-deblur module, at HR size; fp32."""
        deblurred = self.deblur(self.reconstruct(features), kernel)
        with torch.autocast(deblurred.device.type, enabled=False):
            restored: Tensor = self.output(pad_replicate(deblurred, 1))
        return restored

    def reconstruct(self, features: Tensor) -> Tensor:
        """Up-sample the features and turn them into a (still blurred) RGB picture."""
        upsampled = F.pixel_shuffle(torch.relu_(self.upsample(features)), self.scale)
        image: Tensor = self.to_rgb(upsampled)
        return image

    @torch.no_grad()
    def _start_as_interpolation(self) -> None:
        """Let the first three channels carry the picture: training starts from interpolation.

        The layers are the paper's; only where their weights start is chosen.
        """
        identity = torch.eye(COLOURS)
        self.denoise.weight[:COLOURS] = 0
        self.denoise.weight[:COLOURS, :COLOURS, 0, 0] = identity
        nn.init.zeros_(self.denoise.bias)  # type: ignore[arg-type] # bias=True
        for conv in (self.head, self.to_rgb):
            conv.weight[:COLOURS] *= RESIDUAL_START
            conv.weight[:COLOURS, :COLOURS, 1, 1] += identity
        self.output.weight.zero_()
        self.output.weight[:, :, 1, 1] = identity
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type] # bias=True
        taps = _linear_taps(self.scale)  # (s, 3)
        phases = torch.einsum("ai,bj->abij", taps, taps).flatten(0, 1)  # (s*s, 3, 3)
        # Channel c of the shuffled features comes from channels c*s*s to (c+1)*s*s - 1.
        weight = self.upsample.weight.view(-1, self.scale**2, *self.upsample.weight.shape[1:])
        for colour in range(COLOURS):
            weight[colour] *= RESIDUAL_START
            weight[colour, :, colour] += phases


def _linear_taps(scale: int) -> Tensor:
    """Linear interpolation as 3-tap filters, one for each sub-pixel position: (scale, 3)."""
    offset = (torch.arange(scale) + 0.5) / scale - 0.5  # from the LR pixel's centre, in (-.5, .5)
    return torch.stack(((-offset).clamp(min=0), 1 - offset.abs(), offset.clamp(min=0)), dim=1)
