"""Training pictures in memory, and the patches and degradations drawn from them.

All pictures stay on the training device as one array of 8-bit pixels; a batch is one gather from
it. Nothing is decoded or copied in the loop, so there is no data loader that could be in the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dmsr_cli.degradation import KERNEL_SIZE, PatchDegradation, gaussian_kernel, to_8bit
from dmsr_cli.errors import DataError, ImageError
from dmsr_cli.files import display_name
from dmsr_cli.images import find_images, read_image
from dmsr_cli.model import Degradation
from dmsr_cli.training.settings import TrainingSettings


class Batch(NamedTuple):
    """One training batch; all float32 on the training device."""

    hr: Tensor
    """(N, 3, patch * scale, patch * scale) in [0, 1]."""
    lr: Tensor
    """(N, 3, patch, patch): what the network sees; outside [0, 1] too when it is float LR."""
    degradation: Degradation
    """The true kernels, and the true noise maps (clipping and rounding included)."""
    prefiltered: Tensor
    """The HR patches with margin after `PatchDegradation.prefilter`."""


def load_pictures(
    folders: Sequence[Path], smallest: int, setting: str = "patch"
) -> list[np.ndarray]:
    """All pictures below the folders as uint8 arrays (H, W, 3), in the order of their names.

    `setting` is named in the message about a small picture: the one that `smallest` follows from.

    Raises:
        DataError: there is no folder, one is missing or has no pictures, a picture cannot be
            read, or is smaller than `smallest` HR pixels on a side. Nothing is skipped or
            replaced in silence.
    """
    if not folders:
        raise DataError("no folder with pictures is given")
    pictures = []
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{display_name(folder)} is not a folder with pictures")
        try:
            paths = find_images(folder, recursive=True)
        except ImageError as error:
            raise DataError(str(error)) from None
        if not paths:
            raise DataError(f"no pictures in {display_name(folder)}")
        for path in paths:
            try:
                image = read_image(path)
            except ImageError as error:
                raise DataError(
                    f"{error}; repair it or take it out of {display_name(folder)}"
                ) from None
            if min(image.pixels.shape[:2]) < smallest:
                height, width = image.pixels.shape[:2]
                raise DataError(
                    f"{display_name(path)} is {width}x{height}, but {smallest} pixels are needed "
                    f"on each side: take it out, or lower {setting}"
                )
            pictures.append((image.pixels * 255).round().astype(np.uint8))
    return pictures


class PatchSource:
    """Draws seeded batches from pictures that live on the device."""

    def __init__(
        self,
        pictures: Sequence[np.ndarray],
        scale: int,
        settings: TrainingSettings,
        device: torch.device,
        kernel_size: int = KERNEL_SIZE,
    ) -> None:
        self.scale = scale
        self.settings = settings
        self.device = device
        self.patch_degradation = PatchDegradation(scale, kernel_size)
        self.margin = self.patch_degradation.margin
        self.side = settings.patch * scale + 2 * self.margin
        sizes = torch.tensor([picture.shape[:2] for picture in pictures])
        self.widths = sizes[:, 1]
        self.starts = torch.cat((torch.zeros(1, dtype=torch.long), sizes.prod(dim=1).cumsum(0)))
        self.places = sizes - self.side + 1  # how many rows and columns a patch can start at
        # Every place in every picture is equally likely.
        self.share = self.places.double().prod(dim=1)
        flat = np.concatenate([picture.reshape(-1, 3) for picture in pictures])
        self.pixels = torch.from_numpy(flat).to(device)
        # Choices that the CPU makes (places, flips) and those of the device (noise).
        self.choices = torch.Generator().manual_seed(settings.seed + 1)
        self.noise = torch.Generator(device).manual_seed(settings.seed + 2)

    def state(self) -> dict[str, Tensor]:
        """All that is needed to go on with exactly the next batch."""
        return {"choices": self.choices.get_state(), "noise": self.noise.get_state()}

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Go on after a `state`."""
        self.choices.set_state(state["choices"])
        self.noise.set_state(state["noise"])

    def next_batch(self) -> Batch:
        """Random patches, flipped and rotated, each with its own kernel and noise level."""
        settings = self.settings
        patches = self._gather().permute(0, 3, 1, 2).float() / 255
        widths = self._stratified(*settings.kernel_widths)
        levels = self._stratified(*settings.noise_levels) / 255
        rounded = torch.rand(settings.batch, generator=self.choices) < settings.eight_bit
        rounded = rounded.to(self.device, non_blocking=True).view(-1, 1, 1, 1)

        kernels = gaussian_kernel(widths, self.patch_degradation.kernel_size)
        kernels = kernels.to(self.device, non_blocking=True)
        prefiltered = self.patch_degradation.prefilter(patches)
        clean = self.patch_degradation.downsample(prefiltered, kernels)
        noise = torch.randn(clean.shape, generator=self.noise, device=self.device)
        noisy = clean + noise * levels.to(self.device, non_blocking=True).view(-1, 1, 1, 1)
        lr = torch.where(rounded, to_8bit(noisy), noisy)
        inner = slice(self.margin, -self.margin)
        return Batch(patches[..., inner, inner], lr, Degradation(kernels, lr - clean), prefiltered)

    def _stratified(self, low: float, high: float) -> Tensor:
        """One uniform draw from each of `batch` equal parts of the range, in random order.

        Each value is uniform over the whole range; a batch, which is small, covers it evenly.
        """
        count = self.settings.batch
        order = torch.randperm(count, generator=self.choices)
        share = (order + torch.rand(count, generator=self.choices)) / count
        return low + (high - low) * share

    def _gather(self) -> Tensor:
        """(N, side, side, 3) uint8: places, flips and quarter turns all become one index."""
        count, side = self.settings.batch, self.side
        picture = torch.multinomial(self.share, count, replacement=True, generator=self.choices)
        corner = (torch.rand(count, 2, generator=self.choices) * self.places[picture]).long()
        flip_rows, flip_columns, transpose = (
            torch.rand(3, count, 1, 1, generator=self.choices) < 0.5
        ).unbind()
        steps = torch.arange(side)
        rows, columns = steps.view(1, -1, 1), steps.view(1, 1, -1)
        rows, columns = torch.where(transpose, columns, rows), torch.where(transpose, rows, columns)
        rows = torch.where(flip_rows, side - 1 - rows, rows) + corner[:, :1, None]
        columns = torch.where(flip_columns, side - 1 - columns, columns) + corner[:, 1:, None]
        index = self.starts[picture].view(-1, 1, 1) + rows * self.widths[picture].view(-1, 1, 1)
        return self.pixels[(index + columns).to(self.device, non_blocking=True)]
