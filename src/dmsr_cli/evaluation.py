"""The paper's grid over a folder: degrade, restore, score, beside bicubic and the paper."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmsr_cli.degradation import (
    bicubic_upsample,
    crop_to_multiple,
    degrade,
    gaussian_kernel,
    to_8bit,
)
from dmsr_cli.errors import DataError, SettingsError
from dmsr_cli.files import display_name
from dmsr_cli.images import find_images, read_image
from dmsr_cli.metrics import SSIM_WINDOW, psnr, ssim
from dmsr_cli.paper_scores import TABLE_1
from dmsr_cli.pipeline import Model, upscale
from dmsr_cli.scores import Score

KERNEL_WIDTHS = (0.2, 1.3, 2.6)
NOISE_LEVELS = (0.0, 15.0, 50.0)
LR_KINDS = ("float", "8-bit")
"""The paper's LR is float and not clipped; pictures in files are clipped and rounded."""


def evaluate(
    folder: Path,
    model: Model,
    *,
    kernel_widths: Sequence[float] = KERNEL_WIDTHS,
    noise_levels: Sequence[float] = NOISE_LEVELS,
    lr_kinds: Sequence[str] = LR_KINDS,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda done: None,
) -> list[Score]:
    """Score a model on a folder of HR pictures.

    The noise depends on the seed and on the picture's name alone, so that subsets and other
    orders give the same numbers. The folder's name (Set5, Set14, B100) chooses the paper's row.

    Args:
        folder: HR pictures; what exceeds a multiple of the scale is cropped.
        model: from `load_model`.
        kernel_widths: standard deviations of the blur, in HR pixels.
        noise_levels: standard deviations of the noise, 0-255 scale.
        lr_kinds: "float" and / or "8-bit".
        seed: source of the noise.
        on_progress: called with the share that is done.

    Raises:
        DataError: no pictures, or one that is too small for SSIM.
        SettingsError: an unknown kind of LR picture.
    """
    unknown = sorted(set(lr_kinds) - set(LR_KINDS))
    if unknown:
        raise SettingsError(f"unknown kind of LR {unknown[0]!r}: use {' or '.join(LR_KINDS)}")
    pictures = _read_pictures(folder, model.scale)
    cells = [
        (width, level, kind)
        for level in noise_levels
        for width in kernel_widths
        for kind in lr_kinds
    ]
    scores = []
    for number, (width, level, kind) in enumerate(cells):
        rows = []
        for index, (title, hr) in enumerate(pictures):
            rows.append(_score(title, hr, model, width, level, kind, seed))
            on_progress((number + (index + 1) / len(pictures)) / len(cells))
        mean = np.mean(rows, axis=0).tolist()
        name = folder.resolve().name
        # The paper's pictures were never rounded: its scores stand beside float LR only.
        paper = paper_scores(name, model.scale, width, level) if kind == "float" else (None, None)
        scores.append(
            Score(
                *(name, model.scale, model.name),
                *(width, level, kind, len(pictures), *mean, *paper),
            )
        )
    return scores


def paper_scores(
    data: str, scale: int, kernel_width: float, noise_level: float
) -> tuple[float, float] | tuple[None, None]:
    """PSNR and SSIM that the paper reports for DMSR, where it does."""
    by_name = {name.lower(): table for name, table in TABLE_1["DMSR"].items()}
    table = by_name.get(data.lower(), {}).get(scale, {})
    return table.get((kernel_width, noise_level), (None, None))


def _read_pictures(folder: Path, scale: int) -> list[tuple[str, Tensor]]:
    if not folder.is_dir():
        raise DataError(f"{display_name(folder)} is not a folder with pictures")
    paths = find_images(folder)
    if not paths:
        raise DataError(f"no pictures in {display_name(folder)}")
    pictures = []
    for path in paths:
        hr = crop_to_multiple(_tensor(read_image(path).pixels), scale)
        if min(hr.shape[-2:]) < SSIM_WINDOW + 2 * scale:
            raise DataError(
                f"{display_name(path)} is too small to be scored: take it out of its folder"
            )
        pictures.append((path.stem, hr))
    return pictures


def _score(
    name: str, hr: Tensor, model: Model, width: float, level: float, kind: str, seed: int
) -> tuple[float, float, float, float]:
    """PSNR and SSIM of the model, then of bicubic."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)
    lr = degrade(hr, gaussian_kernel(width), model.scale, level, generator)
    if kind == "8-bit":
        lr = to_8bit(lr)
    restored = _tensor(upscale(lr[0].permute(1, 2, 0).numpy(), model))
    bicubic = bicubic_upsample(lr, model.scale).clamp(0, 1)
    border = model.scale
    return (
        *(psnr(restored, hr, border), ssim(restored, hr, border)),
        *(psnr(bicubic, hr, border), ssim(bicubic, hr, border)),
    )


def _tensor(pixels: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)
