"""The few layers that extractor and restorer share, and how their weights start."""

from __future__ import annotations

import torch
from torch import Tensor, nn

RESIDUAL_START = 0.1
"""The last conv of a residual branch starts this much smaller: deep stacks start near identity."""


def conv3x3(inputs: int, outputs: int, gain: float = 1.0) -> nn.Conv2d:
    """A 3x3 conv with bias and zero padding; He-normal weights times `gain`, bias 0."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    with torch.no_grad():
        conv.weight.mul_(gain)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type] # bias=True above
    return conv


class ResidualBlock(nn.Module):
    """conv - ReLU - conv with an identity skip: (N, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels, gain=RESIDUAL_START)

    def forward(self, features: Tensor) -> Tensor:
        """Add what the two convs find."""
        residual: Tensor = self.conv2(torch.relu_(self.conv1(features)))
        return features + residual


class ChannelAttention(nn.Module):
    """RCAN's channel attention: global mean, bottleneck of two biased 1x1 convs, sigmoid gate."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Weigh each channel of (N, C, H, W) by a gate in (0, 1)."""
        return features * self.gate(spatial_mean(features))

    def gate(self, mean: Tensor) -> Tensor:
        """The gate (N, C, 1, 1) of features whose mean over the picture is (N, C)."""
        squeezed = torch.relu(self.squeeze(mean[:, :, None, None]))
        return torch.sigmoid(self.excite(squeezed))


class ResidualChannelAttentionBlock(nn.Module):
    """conv - ReLU - conv - channel attention with an identity skip (RCAN's RCAB)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels, gain=RESIDUAL_START)
        self.attention = ChannelAttention(channels, reduction)

    def forward(self, features: Tensor) -> Tensor:
        """Add the gated residual."""
        residual: Tensor = self.attention(self.residual(features))
        return features + residual

    def residual(self, features: Tensor) -> Tensor:
        """The two convs, before the attention: the part that is local."""
        residual: Tensor = self.conv2(torch.relu_(self.conv1(features)))
        return residual


class ResidualGroup(nn.Module):
    """Several blocks, a tail conv, and a skip around them all."""

    def __init__(self, channels: int, blocks: int, reduction: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(ResidualChannelAttentionBlock(channels, reduction) for _ in range(blocks))
        )
        self.tail = conv3x3(channels, channels, gain=RESIDUAL_START)

    def forward(self, features: Tensor) -> Tensor:
        """Add what the blocks found."""
        residual: Tensor = self.tail(self.blocks(features))
        return features + residual


def spatial_mean(features: Tensor) -> Tensor:
    """Mean over the pixels of (N, C, H, W): (N, C), float32 whatever the features are.

    A sum over a view with the channels last, so that the gradient has that layout and this dtype:
    adding gradients of two layouts takes several times longer.
    """
    total = features.permute(0, 2, 3, 1).sum(dim=(1, 2), dtype=torch.float32)
    return total / (features.shape[-2] * features.shape[-1])


def pad_replicate(image: Tensor, width: int) -> Tensor:
    """Repeat the edge pixels of (N, C, H, W) `width` times on each side; any H and W from 1 up.

    Not `F.pad(mode="replicate")`: compiled, its gradient fails on channels-last pictures
    (seen with PyTorch 2.13).
    """
    for axis in (-2, -1):
        last = image.shape[axis] - 1
        shape = [-1, -1, -1, -1]
        shape[axis] = width
        first_edge, last_edge = (image.narrow(axis, place, 1).expand(shape) for place in (0, last))
        image = torch.cat((first_edge, image, last_edge), dim=axis)
    return image
