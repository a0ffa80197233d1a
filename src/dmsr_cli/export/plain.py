"""The network in operations that every ONNX runtime has, equal to the fast forms of `model`.

The fast form of the meta-deblur module works in strips and has weights that depend on the picture.
Here it is one convolution with fixed filters for each colour. In the sum of `model.meta_deblur`

    out_c(p) = sum over c', d of y_c'(p + d) Z[c', d, c](p)  +  (b correlated with y_c)(p)

b is the bias and a weighted sum of one filter for each number of the kernel code. So bias and code
become factors like the neighbours y_c'(p + d), of 1 + C_k filters more.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmsr_cli.model import DegradationExtractor, Restorer
from dmsr_cli.model.meta_deblur import COLOURS, TAPS, MetaDeblur

NEIGHBOURS = COLOURS * TAPS


class PlainExtractor(nn.Module):
    """LR picture to kernel and noise map, as a plain tuple."""

    def __init__(self, extractor: DegradationExtractor) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, h, w) to (N, K, K) and (N, 3, h, w)."""
        degradation = self.extractor(lr)
        return degradation.kernel, degradation.noise_map


class PlainRestorer(nn.Module):
    """LR picture and its degradation to the restored picture."""

    def __init__(self, restorer: Restorer) -> None:
        super().__init__()
        self.restorer = restorer
        self.deblur = PlainMetaDeblur(restorer.deblur)

    def forward(self, lr: Tensor, kernel: Tensor, noise_map: Tensor) -> Tensor:
        """(N, 3, h, w), (N, K, K), (N, 3, h, w) to (N, 3, h * scale, w * scale)."""
        blurred = self.restorer.reconstruct(self.restorer.body(lr, noise_map))
        restored: Tensor = self.restorer.output(_pad(self.deblur(blurred, kernel), 1))
        return restored


class PlainMetaDeblur(nn.Module):
    """`MetaDeblur` as convolutions with fixed filters."""

    filters: Tensor
    shifts: Tensor

    def __init__(self, deblur: MetaDeblur) -> None:
        super().__init__()
        self.size = deblur.size
        self.embed = deblur.embed
        weight = deblur.meta.weight.detach()
        bias = torch.zeros(self.size**2) if deblur.meta.bias is None else deblur.meta.bias.detach()
        filters = torch.cat(
            (
                weight[:, :COLOURS].flatten(1),  # for each neighbour
                bias[:, None],
                weight[:, COLOURS:].sum(dim=(2, 3)),  # for each number of the code
            ),
            dim=1,
        )
        self.register_buffer("filters", filters.t().reshape(-1, 1, self.size, self.size).clone())
        self.register_buffer("shifts", torch.eye(NEIGHBOURS).view(NEIGHBOURS, COLOURS, 3, 3))

    def forward(self, image: Tensor, kernel: Tensor) -> Tensor:
        """Deblur (N, 3, H, W) as the blur kernel (N, K, K) asks; same shape."""
        neighbours = F.conv2d(_pad(image, 1), self.shifts)
        code = F.pad(self.embed(kernel.flatten(1)), (1, 0), value=1.0)[:, :, None, None]
        padded = _pad(image, self.size // 2)
        colours = []
        for colour in range(COLOURS):  # one after the other: the responses are large
            responses = F.conv2d(padded[:, colour : colour + 1], self.filters)
            varying = (responses[:, :NEIGHBOURS] * neighbours).sum(dim=1, keepdim=True)
            constant = (responses[:, NEIGHBOURS:] * code).sum(dim=1, keepdim=True)
            colours.append(varying + constant)
        return torch.cat(colours, dim=1)


def _pad(image: Tensor, width: int) -> Tensor:
    """As `model.layers.pad_replicate`, in the one operation that ONNX has for it."""
    return F.pad(image, (width, width, width, width), mode="replicate")
