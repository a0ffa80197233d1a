"""Training pictures in memory, and the patches and degradations drawn from them.

All pictures stay on the training device as one array of 8-bit pixels; a batch is one gather from
it. Nothing is decoded or copied in the loop, so there is no data loader that could be in the way.
"""

from __future__ import annotations

import hashlib
import zlib
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
from dmsr_cli.model.steering import answer
from dmsr_cli.training.settings import Recipe, TrainingSettings


class Batch(NamedTuple):
    """One training batch; all float32 on the training device."""

    hr: Tensor
    """(N, 3, patch * scale, patch * scale), what the result should be: the picture itself, in
    [0, 1], or what follows from a wrong kernel."""
    lr: Tensor
    """(N, 3, patch, patch): what the network sees; outside [0, 1] too when it is float LR."""
    degradation: Degradation
    """The true kernels, and the true noise maps (clipping and rounding included)."""
    prefiltered: Tensor
    """The HR patches with margin after `PatchDegradation.prefilter`."""
    told: Tensor
    """(N, K, K): kernels that are told instead of the estimate, where `is_told`."""
    is_told: Tensor
    """(N, 1, 1), bool."""


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


def load_patch_source(
    folders: Sequence[Path], recipe: Recipe, device: torch.device, rank: int = 0
) -> PatchSource:
    """The source of batches for a recipe; raises what `load_pictures` raises."""
    scale, patch = recipe.model.scale, recipe.training.patch
    kernel_size = recipe.model.kernel_size
    smallest = patch * scale + 2 * PatchDegradation(scale, kernel_size).margin
    pictures = load_pictures(folders, smallest)
    return PatchSource(pictures, scale, recipe.training, device, kernel_size, rank)


