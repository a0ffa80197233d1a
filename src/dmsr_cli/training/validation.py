"""PSNR at fixed degradations while training goes on, and pictures to look at."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dmsr_cli.degradation import degrade, gaussian_kernel
from dmsr_cli.metrics import psnr
from dmsr_cli.model import DMSR
from dmsr_cli.training.data import load_pictures
from dmsr_cli.training.settings import Recipe
from dmsr_cli.visual import StripRow

DEGRADATIONS = ((0.2, 15.0), (1.3, 15.0), (2.6, 15.0), (1.3, 50.0))
"""(kernel width, noise level): the easy, the middle, the blurred and the noisy."""
SEED = 1


class Validation(NamedTuple):
    """How a model does on the validation pictures."""

    psnr: float
    """Mean over all pictures and degradations, in dB, float LR."""
    rows: list[StripRow]
    """One picture for each degradation."""


class Validator:
    """Holds degraded pictures, the same in every run, and scores a model on them."""

    def __init__(self, folder: Path, recipe: Recipe, device: torch.device) -> None:
        self.scale = recipe.model.scale
        side = recipe.training.validation_crop // self.scale * self.scale
        pictures = load_pictures([folder], side, "validation_crop")
        self.hr = [_centre(picture, side).to(device) for picture in pictures]
        self.kernels = [gaussian_kernel(width) for width, _ in DEGRADATIONS]
        generator = torch.Generator().manual_seed(SEED)
        self.lr = [
            [
                degrade(hr.cpu(), kernel, self.scale, level, generator).to(device)
                for kernel, (_, level) in zip(self.kernels, DEGRADATIONS, strict=True)
            ]
            for hr in self.hr
        ]

    @torch.inference_mode()
    def validate(self, model: DMSR) -> Validation:
        """Restore all pictures; the rows show the first pictures, each degraded another way."""
        scores = []
        rows: list[StripRow] = []
        for number, (hr, degraded) in enumerate(zip(self.hr, self.lr, strict=True)):
            for place, lr in enumerate(degraded):
                restored, estimated = model(lr.contiguous(memory_format=torch.channels_last))
                scores.append(psnr(restored.clamp(0, 1), hr, border=self.scale))
                if number == place % len(self.hr):
                    width, level = DEGRADATIONS[place]
                    rows.append(
                        StripRow(
                            lr=_pixels(lr),
                            restored=_pixels(restored),
                            hr=_pixels(hr),
                            true_kernel=self.kernels[place][0].numpy(),
                            estimated_kernel=estimated.kernel[0].cpu().numpy(),
                            label=f"width {width:g}, noise {level:g}: {scores[-1]:.2f} dB",
                        )
                    )
        return Validation(sum(scores) / len(scores), rows)


def _centre(picture: np.ndarray, side: int) -> Tensor:
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    crop = picture[top : top + side, left : left + side]
    return torch.from_numpy(crop.copy()).permute(2, 0, 1).float().unsqueeze(0) / 255


def _pixels(tensor: Tensor) -> np.ndarray:
    return tensor[0].permute(1, 2, 0).float().cpu().numpy()
