"""Where the means of the channel attention come from: PSNR of whole pictures, and error of tiles.

    python benchmarks/attention.py --data Set14 [--scale 4] [--windows 24 48 96] [--limit N]

A tile that takes its own means gives another result than the whole picture. Two ways out are
compared: means over the picture, which every tile is given (what dmsr does), and means in a window
around each place (Test-time Local Converter, Chu et al., ECCV 2022). PSNR is that of pictures
restored whole, degraded with kernel width 1.3 and noise 15 or 50. The error is that of the middle
of each picture when it is restored as a tile of 48 LR pixels that overlaps its neighbours as much
as it does by default: the share of 8-bit values more than one level off, and the largest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dmsr_cli import load_model, read_image
from dmsr_cli.degradation import crop_to_multiple, degrade, gaussian_kernel
from dmsr_cli.images import find_images
from dmsr_cli.metrics import psnr
from dmsr_cli.model.layers import ChannelAttention, spatial_mean
from dmsr_cli.tiling import Box

KERNEL_WIDTH, NOISE_LEVELS = 1.3, (15.0, 50.0)
TILE, CONTEXT = 48, 23
Means = Callable[[Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="dmsr-lite")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--windows", type=int, nargs="+", default=[24, 48, 96])
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    model = load_model(options.model, "cpu", scale=options.scale)
    restorer, extractor = model.network.restorer, model.network.extractor
    print(f"{model.name}, {options.data.name}: PSNR at noise 15 and 50; error of tiles")
    ways: dict[str, Means | None] = {"picture": None, "tile alone": spatial_mean_4d}
    ways |= {f"window {side}": window_mean(side) for side in options.windows}
    paths = find_images(options.data)[: options.limit]
    for name, means in ways.items():
        scores, counts = [], np.zeros(256, np.int64)
        for level in NOISE_LEVELS:
            generator = torch.Generator().manual_seed(0)
            values = []
            for path in paths:
                hr = torch.from_numpy(read_image(path).pixels).permute(2, 0, 1).unsqueeze(0)
                hr = crop_to_multiple(hr, model.scale)
                lr = degrade(hr, gaussian_kernel(KERNEL_WIDTH), model.scale, level, generator)
                with torch.inference_mode(), Attention(means) as attention:
                    kernel, noise_map = extractor(lr)
                    whole = restorer(lr, kernel, noise_map).clamp(0, 1)
                    core, outer = middle(*lr.shape[-2:])
                    attention.reuse = means is None
                    part = (..., outer.rows, outer.columns)
                    tile = restorer(lr[part], kernel, noise_map[part]).clamp(0, 1)
                inner = core.inside(outer).scaled(model.scale)
                core = core.scaled(model.scale)
                levels = [
                    (pixels[..., box.rows, box.columns] * 255).round()
                    for pixels, box in ((tile, inner), (whole, core))
                ]
                difference = (levels[0] - levels[1]).abs().long().flatten()
                counts += np.bincount(difference.numpy(), minlength=256)
                values.append(psnr(whole, hr, border=model.scale))
            scores.append(sum(values) / len(values))
        print(
            f"{name:10s}  {scores[0]:.2f}  {scores[1]:.2f}   "
            f"{counts[2:].sum() / counts.sum():8.3%}  {np.flatnonzero(counts).max():3d}",
            flush=True,
        )


class Attention:
    """Replaces the means of the channel attention; with `reuse`, by those of the run before."""

    def __init__(self, means: Means | None) -> None:
        self.means = means
        self.reuse = False
        self.seen: list[Tensor] = []
        self.forward = ChannelAttention.forward

    def __enter__(self) -> Attention:
        self.replay: Iterator[Tensor] | None = None
        ChannelAttention.forward = lambda module, features: self.gated(module, features)  # type: ignore[method-assign,assignment] # for as long as the context lasts
        return self

    def __exit__(self, *_: object) -> None:
        ChannelAttention.forward = self.forward  # type: ignore[method-assign]

    def gated(self, module: ChannelAttention, features: Tensor) -> Tensor:
        if self.reuse:
            self.replay = self.replay or iter(self.seen)
            means = next(self.replay)
        else:
            means = (self.means or spatial_mean_4d)(features)
            if self.means is None:
                self.seen.append(means)
        squeezed = torch.relu(module.squeeze(means))
        return features * torch.sigmoid(module.excite(squeezed))


def spatial_mean_4d(features: Tensor) -> Tensor:
    return spatial_mean(features)[:, :, None, None]


def window_mean(side: int) -> Means:
    """Means in a window around each pixel, or in the nearest whole window."""

    def mean(features: Tensor) -> Tensor:
        height, width = features.shape[-2:]
        rows, columns = min(side, height), min(side, width)
        means = F.avg_pool2d(features, (rows, columns), stride=1)
        missing = (height - means.shape[-2], width - means.shape[-1])
        edges = (missing[1] // 2, -(-missing[1] // 2), missing[0] // 2, -(-missing[0] // 2))
        return F.pad(means, edges, mode="replicate")

    return mean


def middle(height: int, width: int) -> tuple[Box, Box]:
    """A tile in the middle of a picture, and the same with its surroundings."""
    side = min(TILE, height, width)
    core = Box((height - side) // 2, (width - side) // 2, side, side)
    return core, core.grown(CONTEXT, height, width)


if __name__ == "__main__":
    main()
