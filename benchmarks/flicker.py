"""How much the frames of a clip flicker, by what of the degradation they share.

    python benchmarks/flicker.py --data Set5 [--scale 4] [--noise 0 5 15] [--frames 8]

Each picture of --data becomes a clip twice: of a still scene, and of one that moves by an HR pixel
with each frame. All frames are degraded alike and have noise of their own. Flicker is the root mean
square of the difference between consecutive frames, in levels of 255, once the known movement is
undone; its ratio is to that of the frames enlarged bicubically. Printed are means over the clips.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmsr_cli import Degradation, Model, estimate, load_model, read_image, upscale
from dmsr_cli.degradation import bicubic_upsample, degrade, gaussian_kernel, to_8bit
from dmsr_cli.images import find_images
from dmsr_cli.metrics import psnr

Picture = NDArray[np.float32]
KERNEL_WIDTH = 1.3
BICUBIC = "bicubic"
SCENES = {"still": 0, "moving": 1}
"""HR pixels that the scene moves with each frame."""

METHODS: dict[str, Callable[[Degradation, Degradation], Degradation]] = {
    "each frame by itself": lambda own, first: own,
    "kernel of the first": lambda own, first: replace(own, kernel=first.kernel),
    "kernel and noise level of the first": lambda own, first: replace(
        own.with_noise_level(first.noise_level), kernel=first.kernel
    ),
    "all of the first": lambda own, first: first,
}
"""What guides a frame, from its own degradation and that of the first frame."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="HR pictures")
    parser.add_argument("--pictures", type=int, help="so many of --data only")
    parser.add_argument("--model", default="dmsr-lite")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 5.0, 15.0])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--side", type=int, default=64, help="of a frame, in LR pixels")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    model = load_model(options.model, options.device, scale=options.scale)
    pictures = [read(path) for path in find_images(options.data)[: options.pictures]]
    print(f"{model.name}, {options.data.name}, kernel width {KERNEL_WIDTH:g}\n")
    print("| scene | noise | degradation | PSNR | flicker | ratio |")
    print("|---|---|---|---|---|---|")
    for scene, step in SCENES.items():
        for level in options.noise:
            found: dict[str, list[tuple[float, float]]] = {}
            for picture in pictures:
                truth = clip_of(picture, options.frames, step, options.side * model.scale)
                for name, scores in scores_of(truth, step, level, model).items():
                    found.setdefault(name, []).append(scores)
            means = {name: np.mean(scores, axis=0) for name, scores in found.items()}
            for name, (likeness, flicker) in means.items():
                before = means[BICUBIC][1]
                ratio = f"{flicker / before:.3f}" if before else ""
                print(
                    f"| {scene} | {level:g} | {name} | {likeness:.3f} | {flicker:.3f} | {ratio} |",
                    flush=True,
                )


def read(path: Path) -> Tensor:
    return torch.from_numpy(read_image(path).pixels).permute(2, 0, 1).unsqueeze(0)


def clip_of(picture: Tensor, frames: int, step: int, side: int) -> list[Tensor]:
    """HR frames (1, 3, h, w) from the picture's middle, no larger than `side` and it allow."""
    height, width = picture.shape[-2:]
    reach = (frames - 1) * step
    rows, columns = min(side, height), min(side, width - reach)
    top, left = (height - rows) // 2, (width - reach - columns) // 2
    lefts = [left + number * step for number in range(frames)]
    return [picture[..., top : top + rows, left : left + columns] for left in lefts]


def scores_of(
    truth: list[Tensor], step: int, level: float, model: Model
) -> dict[str, tuple[float, float]]:
    """PSNR and flicker of each method on one clip."""
    generator = torch.Generator().manual_seed(0)
    scale = model.scale
    height, width = (side // scale * scale for side in truth[0].shape[-2:])
    truth = [frame[..., :height, :width] for frame in truth]
    kernel = gaussian_kernel(KERNEL_WIDTH)
    lr = [to_8bit(degrade(frame, kernel, scale, level, generator)) for frame in truth]
    pixels = [np.ascontiguousarray(frame[0].permute(1, 2, 0).numpy()) for frame in lr]
    own = [estimate(frame, model) for frame in pixels]
    results = {BICUBIC: [to_8bit(bicubic_upsample(frame, scale)) for frame in lr]}
    for name, guide in METHODS.items():
        results[name] = [
            restored(frame, model, guide(degradation, own[0]))
            for frame, degradation in zip(pixels, own, strict=True)
        ]
    return {
        name: (
            float(np.mean([psnr(*pair, scale) for pair in zip(frames, truth, strict=True)])),
            flicker_of(frames, step, scale),
        )
        for name, frames in results.items()
    }


def restored(pixels: Picture, model: Model, degradation: Degradation) -> Tensor:
    levels = upscale(pixels, model, degradation, dtype=np.uint8)
    return torch.from_numpy(levels).permute(2, 0, 1).unsqueeze(0) / 255


def flicker_of(frames: list[Tensor], step: int, border: int) -> float:
    """Root mean square difference of consecutive frames in levels, the movement undone."""
    inner = [frame[..., border:-border, border:-border] for frame in frames]
    squares = [
        (later[..., : later.shape[-1] - step] - earlier[..., step:]).square().mean().item()
        for earlier, later in itertools.pairwise(inner)
    ]
    return float(np.sqrt(np.mean(squares))) * 255


if __name__ == "__main__":
    main()
