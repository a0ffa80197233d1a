"""How far the colours of a result are from those of its input: means of blocks, in levels of 255.

    python benchmarks/colour.py --data B100 [--scales 2 3 4] [--pictures N] [--noise 0 5 15]

Inputs are 8-bit, as files are: flat colours and ramps with noise, the pictures of --data as they
are, and these degraded by each kernel width and noise level. Compared are the means of 32x32 blocks
of the input, and those of the result, in each channel. Printed is, for each group, what bicubic
gives, the network alone, dmsr, and the true picture, which says how far a perfect result would be;
the PSNR; and, for grey inputs, the largest difference between the channels.

Blocks with more than 1 % of clipped values stand apart where there is noise: clipping has moved
their means, and the true picture is not within a level of them either.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmsr_cli import Model, estimate, load_model, read_image, upscale
from dmsr_cli.degradation import (
    bicubic_upsample,
    crop_to_multiple,
    degrade,
    gaussian_kernel,
    to_8bit,
)
from dmsr_cli.images import find_images
from dmsr_cli.metrics import psnr

Values = NDArray[Any]
BLOCK = 32
CLIPPED_SHARE = 0.01
KERNEL_WIDTHS = (0.2, 1.3, 2.6)
FLAT_SIDE = 96
GREYS = (0, 4, 16, 64, 128, 192, 240, 255)
COLOURS = (
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 255, 255), (255, 0, 255), (255, 255, 0)),
    *((4, 0, 8), (250, 255, 245)),
)
SEEDED_COLOURS = 14


@dataclass(frozen=True)
class Sample:
    """An input, and what it was made from."""

    group: str
    lr: Tensor
    """(1, 3, h, w)."""
    hr: Tensor | None
    """The true picture (1, 3, h * scale, w * scale), if there is one."""
    noisy: bool


@dataclass
class Found:
    """What a method did to a group of inputs."""

    drifts: list[Values] = field(default_factory=list)
    """Of each block and channel, in levels."""
    clipped: list[Values] = field(default_factory=list)
    """Whether that block and channel is one of those that stand apart."""
    psnrs: list[float] = field(default_factory=list)
    tints: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders of HR pictures")
    parser.add_argument("--pictures", type=int, help="so many of each folder, spread over it")
    parser.add_argument("--model", default="dmsr-lite")
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 5.0, 15.0])
    parser.add_argument("--flat", type=int, help="so many flat colours and ramps only")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    pictures = [read(path) for folder in options.data for path in some(folder, options.pictures)]
    for scale in options.scales:
        model = load_model(options.model, options.device, scale=scale)
        print(f"{model.name}: drift of block means in levels\n")
        found: dict[tuple[str, str], Found] = defaultdict(Found)
        for sample in [
            *flat_samples(scale, options.noise, options.flat),
            *natural_samples(pictures, scale, options.noise),
        ]:
            for method, result in results(sample, model):
                measure(found[sample.group, method], sample, result, scale)
        print_table(found)
        print()


def some(folder: Path, count: int | None) -> list[Path]:
    """`count` pictures of a folder at equal distances, or all."""
    paths = find_images(folder)
    return paths if count is None else paths[:: max(1, len(paths) // count)][:count]


def read(path: Path) -> Tensor:
    return torch.from_numpy(read_image(path).pixels).permute(2, 0, 1).unsqueeze(0)


def flat_samples(scale: int, noise_levels: list[float], count: int | None) -> Iterator[Sample]:
    """One colour all over, and ramps from one to another."""
    random = np.random.default_rng(0)
    greys = [(grey, grey, grey) for grey in GREYS]
    colours = [*COLOURS, *random.integers(0, 256, (SEEDED_COLOURS, 3)).tolist()]
    pairs = random.integers(0, 256, (4, 2, 3)).tolist()
    ends = [*(("grey", (grey, grey)) for grey in greys), ("grey", (greys[0], greys[-1]))]
    ends += [("flat", (colour, colour)) for colour in colours] + [("flat", pair) for pair in pairs]
    generator = torch.Generator().manual_seed(0)
    for name, (start, end) in ends[:: max(1, len(ends) // count)][:count] if count else ends:
        share = torch.linspace(0, 1, FLAT_SIDE).expand(1, 3, FLAT_SIDE, FLAT_SIDE)
        first, last = (torch.tensor(colour).view(1, 3, 1, 1) / 255 for colour in (start, end))
        clean = first + share * (last - first)
        hr = clean.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
        for level in noise_levels if name == "flat" else [0.0]:
            noise = torch.randn(clean.shape, generator=generator) * (level / 255)
            yield Sample(f"{name}, noise {level:g}", to_8bit(clean + noise), hr, level > 0)


def natural_samples(
    pictures: list[Tensor], scale: int, noise_levels: list[float]
) -> Iterator[Sample]:
    """Photographs as they are, and small, blurred and noisy."""
    for number, picture in enumerate(pictures):
        yield Sample("as they are", picture, None, False)
        hr = crop_to_multiple(picture, scale)
        for level in noise_levels:
            for width in KERNEL_WIDTHS:
                generator = torch.Generator().manual_seed(number)
                lr = to_8bit(degrade(hr, gaussian_kernel(width), scale, level, generator))
                yield Sample(f"degraded, noise {level:g}", lr, hr, level > 0)


def results(sample: Sample, model: Model) -> Iterator[tuple[str, Tensor]]:
    """8-bit results (1, 3, H, W) by what made them."""
    pixels = np.ascontiguousarray(sample.lr[0].permute(1, 2, 0).numpy())
    degradation = estimate(pixels, model)
    yield "bicubic", to_8bit(bicubic_upsample(sample.lr, model.scale))
    for method, colours in (("network alone", False), ("dmsr", True)):
        levels = upscale(pixels, model, degradation, dtype=np.uint8, colours=colours)
        yield method, torch.from_numpy(levels).permute(2, 0, 1).unsqueeze(0) / 255
    if sample.hr is not None:
        yield "true picture", sample.hr


def measure(found: Found, sample: Sample, result: Tensor, scale: int) -> None:
    """Add what one result tells."""
    before, after = block_means(sample.lr, BLOCK), block_means(result, BLOCK * scale)
    clipped = block_means(((sample.lr <= 0) | (sample.lr >= 1)).float(), BLOCK)
    found.drifts.append((after - before) * 255)
    found.clipped.append((clipped > CLIPPED_SHARE) & sample.noisy)
    if sample.hr is not None and sample.group.startswith("degraded"):
        found.psnrs.append(psnr(result, sample.hr, scale))
    if sample.group.startswith("grey"):
        found.tints.append(float((result.amax(dim=1) - result.amin(dim=1)).max()) * 255)


def block_means(picture: Tensor, side: int) -> Values:
    """Means of blocks of that side; the last ones reach to the border and overlap others."""
    blocks = [
        picture[0, :, top : top + side, left : left + side].double().mean(dim=(1, 2))
        for top in starts(picture.shape[-2], side)
        for left in starts(picture.shape[-1], side)
    ]
    return torch.stack(blocks).flatten().numpy()


def starts(length: int, side: int) -> list[int]:
    """Where blocks begin that cover a length."""
    return [*range(0, length - side, side), max(0, length - side)]


def print_table(found: dict[tuple[str, str], Found]) -> None:
    """One row for each group and method, and one for the blocks that stand apart."""
    print("| input | result | blocks | mean | 99 % | largest | > 1 level | PSNR | tint |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (group, method), measured in found.items():
        drifts = np.abs(np.concatenate(measured.drifts))
        clipped = np.concatenate(measured.clipped)
        likeness = mean_text(measured.psnrs) if method != "true picture" else ""
        tint = f"{max(measured.tints):.0f}" if measured.tints else ""
        for name, of_name in ((group, drifts[~clipped]), (f"{group}, clipped", drifts[clipped])):
            if of_name.size:
                print(
                    f"| {name} | {method} | {of_name.size // 3} | {of_name.mean():.2f} | "
                    f"{np.percentile(of_name, 99):.2f} | {of_name.max():.2f} | "
                    f"{(of_name > 1).mean():.2%} | {likeness if name == group else ''} | {tint} |",
                    flush=True,
                )


def mean_text(values: list[float]) -> str:
    return f"{sum(values) / len(values):.3f}" if values else ""


if __name__ == "__main__":
    main()
