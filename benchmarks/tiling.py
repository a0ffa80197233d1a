"""How far a tiled result is from the untiled one, in levels of 255.

    python benchmarks/tiling.py --data B100 --montage PHOTOGRAPHS [--scale 4] [--tiles 48 64 256]

Each picture of --data is degraded as the paper's grid has it and restored untiled and with each
tile; the photographs of --montage are put together to one large LR picture, which is hard: no
patch of it is like the rest. Printed is, for each tile, the share of 8-bit values that differ by
more than one level, the largest difference, and the PSNR between the two results.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dmsr_cli import Degradation, Model, estimate, load_model, read_image, upscale
from dmsr_cli.degradation import crop_to_multiple, degrade, gaussian_kernel, to_8bit
from dmsr_cli.images import find_images

Picture = NDArray[np.float32]
KERNEL_WIDTH, NOISE_LEVEL = 1.3, 15.0
WHOLE = 10**6
"""A tile larger than any picture: the body of the whole picture at once, whatever it takes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="HR pictures, degraded before they are restored")
    parser.add_argument("--montage", type=Path, help="photographs for one large LR picture")
    parser.add_argument("--megapixels", type=float, default=12.0, help="of the montage")
    parser.add_argument("--model", default="dmsr-lite")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--tiles", type=int, nargs="+", default=[48, 64, 96, 128, 256, 512, 1024])
    parser.add_argument("--overlap", type=int, help="default: what dmsr takes by itself")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--limit", type=int, help="so many pictures of --data only")
    options = parser.parse_args()
    model = load_model(
        options.model, options.device, scale=options.scale, precision=options.precision
    )
    print(f"{model.name} on {model.device}, {model.precision}")
    if options.data:
        print(f"\n{options.data.name}, LR degraded with [{KERNEL_WIDTH}, {NOISE_LEVEL}]")
        pictures = list(degraded(options.data, model.scale))[: options.limit]
        compare(model, lambda: iter(pictures), options.tiles, options.overlap)
    if options.montage:
        picture = montage(options.montage, options.megapixels)
        print(f"\nmontage, {picture.shape[1]}x{picture.shape[0]} LR pixels")
        compare(model, lambda: iter([picture]), options.tiles, options.overlap)


def compare(
    model: Model,
    pictures: Callable[[], Iterator[Picture]],
    tiles: list[int],
    overlap: int | None,
) -> None:
    """Print a line for each tile, over all pictures."""
    found: dict[int, list[NDArray[np.int64]]] = {tile: [] for tile in tiles}
    seconds = dict.fromkeys([0, *tiles], 0.0)
    for picture in pictures():
        degradation = estimate(picture, model)
        whole, seconds_whole = restored(picture, model, degradation, WHOLE, None)
        seconds[0] += seconds_whole
        for tile in tiles:
            shared = None if overlap is None else min(overlap, tile - 1)
            tiled, seconds_tiled = restored(picture, model, degradation, tile, shared)
            seconds[tile] += seconds_tiled
            differences = np.abs(tiled.astype(np.int16) - whole)
            found[tile].append(np.bincount(differences.ravel(), minlength=256))
    print("tile  > 1 level  largest   PSNR   time")
    for tile, counts in found.items():
        total = np.sum(counts, axis=0)
        levels = np.arange(len(total))
        squared = (total * levels**2).sum() / total.sum()
        likeness = 10 * math.log10(255**2 / squared) if squared else math.inf
        print(
            f"{tile:4d}  {total[2:].sum() / total.sum():8.4%}  {levels[total > 0].max():7d}  "
            f"{likeness:5.1f}  {seconds[tile] / seconds[0]:4.2f}x",
            flush=True,
        )


def restored(
    picture: Picture, model: Model, degradation: Degradation, tile: int, overlap: int | None
) -> tuple[NDArray[Any], float]:
    """The 8-bit result, and the seconds that it took."""
    started = time.perf_counter()
    result = upscale(picture, model, degradation, tile, overlap=overlap, dtype=np.uint8)
    return result, time.perf_counter() - started


def degraded(folder: Path, scale: int) -> Iterator[Picture]:
    """8-bit LR pictures."""
    generator = torch.Generator().manual_seed(0)
    for path in find_images(folder):
        hr = torch.from_numpy(read_image(path).pixels).permute(2, 0, 1).unsqueeze(0)
        hr = crop_to_multiple(hr, scale)
        lr = to_8bit(degrade(hr, gaussian_kernel(KERNEL_WIDTH), scale, NOISE_LEVEL, generator))
        yield np.ascontiguousarray(lr[0].permute(1, 2, 0).numpy())


def montage(folder: Path, megapixels: float) -> Picture:
    """Photographs side by side, 4 wide and 3 high, with noise."""
    height, width = (int(math.sqrt(megapixels * 1e6 / 12) * side) for side in (3, 4))
    result = np.zeros((height, width, 3), np.float32)
    paths = find_images(folder, recursive=True)
    top = number = 0
    while top < height:
        left, tallest = 0, height
        while left < width:
            pixels = read_image(paths[number * 7 % len(paths)]).pixels
            number += 1
            part = pixels[: height - top, : width - left]
            result[top : top + part.shape[0], left : left + part.shape[1]] = part
            left, tallest = left + part.shape[1], min(tallest, part.shape[0])
        top += tallest
    noise = np.random.default_rng(0).normal(0, NOISE_LEVEL / 255, result.shape)
    noisy: Picture = np.rint((result + noise).clip(0, 1) * 255).astype(np.float32) / 255
    return noisy


if __name__ == "__main__":
    main()
