"""How a model follows --denoise and --kernel-width.

    python benchmarks/controls.py [MODEL ...] [--pictures FILE ...] [--side 48] [--noise 20]

A clean picture is blurred and shrunk, and gets noise that is known. Printed, for each model, means
over the pictures:

- for --denoise, the noise that is left, and what is gone, in levels of 255. The result is degraded
  once more as the picture was, without noise. Left is the share of the known noise that is in it;
  gone is the standard deviation of the input minus it: all that was taken away, be it noise or not.
  The blur takes some noise, too: what is left in the bicubic enlargement is all that could be.
- for --kernel-width, on the picture without noise, the gradient energy of the result: the mean
  square of the differences between neighbouring pixels, in levels of 255, squared.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmsr_cli import Model, estimate, load_model, read_image, upscale
from dmsr_cli.degradation import bicubic_upsample, degrade, gaussian_kernel

Picture = NDArray[np.float32]

SAMPLE = Path(__file__).parent.parent / "examples" / "streetsign.png"
MODELS = ("dmsr-lite-x2", "dmsr-lite-x3", "dmsr-lite-x4")
KERNEL_WIDTH = 1.3
"""Of the test picture's blur, in HR pixels."""
FACTORS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""For --denoise."""
WIDTHS = (0.3, 0.7, 1.1, 1.5, 1.9, 2.3, 2.7)
"""For --kernel-width."""


class Denoised(NamedTuple):
    """What became of the known noise, in levels of 255."""

    left: float
    gone: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--pictures", type=Path, nargs="+", default=[SAMPLE], help="HR, clean")
    parser.add_argument("--side", type=int, default=48, help="of the middle used, in LR pixels")
    parser.add_argument("--noise", type=float, default=20.0, help="its level, 0 to 255")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    for name in options.models:
        model = load_model(name, options.device)
        middles = [middle_of(path, options.side * model.scale) for path in options.pictures]
        plain = [effect_on_bicubic(one, model.scale, options.noise).left for one in middles]
        print(f"{model.name}, blur {KERNEL_WIDTH:g} px, noise {options.noise:g}")
        print(f"noise left in the bicubic enlargement: {np.mean(plain):.2f}\n")
        effects = [noise_by_factor(middle, model, options.noise) for middle in middles]
        left = np.mean([[effect.left for effect in one] for one in effects], axis=0)
        gone = np.mean([[effect.gone for effect in one] for one in effects], axis=0)
        print_table("--denoise", FACTORS, {"noise left": left, "gone": gone})
        energies = np.mean([energy_by_width(middle, model) for middle in middles], axis=0)
        print_table("--kernel-width", WIDTHS, {"gradient energy": energies})


def middle_of(path: Path, side: int) -> Tensor:
    """A square of a picture, (1, 3, side, side) in [0, 1]."""
    pixels = read_image(path).pixels
    height, width = pixels.shape[:2]
    if side > min(height, width):
        raise SystemExit(f"{path} has {width}x{height} pixels; choose a smaller --side")
    top, left = (height - side) // 2, (width - side) // 2
    middle = pixels[top : top + side, left : left + side]
    return batch_of(middle.copy())


def noise_by_factor(hr: Tensor, model: Model, level: float) -> list[Denoised]:
    """The effect of --denoise with each of FACTORS."""
    noisy = shrunk(hr, model.scale, level)
    found = estimate(noisy, model)
    results = [upscale(noisy, model, found.with_denoise(factor)) for factor in FACTORS]
    return [effect_of(result, hr, model.scale, level) for result in results]


def effect_on_bicubic(hr: Tensor, scale: int, level: float) -> Denoised:
    """What a plain enlargement does to the noise."""
    enlarged = bicubic_upsample(batch_of(shrunk(hr, scale, level)), scale)
    return effect_of(enlarged[0].permute(1, 2, 0).numpy(), hr, scale, level)


def effect_of(result: Picture, hr: Tensor, scale: int, level: float) -> Denoised:
    clean, noisy = shrunk(hr, scale), shrunk(hr, scale, level)
    again = shrunk(batch_of(result), scale)
    noise = (noisy - clean).astype(np.float64)
    # The rest of this difference is detail that was lost; it knows nothing of the noise.
    share = float(((again - clean) * noise).sum() / np.square(noise).sum())
    return Denoised(share * level, float((noisy - again).std()) * 255)


def batch_of(pixels: Picture) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)


def energy_by_width(hr: Tensor, model: Model) -> list[float]:
    """The gradient energy of the result with each of WIDTHS for --kernel-width."""
    lr = shrunk(hr, model.scale)
    found = estimate(lr, model)
    return [gradient_energy(upscale(lr, model, found.with_kernel_width(one))) for one in WIDTHS]


def shrunk(hr: Tensor, scale: int, level: float = 0.0) -> Picture:
    """(h, w, 3): the forward model, with the same noise pattern each time."""
    generator = torch.Generator().manual_seed(0)
    lr = degrade(hr, gaussian_kernel(KERNEL_WIDTH), scale, level, generator)
    pixels: Picture = lr[0].permute(1, 2, 0).contiguous().numpy()
    return pixels


def gradient_energy(pixels: Picture) -> float:
    levels = pixels.astype(np.float64) * 255
    down, right = np.diff(levels, axis=0), np.diff(levels, axis=1)
    return float(np.square(down).mean() + np.square(right).mean())


def is_monotonic(values: Sequence[float] | NDArray[np.float64]) -> bool:
    """Each is larger than the one before."""
    return bool((np.diff(values) > 0).all())


def print_table(option: str, given: Sequence[float], rows: dict[str, NDArray[np.float64]]) -> None:
    """A column for each value of an option; which way the rows go, if it is one way."""
    print(f"| {option} | {' | '.join(f'{value:g}' for value in given)} | goes |")
    print("|---" * (len(given) + 2) + "|")
    for name, values in rows.items():
        ways = [way for way, sign in (("up", 1), ("down", -1)) if is_monotonic(sign * values)]
        cells = " | ".join(f"{value:.2f}" for value in values)
        print(f"| {name} | {cells} | {ways[0] if ways else 'both ways'} |")
    print()


if __name__ == "__main__":
    main()