class PatchSource:
    """Draws seeded batches from pictures that live on the device.

    All that is random is drawn on the device, too, so that a GPU never waits for the CPU.
    """

    def __init__(
        self,
        pictures: Sequence[np.ndarray],
        scale: int,
        settings: TrainingSettings,
        device: torch.device,
        kernel_size: int = KERNEL_SIZE,
        rank: int = 0,
    ) -> None:
        self.settings = settings
        self.device = device
        self.patch_degradation = PatchDegradation(scale, kernel_size)
        self.margin = self.patch_degradation.margin
        self.side = settings.patch * scale + 2 * self.margin
        sizes = torch.tensor([picture.shape[:2] for picture in pictures])
        places = sizes - self.side + 1  # how many rows and columns a patch can start at
        # Every place in every picture is equally likely.
        share = places.double().prod(dim=1).cumsum(0)
        self.share = (share / share[-1]).float().to(device)
        self.places = places.to(device)
        self.widths = sizes[:, 1].to(device)
        starts = torch.cat((torch.zeros(1, dtype=torch.long), sizes.prod(dim=1).cumsum(0)))
        self.starts = starts.to(device)
        flat = np.concatenate([picture.reshape(-1, 3) for picture in pictures])
        self.pixels = torch.from_numpy(flat).to(device)
        self.generator = torch.Generator(device)
        self.rank = rank
        self.pictures = _describe(pictures)

    def batch(self, iteration: int) -> Batch:
        """Random patches, flipped and rotated, each with its own kernel and noise level.

        The same for the same pictures, settings, rank and iteration, whatever was drawn before.
        """
        settings = self.settings
        self.generator.manual_seed(_seed(settings.seed, self.rank, iteration))
        patches = self._most_detailed().permute(0, 3, 1, 2).float() / 255
        widths = self._stratified(*settings.kernel_widths)
        # No draw for a share of nothing: batches of older recipes stay the same.
        if settings.blur_free:
            is_blurred = self._uniform(settings.batch) >= settings.blur_free
            widths = torch.where(is_blurred, widths, settings.kernel_widths[0])
        levels = self._stratified(*settings.noise_levels).view(-1, 1, 1, 1) / 255
        if settings.noise_free:
            levels = levels * (self._uniform(settings.batch, 1, 1, 1) >= settings.noise_free)
        rounded = self._uniform(settings.batch, 1, 1, 1) < settings.eight_bit

        kernels = gaussian_kernel(widths, self.patch_degradation.kernel_size)
        prefiltered = self.patch_degradation.prefilter(patches)
        clean = self.patch_degradation.downsample(prefiltered, kernels)
        noise = torch.randn(clean.shape, generator=self.generator, device=self.device)
        noisy = clean + noise * levels
        lr = torch.where(rounded, to_8bit(noisy), noisy)
        is_told = self._uniform(settings.batch, 1, 1) < settings.told_kernels
        told = kernels
        if settings.told_kernels:
            told = gaussian_kernel(self._stratified(*settings.kernel_widths), kernels.shape[-1])
            answers = answer(patches, kernels, told, self.patch_degradation.scale)
            patches = torch.where(is_told.unsqueeze(-1), answers, patches)
        inner = slice(self.margin, -self.margin)
        truth = Degradation(kernels, lr - clean)
        return Batch(patches[..., inner, inner], lr, truth, prefiltered, told, is_told)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.device)

    def _stratified(self, low: float, high: float) -> Tensor:
        """One uniform draw from each of `batch` equal parts of the range, in random order.

        Each value is uniform over the whole range; a batch, which is small, covers it evenly.
        """
        count = self.settings.batch
        order = torch.randperm(count, generator=self.generator, device=self.device)
        return low + (high - low) * (order + self._uniform(count)) / count

    def _most_detailed(self) -> Tensor:
        """(N, side, side, 3) uint8: for each patch the most detailed of `choices` random places."""
        count, choices = self.settings.batch, self.settings.choices
        patches = self._gather(count * choices)
        if choices == 1:
            return patches
        inner = slice(self.margin, -self.margin)
        detail = _detail(patches[:, inner, inner]).view(choices, count)
        best = detail.argmax(dim=0) * count + torch.arange(count, device=self.device)
        return patches[best]

    def _gather(self, count: int) -> Tensor:
        """(count, side, side, 3) uint8: places, flips and turns all become one index."""
        side = self.side
        picture = torch.searchsorted(self.share, self._uniform(count), right=True)
        corner = (self._uniform(count, 2) * self.places[picture]).long()
        flip_rows, flip_columns, transpose = (self._uniform(3, count, 1, 1) < 0.5).unbind()
        steps = torch.arange(side, device=self.device)
        rows, columns = steps.view(1, -1, 1), steps.view(1, 1, -1)
        rows, columns = torch.where(transpose, columns, rows), torch.where(transpose, rows, columns)
        rows = torch.where(flip_rows, side - 1 - rows, rows) + corner[:, :1, None]
        columns = torch.where(flip_columns, side - 1 - columns, columns) + corner[:, 1:, None]
        index = self.starts[picture].view(-1, 1, 1) + rows * self.widths[picture].view(-1, 1, 1)
        return self.pixels[index + columns]


def _detail(patches: Tensor) -> Tensor:
    """How much there is to see in patches (N, H, W, 3): mean square of differences of neighbours.

    Green stands for all colours; the restoration error of a patch goes with it (correlation 0.98).
    """
    green = patches[..., 1].float()
    down = green.diff(dim=1).square().mean(dim=(1, 2))
    return down + green.diff(dim=2).square().mean(dim=(1, 2))


def _seed(*numbers: int) -> int:
    """64 bits that differ for other numbers: neighbouring seeds must not give alike draws."""
    text = " ".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)


def _describe(pictures: Sequence[np.ndarray]) -> str:
    """What pictures these are, in a few words and a checksum."""
    checksum = 0
    for picture in pictures:
        checksum = zlib.crc32(picture.tobytes(), checksum)
    pixels = sum(picture.shape[0] * picture.shape[1] for picture in pictures)
    return f"{len(pictures)} pictures of {pixels / 1e6:.2f} megapixels in all ({checksum:08x})"
