"""What the project does, for Python: arrays in, arrays out; no paths, no printing."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.device import autocast, choose_device, choose_precision, move
from dmsr_cli.errors import DeviceError, ImageError, SettingsError
from dmsr_cli.images import LUMA_WEIGHTS, Image, resize_alpha
from dmsr_cli.model import DMSR
from dmsr_cli.model import Degradation as DegradationTensors
from dmsr_cli.tiling import Box, blend_tiles
from dmsr_cli.weights import load_weights, resolve_model

Pixels = NDArray[np.float32]
Picture = TypeVar("Picture", Image, Pixels)

DEFAULT_FAMILY = "dmsr-lite"
DEFAULT_OVERLAP = 16
"""LR pixels that neighbouring tiles share."""
WHOLE_OUTPUT_SIDE = 1024
"""With tile="auto", pictures up to this many output pixels squared are restored in one piece, and
larger ones in tiles that give as much: about 1 GiB of memory at the most."""
ESTIMATION_PIXELS = 256 * 1024
"""LR pixels that the extractor sees at a time."""
WIDTH_GRID = torch.linspace(0.2, 6.0, 581)
"""Widths that are tried for `Degradation.kernel_width`: steps of 0.01 pixels."""


@dataclass(frozen=True)
class Model:
    """A network that is ready to use; made by `load_model`."""

    network: DMSR
    name: str
    device: torch.device
    precision: torch.dtype

    @property
    def scale(self) -> int:
        """Magnification: 2, 3 or 4."""
        return self.network.config.scale


@dataclass(frozen=True)
class Degradation:
    """What is wrong with a picture: how it was blurred, and the noise in each pixel."""

    kernel: Pixels
    """(K, K) float32, non-negative, sums to 1; in pixels of the HR picture."""
    noise_map: Pixels
    """(height, width, 3) float32: estimated noise of each LR pixel, [0, 1] scale, signed."""

    @property
    def kernel_width(self) -> float:
        """Standard deviation in HR pixels of the isotropic Gaussian nearest to the kernel.

        Nearest in the sum of squared differences, between 0.2 (no blur) and 6.
        """
        candidates = gaussian_kernel(WIDTH_GRID, self.kernel.shape[0])
        errors = (candidates - torch.from_numpy(self.kernel)).square().sum(dim=(1, 2))
        return round(WIDTH_GRID[int(errors.argmin())].item(), 2)

    @property
    def noise_level(self) -> float:
        """Root mean square of the noise map on the 0-255 scale: the paper's sigma."""
        return float(np.sqrt(np.mean(np.square(self.noise_map, dtype=np.float64)))) * 255

    def with_kernel_width(self, width: float) -> Degradation:
        """The same noise, with an isotropic Gaussian kernel of `width` HR pixels instead."""
        if not 0 < width <= 20:
            raise SettingsError(f"kernel width must be above 0 and at most 20, not {width}")
        kernel = gaussian_kernel(width, self.kernel.shape[0])[0].numpy()
        return dataclasses.replace(self, kernel=kernel)

    def with_noise_level(self, level: float) -> Degradation:
        """The same kernel, with the noise map scaled to `level` on the 0-255 scale."""
        if not 0 <= level <= 255:
            raise SettingsError(f"noise level must be from 0 to 255, not {level}")
        # A map that is zero everywhere has no pattern to scale and stays zero.
        return self.with_denoise(level / max(self.noise_level, 1e-6))

    def with_denoise(self, factor: float) -> Degradation:
        """The same kernel, with the noise map times `factor` (1 leaves it, 0 keeps the noise)."""
        if not 0 <= factor < float("inf"):
            raise SettingsError(f"denoise must be 0 or greater, not {factor}")
        return dataclasses.replace(self, noise_map=self.noise_map * np.float32(factor))


