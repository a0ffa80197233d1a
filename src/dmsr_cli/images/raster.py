"""Pixels as a file stores them, and how they become ours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import PIL.Image

from dmsr_cli.errors import ImageError
from dmsr_cli.images.picture import FloatArray, Samples


@dataclass(frozen=True, eq=False)
class Raster:
    """Pixels as a file stores them: not yet upright, in the file's own numbers."""

    samples: Samples
    """Height x width x channels: one of grey or three of RGB, then opacity if there is one."""
    white: float
    """The number that full light and full opacity have."""
    has_alpha: bool = False
    premultiplied: bool = False
    """The colours have been multiplied by the opacity."""

    @property
    def grey(self) -> bool:
        """There is a single channel besides the opacity."""
        return bool(self.samples.shape[2] - self.has_alpha == 1)


def raster_of(picture: PIL.Image.Image) -> Raster:
    """A decoded picture of Pillow: grey of any depth, or what Pillow can convert to RGB."""
    mode = picture.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        return _deep_grey(picture)
    grey = mode in ("1", "L", "LA", "La")
    has_alpha = picture.has_transparency_data
    target = ("L" if grey else "RGB") + ("A" if has_alpha else "")
    picture = picture if mode == target else picture.convert(target)
    return Raster(_with_channels(np.asarray(picture)), 255, has_alpha)


def planes_of(raster: Raster, orientation: int) -> tuple[FloatArray, FloatArray | None]:
    """Pixels, height x width x 3, and opacity, both upright, in [0, 1] and contiguous.

    Raises:
        ImageError: values outside the range of the type, which says what white is, and never the
            brightest pixel.
    """
    low, high = raster.samples.min(), raster.samples.max()
    if not (low >= 0 and high <= raster.white):  # also true of NaN
        raise ImageError(
            f"its values, {low} to {high}, lie outside 0 to {raster.white}; "
            "convert it to 8 or 16 bit"
        )
    upright = _turned(raster.samples, orientation)
    colours = 1 if raster.grey else 3
    pixels = _scaled(upright[..., :colours], raster.white)
    alpha = _scaled(upright[..., colours], raster.white) if raster.has_alpha else None
    if alpha is not None and raster.premultiplied:
        visible = alpha > 0
        np.divide(pixels, alpha[..., None], out=pixels, where=visible[..., None])
        np.minimum(pixels, 1, out=pixels)
    return np.repeat(pixels, 3, axis=2) if raster.grey else pixels, alpha


def _scaled(samples: Samples, white: float) -> FloatArray:
    """The only copy that is made: turning and cutting out channels are views."""
    values: FloatArray = samples.astype(np.float32, order="C")
    values /= np.float32(white)
    return values


def _with_channels(samples: Samples) -> Samples:
    return samples[..., None] if samples.ndim == 2 else samples


def _deep_grey(picture: PIL.Image.Image) -> Raster:
    stored = np.asarray(picture)
    transparent = picture.info.get("transparency")
    white = 1 if picture.mode == "F" else 65_535
    if not isinstance(transparent, int):
        return Raster(stored[..., None], white)
    opacity = np.where(stored == transparent, 0, white).astype(stored.dtype)
    return Raster(np.stack([stored, opacity], axis=2), white, has_alpha=True)


def _turned(samples: Samples, orientation: int) -> Samples:
    """A view that stands as the orientation tag of EXIF, 1 to 8, says."""
    if orientation in (5, 6, 7, 8):  # stored by columns
        samples = samples.swapaxes(0, 1)
    from_bottom = orientation in (3, 4, 7, 8)
    from_right = orientation in (2, 3, 6, 7)
    return samples[:: -1 if from_bottom else 1, :: -1 if from_right else 1]
