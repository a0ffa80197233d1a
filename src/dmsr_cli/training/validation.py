"""PSNR at fixed degradations while training goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dmsr_cli.degradation import degrade, gaussian_kernel
from dmsr_cli.metrics import psnr
from dmsr_cli.model import DMSR
from dmsr_cli.training.data import load_pictures
from dmsr_cli.training.settings import Recipe

DEGRADATIONS = ((0.2, 15.0), (1.3, 15.0), (2.6, 15.0), (1.3, 50.0))
"""(kernel width, noise level): the easy, the middle, the blurred and the noisy."""
SEED = 1


class Validator:
    """Holds degraded pictures, the same in every run, and scores a model on them."""

    def __init__(self, folder: Path, recipe: Recipe, device: torch.device) -> None:
        self.scale = recipe.model.scale
        side = recipe.training.validation_crop // self.scale * self.scale
        pictures = load_pictures([folder], side, "validation_crop")
        self.hr = [_centre(picture, side).to(device) for picture in pictures]
        generator = torch.Generator().manual_seed(SEED)
        self.lr = [
            [
                degrade(hr.cpu(), gaussian_kernel(width), self.scale, level, generator).to(device)
                for width, level in DEGRADATIONS
            ]
            for hr in self.hr
        ]

    @torch.inference_mode()
    def psnr(self, model: DMSR) -> float:
        """Mean PSNR in dB over all pictures and degradations, float LR."""
        scores = []
        for hr, degraded in zip(self.hr, self.lr, strict=True):
            for lr in degraded:
                restored, _ = model(lr.contiguous(memory_format=torch.channels_last))
                scores.append(psnr(restored.clamp(0, 1), hr, border=self.scale))
        return sum(scores) / len(scores)


def _centre(picture: np.ndarray, side: int) -> Tensor:
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    crop = picture[top : top + side, left : left + side]
    return torch.from_numpy(crop.copy()).permute(2, 0, 1).float().unsqueeze(0) / 255