def load_model(
    name: str | None = None,
    device: str = "auto",
    *,
    scale: int | None = None,
    precision: str = "auto",
) -> Model:
    """Load a model by its name, its file, or its address on the Hub, verified, ready to use.

    Args:
        name: "dmsr-lite-x4", a family name ("dmsr-lite") with `scale`, a .safetensors file, or
            hf://owner/repo[/file][@revision]; the default is the lite family.
        device: auto, cpu, cuda, cuda:N or mps.
        scale: 2, 3 or 4; if not given, the model's own, and 4 for a family.
        precision: auto (bf16 on CUDA that has it, else fp32), fp32, fp16 or bf16.

    Raises:
        SettingsError: unknown name, device or precision; a scale that the model does not have.
        WeightsError: the weights cannot be had or are not intact.
        DeviceError: the device is not there.
    """
    where = choose_device(device)
    dtype = choose_precision(precision, where)
    weights = resolve_model(name or DEFAULT_FAMILY, scale)
    network = load_weights(weights.path, weights.sha256)
    network = move(network, where).eval()
    return Model(network, weights.name, where, dtype)


@torch.inference_mode()
def estimate(image: Image | Pixels, model: Model) -> Degradation:
    """Estimate blur kernel and noise map of a picture.

    Large pictures are seen in strips, with a halo as wide as the extractor can see: the result
    does not depend on the strips, and the memory not on the picture's height.

    Args:
        image: what `read_image` gives, or float (height, width, 3), RGB, nominally in [0, 1].
        model: from `load_model`.

    Raises:
        ImageError: the array has another shape, or values that are not finite.
    """
    pixels = _checked_pixels(image)
    height, width = pixels.shape[:2]
    extractor = model.network.extractor
    halo = extractor.radius
    rows = max(1, ESTIMATION_PIXELS // width)
    logits = torch.zeros(extractor.kernel_size**2, dtype=torch.float64)
    noise_map = np.empty_like(pixels)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(0, top - halo), min(height, bottom + halo)
        strip = _to_tensor(pixels[first:last], model.device)
        with _memory_errors_explained():
            strip_logits, strip_noise = extractor.maps(strip)
        inner = slice(top - first, bottom - first)
        logits += strip_logits[0, :, inner].sum(dim=(1, 2), dtype=torch.float32).cpu().double()
        noise_map[top:bottom] = _to_pixels(strip_noise[:, :, inner])
    kernel = extractor.kernel_of((logits / (height * width)).float().unsqueeze(0))
    return Degradation(kernel[0].numpy(), noise_map)


@torch.inference_mode()
def upscale(
    image: Picture,
    model: Model,
    degradation: Degradation | None = None,
    tile: int | str = "auto",
    on_progress: Callable[[float], None] | None = None,
    *,
    overlap: int = DEFAULT_OVERLAP,
) -> Picture:
    """Restore a picture at the model's scale.

    Args:
        image: what `read_image` gives, or float (height, width, 3), RGB, nominally in [0, 1];
            values outside are allowed.
        model: from `load_model`.
        degradation: what guides the restoration; estimated once for the picture if not given.
        tile: side of a tile in LR pixels, 0 for the whole picture at once, or "auto".
        on_progress: called with the share that is done, up to 1.
        overlap: LR pixels that neighbouring tiles share.

    Returns:
        The same kind as `image`, `scale` times as high and wide, in [0, 1]. An `Image` keeps its
        transparency, colour profile and greyness.

    Raises:
        ImageError: the array has another shape, or values that are not finite.
        SettingsError: the tile or the degradation does not fit.
        DeviceError: the device's memory does not suffice.
    """
    pixels = _checked_pixels(image)
    height, width = pixels.shape[:2]
    if degradation is None:
        degradation = estimate(pixels, model)
    _check_degradation(degradation, pixels, model)
    side = _tile_side(tile, height, width, model.scale)
    if overlap < 0 or (overlap >= side and side < max(height, width)):
        raise SettingsError(f"overlap must be from 0 to {side - 1} at this tile, not {overlap}")
    kernel = torch.from_numpy(degradation.kernel).to(model.device).unsqueeze(0)

    def restore(box: Box) -> Pixels:
        rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
        lr = _to_tensor(pixels[rows, columns], model.device)
        noise_map = _to_tensor(degradation.noise_map[rows, columns], model.device)
        return _restore(model, lr, DegradationTensors(kernel, noise_map))

    restored = blend_tiles(
        *(height, width, side, min(overlap, side - 1), model.scale),
        *(restore, on_progress or (lambda done: None)),
    )
    np.clip(restored, 0, 1, out=restored)
    if not isinstance(image, Image):
        return restored
    if image.grey:
        # The network sees three equal channels and may answer with a tint.
        restored[:] = restored @ LUMA_WEIGHTS[:, None]
    alpha = None if image.alpha is None else resize_alpha(image.alpha, model.scale)
    return dataclasses.replace(image, pixels=restored, alpha=alpha)


def _restore(model: Model, lr: Tensor, degradation: DegradationTensors) -> Pixels:
    """One pass of the restorer, repeated in fp32 if reduced precision overflowed."""
    with _memory_errors_explained():
        with autocast(model.device, model.precision):
            restored, _ = model.network(lr, degradation)
        if model.precision != torch.float32 and not torch.isfinite(restored).all():
            restored, _ = model.network(lr, degradation)
        return _to_pixels(restored)


@contextlib.contextmanager
def _memory_errors_explained() -> Iterator[None]:
    """Turn the many faces of running out of memory into one `DeviceError`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if of_memory or "can't allocate memory" in str(error):
            raise DeviceError("out of memory: use a smaller --tile, or --device cpu") from None
        raise


def _tile_side(tile: int | str, height: int, width: int, scale: int) -> int:
    """Side of a tile in LR pixels, at least 1; the longer side of the picture means no tiling."""
    whole = max(height, width)
    if tile == "auto":
        limit = WHOLE_OUTPUT_SIDE // scale
        return whole if height * width <= limit**2 else limit
    if not isinstance(tile, int) or tile < 0:
        raise SettingsError(f"tile must be auto, 0, or a number of LR pixels, not {tile!r}")
    return tile or whole


def _checked_pixels(image: Image | Pixels) -> Pixels:
    pixels = image.pixels if isinstance(image, Image) else np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ImageError(f"a picture must have shape (height, width, 3), not {pixels.shape}")
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ImageError(f"a picture must be float in [0, 1], not {pixels.dtype}: divide by 255")
    pixels = pixels.astype(np.float32, copy=False)
    if not np.isfinite(pixels).all():
        raise ImageError("the picture has values that are not finite")
    return pixels


def _check_degradation(degradation: Degradation, pixels: Pixels, model: Model) -> None:
    size = model.network.config.kernel_size
    if degradation.kernel.shape != (size, size):
        raise SettingsError(
            f"{model.name} needs a {size}x{size} kernel, not {degradation.kernel.shape}"
        )
    for what, array in (("kernel", degradation.kernel), ("noise map", degradation.noise_map)):
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise SettingsError(f"the {what} must be float32 and finite, not {array.dtype}")
    if degradation.noise_map.shape != pixels.shape:
        raise SettingsError(
            f"the noise map {degradation.noise_map.shape} is not of the picture's shape "
            f"{pixels.shape}"
        )


def _to_tensor(pixels: Pixels, device: torch.device) -> Tensor:
    """(h, w, 3) array to a (1, 3, h, w) tensor in channels-last memory."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(2, 0, 1).unsqueeze(0)


def _to_pixels(tensor: Tensor) -> Pixels:
    """(1, 3, h, w) tensor to an (h, w, 3) float32 array."""
    array: Pixels = tensor[0].permute(1, 2, 0).float().cpu().numpy()
    return array
