"""A picture in memory, with what its file says about it besides the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Shares of red, green and blue in the luma of BT.601."""

FloatArray = NDArray[np.float32]
Samples = NDArray[Any]
"""float32 in [0, 1], uint8 (0 to 255) or uint16 (0 to 65535); the type says which range it is."""


@dataclass(frozen=True, eq=False)
class Image:
    """A picture in memory, with what a file says about it besides the pixels."""

    pixels: Samples
    """Height x width x 3, RGB, upright. What `read_image` gives is float32 in [0, 1]; a result may
    also be uint8 (0 to 255) or uint16 (0 to 65535)."""
    alpha: Samples | None = None
    """Opacity, height x width, of any of these types; None when the file has no transparency."""
    grey: bool = False
    """The file had a single colour channel; the three of `pixels` are then equal."""
    icc_profile: bytes | None = None
    """Colour profile of the pixels as the file has it, for grey or for RGB as they are; None means
    sRGB."""
    exif: bytes | None = None
    """EXIF block that starts with its `Exif` header, without orientation, thumbnail, and what else
    says how one file holds its pixels."""
    dpi: tuple[float, float] | None = None
    """Horizontal and vertical resolution for printing, pixels per inch, from the container or from
    EXIF."""
    format: str = ""
    """Format of the file it came from, in Pillow's words: PNG, JPEG, WEBP, ..."""
    xmp: bytes | None = None
    """XMP packet as the file has it, but for the orientation, which is 1 wherever it stands."""
    depth: int = 8
    """Bits per channel that the file is worth: 8 or 16, from its header. What is written has 16
    where the format can and this says so."""
    warnings: tuple[str, ...] = ()
    """What of the file could not be used, each a clause for people: `its colour profile is damaged
    and was left out`."""

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return int(self.pixels.shape[1])
