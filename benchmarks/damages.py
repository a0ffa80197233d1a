"""Small pictures that were damaged as the models expect, and some that were not."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage

from dmsr_cli import read_image
from dmsr_cli.degradation import (
    KERNEL_WIDTHS,
    bicubic_downsample,
    blur,
    crop_to_multiple,
    gaussian_kernel,
    pad_symmetric,
)
from dmsr_cli.images import find_images

Pixels = NDArray[np.float32]
Random = np.random.Generator
LARGEST_SIDE = 160
"""Of an LR picture: a middle part of the picture is taken, which keeps the time bearable."""


@dataclass(frozen=True)
class Sample:
    """An LR picture, and how it came about."""

    kind: str
    """The row of a table that it counts in."""
    noise_level: float
    width: float
    pixels: Pixels
    """(h, w, 3), float32 in [0, 1], 8-bit values."""

    @property
    def is_in_range(self) -> bool:
        """Whether the models were trained on such."""
        return self.kind.startswith(IN_RANGE)


IN_RANGE = "noise"
"""How the kinds begin that the models were trained on."""


def samples_of(folder: Path, scale: int, count: int | None = None) -> Iterator[Sample]:
    """All kinds of damage to the pictures of a folder; the same with every call."""
    paths = find_images(folder)
    for path in paths if count is None else paths[:: max(1, len(paths) // count)][:count]:
        hr = _middle(torch.from_numpy(read_image(path).pixels).permute(2, 0, 1)[None], scale)
        random = np.random.default_rng([zlib.crc32(path.stem.encode()), scale])
        yield from (make(hr, scale, random) for make in _MAKERS)


def in_range(low: float, high: float) -> Callable[[torch.Tensor, int, Random], Sample]:
    """Gaussian blur of any width and white noise of a level in [low, high]."""
    kind = f"{IN_RANGE} {low:g}" + (f" to {high:g}" if high > low else "")

    def make(hr: torch.Tensor, scale: int, random: Random) -> Sample:
        width = float(random.uniform(*KERNEL_WIDTHS))
        level = float(random.uniform(low, high))
        return Sample(kind, level, width, _degraded(hr, scale, width, level, random))

    return make


def salt_and_pepper(share: float) -> Callable[[torch.Tensor, int, Random], Sample]:
    """This share of the pixels is black or white."""

    def make(hr: torch.Tensor, scale: int, random: Random) -> Sample:
        pixels, width, level = _mildly_degraded(hr, scale, random)
        struck = random.random(pixels.shape[:2]) < share
        pixels[struck] = random.integers(0, 2, (int(struck.sum()), 1))
        return Sample(f"salt and pepper {share:.0%}", level, width, pixels)

    return make


def jpeg(quality: int) -> Callable[[torch.Tensor, int, Random], Sample]:
    """Stored as JPEG with the usual subsampling of colour."""

    def make(hr: torch.Tensor, scale: int, random: Random) -> Sample:
        pixels, width, level = _mildly_degraded(hr, scale, random)
        stored = io.BytesIO()
        PillowImage.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(
            stored, "JPEG", quality=quality
        )
        pixels = np.asarray(PillowImage.open(stored), np.float32) / np.float32(255)
        return Sample(f"JPEG {quality}", level, width, pixels)

    return make


def motion(length: float, noise_level: float) -> Callable[[torch.Tensor, int, Random], Sample]:
    """The camera moved by so many LR pixels on a straight line, in any direction."""

    def make(hr: torch.Tensor, scale: int, random: Random) -> Sample:
        kernel = line_kernel(length * scale, float(random.uniform(0, np.pi)))
        radius = kernel.shape[-1] // 2
        # A line is longer than the kernels of the model: it is applied with room of its own.
        padded = pad_symmetric(hr, radius, radius, radius, radius)
        moved = torch.fft.irfft2(
            torch.fft.rfft2(padded)
            * torch.fft.rfft2(torch.from_numpy(kernel), s=tuple(padded.shape[-2:])),
            s=tuple(padded.shape[-2:]),
        )[..., 2 * radius :, 2 * radius :].float()
        pixels = _degraded(moved, scale, KERNEL_WIDTHS[0], noise_level, random)
        kind = f"motion {length:g} px" + (f", noise {noise_level:g}" if noise_level else "")
        return Sample(kind, noise_level, KERNEL_WIDTHS[0], pixels)

    return make


def grain(size: float, level: float) -> Callable[[torch.Tensor, int, Random], Sample]:
    """Noise whose grains are larger than a pixel."""

    def make(hr: torch.Tensor, scale: int, random: Random) -> Sample:
        pixels, width, _ = _mildly_degraded(hr, scale, random)
        white = torch.from_numpy(random.standard_normal((1, 3, *pixels.shape[:2])))
        coarse = blur(white.float(), gaussian_kernel(size))[0].permute(1, 2, 0).numpy()
        noisy = pixels + coarse * np.float32(level / 255 / coarse.std())
        return Sample(f"grain of {size:g} px", level, width, _as_8_bit(noisy))

    return make


def line_kernel(length: float, angle: float) -> NDArray[np.float64]:
    """A line of that length through the middle, (K, K) summing to 1, with K odd."""
    radius = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1))
    steps = np.linspace(-length / 2, length / 2, 16 * (2 * radius + 1))
    rows, columns = radius + steps * np.sin(angle), radius + steps * np.cos(angle)
    tops, lefts = rows.astype(int), columns.astype(int)
    down, across = rows - tops, columns - lefts
    for row, row_share in ((tops, 1 - down), (tops + 1, down)):
        for column, column_share in ((lefts, 1 - across), (lefts + 1, across)):
            np.add.at(kernel, (row, column), row_share * column_share)
    whole: NDArray[np.float64] = kernel / kernel.sum()
    return whole


_MAKERS = (
    *(in_range(0, 0), in_range(0, 0), in_range(0, 5), in_range(5, 15), in_range(5, 15)),
    *(in_range(15, 30), in_range(30, 50), in_range(50, 75)),
    *(salt_and_pepper(share) for share in (0.01, 0.02, 0.05)),
    *(jpeg(quality) for quality in (10, 20, 30, 40, 60, 80)),
    *(motion(length, 0.0) for length in (5, 7, 10, 15)),
    *(motion(length, 5.0) for length in (7, 15)),
    *(motion(length, 15.0) for length in (7, 15)),
    grain(0.8, 15.0),
)


def _middle(hr: torch.Tensor, scale: int) -> torch.Tensor:
    height, width = (min(side, LARGEST_SIDE * scale) for side in hr.shape[-2:])
    top, left = (hr.shape[-2] - height) // 2, (hr.shape[-1] - width) // 2
    return crop_to_multiple(hr[..., top : top + height, left : left + width], scale)


def _mildly_degraded(hr: torch.Tensor, scale: int, random: Random) -> tuple[Pixels, float, float]:
    """What other damage comes on top of: pixels, width of the blur, level of the noise."""
    width, level = float(random.uniform(0.2, 2)), float(random.choice([0, 0, 3, 8]))
    return _degraded(hr, scale, width, level, random), width, level


def _degraded(hr: torch.Tensor, scale: int, width: float, level: float, random: Random) -> Pixels:
    clean = bicubic_downsample(blur(hr, gaussian_kernel(width)), scale)
    pixels: NDArray[Any] = clean[0].permute(1, 2, 0).numpy()
    return _as_8_bit(pixels + random.standard_normal(pixels.shape) * (level / 255))


def _as_8_bit(pixels: NDArray[Any]) -> Pixels:
    rounded: Pixels = (np.rint(pixels.clip(0, 1) * 255) / 255).astype(np.float32)
    return rounded
