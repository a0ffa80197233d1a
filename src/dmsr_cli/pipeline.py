"""What the project does, for Python: arrays in, arrays out; no paths, no printing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from dmsr_cli.default_model import default_family
from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.device import choose_device, choose_precision, move
from dmsr_cli.errors import DeviceError, ImageError, SettingsError
from dmsr_cli.images import LUMA_WEIGHTS, Image, bleed_colour, resize_alpha
from dmsr_cli.inference.colour import is_neutral, keep_colours
from dmsr_cli.inference.engine import Note, Task, estimate_maps, restore
from dmsr_cli.inference.plan import Plan, Request, choose_plan
from dmsr_cli.model import DMSR
from dmsr_cli.tiling import Box
from dmsr_cli.weight_file import load_hashed_weights
from dmsr_cli.weights import resolve_model

Pixels = NDArray[np.float32]
Picture = TypeVar("Picture", Image, Pixels)

WIDTH_GRID = torch.linspace(0.2, 6.0, 581)
"""Widths that are tried for `Degradation.kernel_width`: steps of 0.01 pixels."""


def _say_nothing(note: str) -> None:
    """What happens to notes that nobody asked for."""


@dataclass(frozen=True)
class Model:
    """A network that is ready to use; made by `load_model`."""

    network: DMSR
    name: str
    device: torch.device
    precision: torch.dtype
    sha256: str = ""
    """Of the weight file, in hexadecimal; empty for a network that came from none."""

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

    @property
    def noise_levels(self) -> tuple[float, float, float]:
        """The same of red, green and blue."""
        squares = np.square(self.noise_map, dtype=np.float64).mean(axis=(0, 1))
        red, green, blue = (255 * np.sqrt(squares)).tolist()
        return red, green, blue

    def with_kernel_width(self, width: float) -> Degradation:
        """The same noise, with an isotropic Gaussian kernel of `width` HR pixels instead."""
        if not 0 < width <= 20:
            raise SettingsError(f"kernel width must be above 0 and at most 20, not {width}")
        kernel = gaussian_kernel(width, self.kernel.shape[0])[0].numpy()
        return replace(self, kernel=kernel)

    def with_noise_level(self, level: float) -> Degradation:
        """The same kernel, with the noise map scaled to `level` on the 0-255 scale."""
        if not 0 <= level <= 255:
            raise SettingsError(f"noise level must be from 0 to 255, not {level}")
        # A map that is zero everywhere has no pattern to scale and stays zero.
        return self.with_denoise(level / max(self.noise_level, 1e-6))

    def with_denoise(self, factor: float) -> Degradation:
        """The same kernel, with the noise map times `factor` (1 leaves it, 0 is no noise)."""
        if not 0 <= factor < float("inf"):
            raise SettingsError(f"denoise must be 0 or greater, not {factor}")
        return replace(self, noise_map=self.noise_map * np.float32(factor))


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
            hf://owner/repo[/file][@revision]; the default is that of `default_family`.
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
    weights = resolve_model(name or default_family(device), scale)
    network, sha256 = load_hashed_weights(weights.path, weights.sha256)
    network = move(network, where).eval()
    return Model(network, weights.name, where, dtype, sha256)


@torch.inference_mode()
def estimate(image: Image | Pixels, model: Model, *, on_note: Note = _say_nothing) -> Degradation:
    """Estimate blur kernel and noise map of a picture.

    Large pictures are seen in pieces, each with a halo as wide as the extractor can see: the result
    is that of the whole, and what grows with the picture is the noise map alone.

    Args:
        image: what `read_image` gives, or float (height, width, 3), RGB, nominally in [0, 1]. What
            is transparent is taken to have the colour of its visible surroundings.
        model: from `load_model`.
        on_note: called with a line for people when the memory does not suffice and something
            slower is tried.

    Raises:
        ImageError: the array has another shape, or values that are not finite.
        DeviceError: the memory does not suffice.
        WeightsError: the network's result is not finite.
    """
    pixels = _checked_pixels(image)
    return Degradation(*estimate_maps(model.network, model.device, pixels, on_note))


@torch.inference_mode()
def upscale(
    image: Picture,
    model: Model,
    degradation: Degradation | None = None,
    tile: int | str = "auto",
    on_progress: Callable[[float], None] | None = None,
    *,
    overlap: int | None = None,
    dtype: DTypeLike = np.float32,
    colours: bool = True,
    on_note: Note = _say_nothing,
) -> Picture:
    """Restore a picture at the model's scale.

    Args:
        image: what `read_image` gives, or float (height, width, 3), RGB, nominally in [0, 1];
            values outside are allowed.
        model: from `load_model`.
        degradation: what guides the restoration; estimated once for the picture if not given.
        tile: "auto" restores the picture whole if the memory for that is there, else in tiles as
            large as it allows; 0 is the plain forward of the network, all at once; any other
            number is the side of a tile in LR pixels.
        on_progress: called with the share that is done, up to 1.
        overlap: LR pixels that neighbouring tiles share, half of them around each; if not given,
            what the network needs to see, less for small tiles.
        dtype: float32 for values in [0, 1], or uint8 or uint16 for rounded ones up to 255 or
            65535, which take less memory.
        colours: whether the local mean colours and a neutral grey stay those of the picture; if
            not, the result is what the network gives.
        on_note: called with a line for people when the memory or the precision does not suffice
            and something slower is tried.

    Returns:
        The same kind as `image`, `scale` times as high and wide. An `Image` keeps its
        transparency, colour profile and greyness. Its alpha is of `dtype`, too.

    Raises:
        ImageError: the array has another shape, or values that are not finite.
        SettingsError: the tile, the overlap, the dtype or the degradation does not fit.
        DeviceError: the memory does not suffice.
        WeightsError: the network's result is not finite.
    """
    pixels = _checked_pixels(image)
    check_tile(tile, overlap)
    network, (height, width) = model.network, pixels.shape[:2]
    grey = (isinstance(image, Image) and image.grey) or (colours and is_neutral(pixels))
    canvas = _Canvas(height * model.scale, width * model.scale, dtype, grey)
    request = Request(
        *(height, width, model.device, model.precision, tile, overlap, canvas.pixels.nbytes)
    )
    plan = choose_plan(network.config, request)  # or nothing starts
    if degradation is None:
        degradation = estimate(pixels, model, on_note=on_note)
    _check_degradation(degradation, pixels, model)

    def plan_on_cpu() -> Plan:
        cpu = torch.device("cpu")
        changed = replace(request, device=cpu, precision=torch.float32, tile="auto")
        return choose_plan(network.config, changed)

    task = Task(
        *(network, model.device, pixels, degradation.kernel, degradation.noise_map),
        *(canvas.paint, on_progress or (lambda done: None)),
    )
    restore(task, plan, plan_on_cpu, on_note)
    if colours:
        keep_colours(canvas.pixels, pixels, degradation.noise_map, grey=grey)
    if not isinstance(image, Image):
        return canvas.pixels
    alpha = None if image.alpha is None else resize_alpha(image.alpha, model.scale, dtype)
    return replace(image, pixels=canvas.pixels, alpha=alpha)


class _Canvas:
    """Collects restored pixels, clipped and in the dtype that is wanted."""

    def __init__(self, height: int, width: int, dtype: DTypeLike, grey: bool) -> None:
        kind = np.dtype(dtype)
        if kind not in (np.float32, np.uint8, np.uint16):
            raise SettingsError(f"dtype must be float32, uint8 or uint16, not {kind}")
        try:
            self.pixels = np.empty((height, width, 3), kind)
        except MemoryError:
            raise DeviceError(
                f"a result of {width}x{height} pixels does not fit into memory: "
                "use a smaller scale, or split the picture"
            ) from None
        self.grey = grey

    def paint(self, box: Box, part: Pixels) -> None:
        """Put float pixels (box.height, box.width, 3), nominally in [0, 1], into their place.

        They are changed: a band of tiles is large, and copies of it would count.
        """
        part.clip(0, 1, out=part)
        if self.grey:
            # The network sees three equal channels and may answer with a tint.
            part[:] = part @ LUMA_WEIGHTS[:, None]
        if self.pixels.dtype != np.float32:
            part *= np.iinfo(self.pixels.dtype).max
            np.rint(part, out=part)
        self.pixels[box.rows, box.columns] = part


def check_tile(tile: int | str, overlap: int | None) -> None:
    """Raise SettingsError if `upscale` takes no such tile, or no such overlap with it."""
    if tile != "auto" and (not isinstance(tile, int) or tile < 0):
        raise SettingsError(f"tile must be auto, 0, or a number of LR pixels, not {tile!r}")
    if overlap is None:
        return
    if overlap < 0 or (isinstance(tile, int) and 0 < tile <= overlap):
        most = f" to {tile - 1} at this tile" if isinstance(tile, int) and tile > 0 else " up"
        raise SettingsError(f"overlap must be from 0{most}, not {overlap}")


def _checked_pixels(image: Image | Pixels) -> Pixels:
    pixels = image.pixels if isinstance(image, Image) else np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ImageError(f"a picture must have shape (height, width, 3), not {pixels.shape}")
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ImageError(f"a picture must be float in [0, 1], not {pixels.dtype}: divide by 255")
    pixels = pixels.astype(np.float32, copy=False)
    if not np.isfinite(pixels).all():
        raise ImageError("the picture has values that are not finite")
    if isinstance(image, Image) and image.alpha is not None:
        return bleed_colour(pixels, image.alpha)  # what cannot be seen must not count
    return pixels


def _check_degradation(degradation: Degradation, pixels: Pixels, model: Model) -> None:
    size = model.network.config.kernel_size
    if degradation.kernel.shape != (size, size):
        raise SettingsError(
            f"{model.name} needs a {size}x{size} kernel, not {degradation.kernel.shape}"
        )
    for what, array in (("kernel", degradation.kernel), ("noise map", degradation.noise_map)):
        if array.dtype != np.float32:
            raise SettingsError(f"the {what} must be float32, not {array.dtype}")
        if not np.isfinite(array).all():
            raise SettingsError(f"the {what} has values that are not finite")
    if degradation.noise_map.shape != pixels.shape:
        raise SettingsError(
            f"the noise map {degradation.noise_map.shape} is not of the picture's shape "
            f"{pixels.shape}"
        )
