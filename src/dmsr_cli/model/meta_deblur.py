"""The meta-deblur module (MBM): a 15x15 convolution whose weights differ at every pixel.

Paper: section 3.1 and table B.7, rows 2-0 to 2-3 and 0-4. A conv over picture and kernel code
makes, for each pixel, the weights of the convolution that this pixel gets. The weights are linear
in the features:

    w_j(p) = sum over c', d of M[j, c', d] y_c'(p + d)  +  b_j

b holds the bias and all of the kernel code, which is the same everywhere, so 15 of the conv's 18
input channels come down to one number for a picture and tap. What is left has two forms.

Small windows on the CPU: make the weights, and weigh (`dynamic_convolution`).

All else never builds the weights. In out_c(p) = sum over j of w_j(p) y_c(p + j) the two sums can
change places:

    out_c(p) = sum over c', d of y_c'(p + d) Z[c', d, c](p)  +  (b correlated with y_c)(p)

where Z[c', d, c] is y_c correlated with the filter M[., c', d]: 27 filters shared by all pixels
and colours. That is 84 values for a pixel instead of the 225 weights and 675 products of a 15x15
window. The tests hold both forms to the paper's; benchmarks/meta_deblur.py compares their times.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmsr_cli.config import DMSRConfig
from dmsr_cli.degradation import KERNEL_WIDTHS, gaussian_kernel
from dmsr_cli.model.dynamic_convolution import dynamic_convolution
from dmsr_cli.model.layers import pad_replicate
from dmsr_cli.model.steering import LOW_PASS_SIZE, MIDDLE_RADIUS, REACH, low_pass, radii

COLOURS = 3
TAPS = 9
"""Taps of the 3x3 conv that makes the weights."""
CHANNELS = {"cuda": (8, torch.channels_last)}
"""What convolutions like on a device: channels in multiples of this, and a memory layout."""
STRIP_PIXELS = 2**14
"""Pixels that a CPU filters at a time where no gradient is asked: they stay in its cache."""
WEIGHED_UP_TO = 9
"""Largest window for which making the weights is the faster form on a CPU."""


class MetaDeblur(nn.Module):
    """Kernel-guided, spatially varying convolution of an RGB picture.

    All padding repeats the edge pixel: it keeps the kernel code constant up to the border and
    works at any size.
    """

    def __init__(self, config: DMSRConfig) -> None:
        super().__init__()
        self.size = config.deblur_size
        self.embed = nn.Linear(config.kernel_size**2, config.embedding)
        self.meta = nn.Conv2d(COLOURS + config.embedding, self.size**2, 3)
        with torch.no_grad():
            self.embed.weight.copy_(_kernel_basis(config.kernel_size, config.embedding))
            self.embed.bias.zero_()
            # The dynamic convolution starts as the identity: a plain SR network.
            self.meta.weight.normal_(std=1e-4)
            self.meta.bias.zero_()  # type: ignore[union-attr] # bias=True
            self.meta.bias[self.size**2 // 2] = 1  # type: ignore[index]
        self.listen(config.scale)

    @torch.no_grad()
    def listen(self, scale: int) -> None:
        """Let the last number of the kernel code sharpen as `model.steering` has it.

        The code's other numbers keep their effect. What the last one did is lost; after the
        principal directions that come before it, that is next to nothing.
        """
        size = min(self.size, LOW_PASS_SIZE)
        border, cut = (self.size - size) // 2, (LOW_PASS_SIZE - size) // 2
        blurred = low_pass(scale)[cut : cut + size, cut : cut + size]
        sharper = torch.zeros(self.size, self.size)
        sharper[self.size // 2, self.size // 2] = 1
        sharper[border : border + size, border : border + size] -= blurred / blurred.sum()
        radius = radii(math.isqrt(self.embed.in_features)).flatten()
        # A code of the size of the others, so that it learns at their pace.
        self.embed.weight[-1] = radius / MIDDLE_RADIUS
        self.embed.bias[-1] = -1
        self.meta.weight[:, -1] = 0
        self.meta.weight[:, -1, 1, 1] = REACH * sharper.flatten().to(self.meta.weight)

    def forward(self, image: Tensor, kernel: Tensor) -> Tensor:
        """Deblur (N, 3, H, W) as the blur kernel (N, K, K) asks; same shape, float32."""
        image = image.float().contiguous()
        padded, neighbours = pad_replicate(image, self.size // 2), _neighbours(image)
        constant = self._constant_weights(kernel)
        if image.device.type != "cpu" or torch.is_grad_enabled():
            return self._filter(padded, neighbours, constant)
        height = image.shape[-2]
        rows = max(1, STRIP_PIXELS // (image.shape[0] * image.shape[-1]))
        strips = []
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            window = padded[:, :, top : bottom + self.size - 1]
            strips.append(self._filter(window, neighbours[:, :, top:bottom], constant))
        return torch.cat(strips, dim=2)

    def _filter(self, padded: Tensor, neighbours: Tensor, constant: Tensor) -> Tensor:
        """The convolution of a strip (N, 3, H + size - 1, W + size - 1) in the faster form."""
        if padded.device.type == "cpu" and self.size <= WEIGHED_UP_TO:
            return dynamic_convolution(padded, self._weights(neighbours, constant))
        filters = self.meta.weight[:, :COLOURS].reshape(self.size**2, COLOURS * TAPS)
        responses = self._shared_filters(padded, filters)
        varying = (neighbours.unsqueeze(1) * responses.float()).sum(dim=2)
        return varying + _filter_each(padded, constant.view(-1, self.size, self.size))

    def _weights(self, neighbours: Tensor, constant: Tensor) -> Tensor:
        """The weights of each pixel (N, size^2, H, W), in fp32, from its neighbours (N, 27, H, W).

        One matrix product, in the layout that weighing wants: a conv and then another layout
        or dtype take several times longer.
        """
        with torch.autocast(neighbours.device.type, enabled=False):
            filters = self.meta.weight[:, :COLOURS].reshape(1, self.size**2, -1)
            filters = filters.expand(neighbours.shape[0], -1, -1)
            weights = torch.baddbmm(constant.unsqueeze(-1), filters, neighbours.flatten(2))
            return weights.view(*weights.shape[:2], *neighbours.shape[-2:])

    def _shared_filters(self, padded: Tensor, filters: Tensor) -> Tensor:
        """Correlate each colour with all filters (size^2, F): (N, 3, F, H, W).

        A conv with one input channel is slow everywhere. The horizontal taps become channels
        (a shifted view for each), and a conv of size x 1 does the rest.
        """
        multiple, layout = CHANNELS.get(padded.device.type, (1, torch.contiguous_format))
        extra_taps, extra_filters = -self.size % multiple, -filters.shape[1] % multiple
        padded = F.pad(padded, (0, extra_taps))  # these zeros meet the weights' zeros
        count, colours, height, width = padded.shape
        shifted = padded.reshape(count * colours, 1, height, width)
        shifted = shifted.unfold(3, self.size + extra_taps, 1)
        shifted = shifted.squeeze(1).permute(0, 3, 1, 2)  # (N*3, size, H + 2r, W)
        weight = filters.t().reshape(-1, self.size, self.size).transpose(1, 2).unsqueeze(-1)
        weight = F.pad(weight, (0, 0, 0, 0, 0, extra_taps, 0, extra_filters))
        responses = F.conv2d(shifted.contiguous(memory_format=layout), weight)
        responses = responses[:, : filters.shape[1]].contiguous(memory_format=layout)
        return responses.view(count, colours, *responses.shape[1:])

    def _constant_weights(self, kernel: Tensor) -> Tensor:
        """What bias and kernel code add to the weights of each picture: (N, size^2), in fp32."""
        with torch.autocast(kernel.device.type, enabled=False):
            code = self.embed(kernel.float().flatten(1))  # (N, embedding)
            code_filters = self.meta.weight[:, COLOURS:].sum(dim=(2, 3))  # (size^2, embedding)
            constant: Tensor = self.meta.bias + code @ code_filters.t()
            return constant


def _filter_each(padded: Tensor, filters: Tensor) -> Tensor:
    """Correlate each picture with its own filter (N, size, size), in fp32: all passes here."""
    with torch.autocast(padded.device.type, enabled=False):
        planes = padded.transpose(0, 1)  # pictures become groups
        filtered: Tensor = F.conv2d(planes, filters.unsqueeze(1), groups=filters.shape[0])
        return filtered.transpose(0, 1)


def _neighbours(image: Tensor) -> Tensor:
    """The 3x3 neighbourhood of each pixel in all colours: (N, 27, H, W), colour-major."""
    padded = pad_replicate(image, 1)
    height, width = image.shape[-2:]
    shifts = [
        padded[:, :, row : row + height, column : column + width]
        for row in range(3)
        for column in range(3)
    ]
    return torch.stack(shifts, dim=2).flatten(1, 2)


def _kernel_basis(size: int, components: int) -> Tensor:
    """Principal directions of the training kernels, (components, size^2): how FC starts."""
    kernels = gaussian_kernel(torch.linspace(*KERNEL_WIDTHS, 500), size).flatten(1).double()
    _, _, directions = torch.linalg.svd(kernels - kernels.mean(dim=0), full_matrices=True)
    basis: Tensor = directions[:components]
    # A singular vector's sign is arbitrary; the largest entry is made positive.
    signs = basis.gather(1, basis.abs().argmax(dim=1, keepdim=True)).sign()
    oriented: Tensor = basis * signs
    return oriented.float()
