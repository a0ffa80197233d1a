"""Any output size: what was asked for, the scales of the models that reach it, the way down to it.

A model enlarges by a whole number. Every other size is the result of the next larger model, shrunk.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from dmsr_cli.config import SCALES
from dmsr_cli.errors import ImageError, SettingsError
from dmsr_cli.images import Image, Samples, largest_side

MAX_OUTPUT_PIXELS = 2**31
"""Largest picture that is made, in pixels: 24 GiB as float RGB."""
LARGEST_FACTOR = max(SCALES) ** 2
"""What two passes reach."""
SECOND_PASS = (
    "the second pass restores what is already a reconstruction: it sharpens what the first one "
    "invented and adds no information"
)
_STRIP_PIXELS = 2**20
"""Pixels that are shrunk at a time, so that Pillow's copies stay small."""

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Enlargement:
    """A result so many times as high and wide as its picture."""

    factor: int | float

    @property
    def label(self) -> str:
        """What the names of results get: _x4, _x3.5."""
        return f"_x{self.factor}"

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result for a picture, rounded."""
        return _rounded(height * self.factor), _rounded(width * self.factor)

    def factor_of(self, height: int, width: int) -> int | float:
        """The same for every picture."""
        return self.factor


@dataclass(frozen=True)
class OutputSize:
    """A result of so many pixels; a side that is None follows from the picture's aspect ratio."""

    width: int | None
    height: int | None

    @property
    def label(self) -> str:
        """What the names of results get: _800x600, _w800, _h600 (_x600 could mean a factor)."""
        if self.height is None:
            return f"_w{self.width}"
        return f"_h{self.height}" if self.width is None else f"_{self.width}x{self.height}"

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result for a picture; at least 1 each."""
        high = _rounded(Fraction(height * (self.width or width), width))
        wide = _rounded(Fraction(width * (self.height or height), height))
        return self.height or max(1, high), self.width or max(1, wide)

    def factor_of(self, height: int, width: int) -> int | float:
        """The larger of the two side ratios, result over picture; int when whole."""
        high, wide = self.size_of(height, width)
        ratio = max(Fraction(high, height), Fraction(wide, width))
        return int(ratio) if ratio.denominator == 1 else float(ratio)


def parse_factor(text: str) -> Enlargement:
    """What -s means: "4", "x4", "3.5" or "x3.5".

    Raises:
        SettingsError: it is not a number above 1 and at most LARGEST_FACTOR.
    """
    try:
        factor = float(text[1:] if text[:1] in ("x", "X") else text)
    except ValueError:
        factor = math.nan
    if not 1 < factor <= LARGEST_FACTOR:  # also false of NaN
        raise SettingsError(
            f"{text!r} is not a number above 1 and at most {LARGEST_FACTOR}, as 2, 3.5 or x4"
        )
    return Enlargement(int(factor) if factor.is_integer() else factor)


def parse_size(text: str) -> OutputSize:
    """What --size means: "800x600", "800x" or "x600".

    Raises:
        SettingsError: it is none of these, a side is 0, or it has too many pixels.
    """
    match = re.fullmatch(r"(\d{0,20})[xX](\d{0,20})", text, re.ASCII)
    width, height = match.groups() if match else ("", "")
    size = OutputSize(int(width) if width else None, int(height) if height else None)
    sides = [side for side in (size.width, size.height) if side is not None]
    if not sides or 0 in sides:
        raise SettingsError(f"{text!r} is not a size in pixels, as 800x600, 800x or x600")
    if math.prod(sides) > MAX_OUTPUT_PIXELS:
        raise SettingsError(f"{text!r} is more than {MAX_OUTPUT_PIXELS} pixels")
    return size


def plan_passes(
    factor: float, name: str, scales: Sequence[int], passes: int = 1
) -> tuple[int, ...]:
    """Scales of the models to run, one after the other, that reach a factor with the least excess.

    Args:
        factor: what is wanted; 1 and less, too, gets a pass, which denoises and deblurs.
        name: the model or the family, for messages.
        scales: what it has.
        passes: how many passes are allowed, 1 or 2; the second is taken only if one is too little.

    Raises:
        SettingsError: the factor is out of reach.
    """
    for count in range(1, passes + 1):
        plans = [plan for plan in _plans(sorted(scales), count) if math.prod(plan) >= factor]
        if plans:
            return min(plans, key=math.prod)
    raise SettingsError(_out_of_reach(factor, name, max(scales), passes))


def _plans(scales: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """Every sequence of passes; the larger scale first, as that one sees a real picture."""
    if count == 1:
        return [(scale,) for scale in scales]
    return [(first, second) for first in scales for second in scales if second <= first]


def _out_of_reach(factor: float, name: str, scale: int, passes: int) -> str:
    wanted = f"x{factor:.4g}"
    if factor > LARGEST_FACTOR:
        return f"{wanted} is more than even two passes give: at most x{LARGEST_FACTOR}"
    if passes == 1 and factor > max(SCALES):
        return (
            f"{wanted} is more than one pass gives: use at most x{max(scale, *SCALES)}, or "
            f"--passes 2 ({SECOND_PASS})"
        )
    needed = next(larger for larger in SCALES if larger**passes >= factor)
    return (
        f"{name} is a x{scale} model, and {wanted} needs a x{needed} model"
        f"{' in two passes' if passes == 2 else ''}; use at most -s {scale**passes}, "
        "or another --model"
    )


def check_output(size: tuple[int, int], restored: tuple[int, int], suffix: str) -> None:
    """Refuse what cannot end well, before the work: too many pixels, or too many for the format.

    Args:
        size: height and width of the result.
        restored: height and width of what the models make, which is not smaller.
        suffix: of the result's file.

    Raises:
        ImageError: that is so.
    """
    height, width = restored
    if height * width > MAX_OUTPUT_PIXELS:
        raise ImageError(
            f"{width} x {height} pixels would have to be made, more than {MAX_OUTPUT_PIXELS}; "
            "use a smaller size"
        )
    largest = largest_side(suffix) or max(size)
    if max(size) > largest:
        raise ImageError(
            f"{size[1]} x {size[0]} pixels are too many for {suffix}, which allows {largest} on a "
            "side; use .png or .tif"
        )


def resize_image(image: Image, height: int, width: int) -> Image:
    """A picture at another size, alpha included: Lanczos with antialiasing, clipped.

    The result is of the picture's dtype. Beside it this takes the memory of a channel in float32.
    """
    if (image.height, image.width) == (height, width):
        return image
    pixels = np.empty((height, width, 3), image.pixels.dtype)
    for channel in range(3):
        _resize_plane(image.pixels[..., channel], pixels[..., channel])
    alpha = None
    if image.alpha is not None:
        alpha = np.empty((height, width), image.alpha.dtype)
        _resize_plane(image.alpha, alpha)
    return dataclasses.replace(image, pixels=pixels, alpha=alpha)


def _resize_plane(source: Samples, target: Samples) -> None:
    """Fill `target` (H, W) from `source` (h, w), of one dtype: rows first, then columns, in strips.

    Strips run along the axis that is resized, so they need no overlap and change no bit.
    """
    height, width = target.shape
    white = 1 if target.dtype.kind == "f" else np.iinfo(target.dtype).max
    narrow = np.empty((source.shape[0], width), np.float32)
    for rows in _strips(source.shape[0], max(source.shape[1], width)):
        narrow[rows] = _lanczos(source[rows].astype(np.float32, copy=False), width=width)
    for columns in _strips(width, max(source.shape[0], height)):
        strip = _lanczos(narrow[:, columns], height=height).clip(0, white)
        target[:, columns] = strip if white == 1 else np.rint(strip)


def _lanczos(plane: Plane, height: int | None = None, width: int | None = None) -> NDArray[Any]:
    """Pillow's Lanczos filter with three lobes, summed in double precision, along one axis."""
    size = (width or plane.shape[1], height or plane.shape[0])
    picture = PillowImage.fromarray(np.ascontiguousarray(plane))
    return np.asarray(picture.resize(size, PillowImage.Resampling.LANCZOS))


def _strips(length: int, across: int) -> Iterator[slice]:
    """Cuts an axis so that a strip, `across` pixels the other way, has about _STRIP_PIXELS."""
    step = max(1, _STRIP_PIXELS // across)
    return (slice(start, start + step) for start in range(0, length, step))


def _rounded(value: float | Fraction) -> int:
    """To the nearest whole number, halves up."""
    return math.floor(value + Fraction(1, 2))
