"""From the planes of a video frame to RGB and back, by the clip's own matrix and range.

This is done here and not by libswscale: that ignores the range or the matrix in some releases of
PyAV, is off by up to 0.7 of 255 levels, and takes chroma for centred between the pixels where
nearly all clips have it on the left one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dmsr_cli.images import FloatArray

# The numbers of ITU-T H.273, which FFmpeg uses too.
BT709, UNSPECIFIED, BT601 = 1, 2, 6

LUMA_SHARES = {
    BT709: (0.2126, 0.0722),
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.470, the 625 lines' way to say BT.601
    BT601: (0.299, 0.114),
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}
"""Shares of red and blue in the luma, by the number of the matrix."""


@dataclass(frozen=True)
class Colour:
    """What the numbers of a clip's planes mean."""

    matrix: int
    """A key of LUMA_SHARES."""
    full_range: bool
    """Black is 0 and white the largest number, instead of 16 and 235 of 255."""
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    centred: bool = False
    """Subsampled chroma lies between the pixels, as in JPEG, not on the left one of two."""


def usual_matrix(width: int, height: int) -> int:
    """What players take for the matrix of a clip that does not say it."""
    return BT709 if width >= 1280 or height > 576 else BT601


def rgb_of_planes(
    planes: list[NDArray[Any]], bits: int, colour: Colour, factors: tuple[int, int]
) -> FloatArray:
    """Luma and two planes of chroma as RGB, height x width x 3, float32 in [0, 1].

    Args:
        planes: integers.
        bits: how many of them count.
        colour: what they mean.
        factors: columns and rows of pixels that share a sample of chroma.
    """
    luma, blue, red = planes
    height, width = luma.shape
    low, steps, chroma_steps = _levels(bits, colour.full_range)
    zero = 1 << (bits - 1)
    grey = (luma.astype(np.float32) - np.float32(low)) / np.float32(steps)
    blue_difference, red_difference = (
        _enlarged(
            (plane.astype(np.float32) - np.float32(zero)) / np.float32(chroma_steps),
            (height, width),
            factors,
            colour.centred,
        )
        for plane in (blue, red)
    )
    red_share, blue_share = LUMA_SHARES[colour.matrix]
    pixels = np.empty((height, width, 3), np.float32)
    pixels[..., 0] = grey + np.float32(2 * (1 - red_share)) * red_difference
    pixels[..., 2] = grey + np.float32(2 * (1 - blue_share)) * blue_difference
    pixels[..., 1] = (
        grey - np.float32(red_share) * pixels[..., 0] - np.float32(blue_share) * pixels[..., 2]
    ) / np.float32(1 - red_share - blue_share)
    return pixels.clip(0, 1, out=pixels)


def grey_of_plane(plane: NDArray[Any], bits: int, full_range: bool) -> FloatArray:
    """A plane of luma as three equal channels, float32 in [0, 1]."""
    low, steps, _ = _levels(bits, full_range)
    grey = (plane.astype(np.float32) - np.float32(low)) / np.float32(steps)
    return np.repeat(grey.clip(0, 1)[..., None], 3, axis=2)


def planes_of_rgb(
    pixels: FloatArray, bits: int, colour: Colour, factors: tuple[int, int]
) -> list[NDArray[Any]]:
    """Float RGB in [0, 1] as luma and two planes of chroma, of integers of so many bits.

    Args:
        pixels: height x width x 3; both sides are multiples of their factor.
        bits: 8 gives uint8, more gives uint16.
        colour: its chroma is written on the left pixel, whatever `centred` says.
        factors: columns and rows of pixels that share a sample of chroma, 1 or 2 each.
    """
    red_share, blue_share = LUMA_SHARES[colour.matrix]
    shares = np.array([red_share, 1 - red_share - blue_share, blue_share], np.float32)
    luma = pixels @ shares
    blue = (pixels[..., 2] - luma) / np.float32(2 * (1 - blue_share))
    red = (pixels[..., 0] - luma) / np.float32(2 * (1 - red_share))
    low, steps, chroma_steps = _levels(bits, colour.full_range)
    zero = 1 << (bits - 1)
    planes = [luma * np.float32(steps) + np.float32(low)]
    planes += [
        _reduced(plane, factors) * np.float32(chroma_steps) + np.float32(zero)
        for plane in (blue, red)
    ]
    kind = np.uint8 if bits == 8 else np.uint16
    return [np.rint(plane).clip(0, (1 << bits) - 1).astype(kind) for plane in planes]


def _levels(bits: int, full_range: bool) -> tuple[int, int, int]:
    """Black, the levels from there to white, and those from one end of chroma to the other."""
    if full_range:
        return 0, (1 << bits) - 1, (1 << bits) - 1
    unit = 1 << (bits - 8)
    return 16 * unit, 219 * unit, 224 * unit


def _enlarged(
    plane: FloatArray, size: tuple[int, int], factors: tuple[int, int], centred: bool
) -> FloatArray:
    """Chroma at the size of the luma, height and width, linear between its samples."""
    rows = _lines_between(plane, size[0], factors[1], centred=True)
    enlarged: FloatArray = _lines_between(rows.T, size[1], factors[0], centred).T
    return enlarged


def _lines_between(plane: FloatArray, count: int, factor: int, centred: bool) -> FloatArray:
    """A plane with so many rows, `factor` for each that it has."""
    if factor == 1:
        return plane
    places = np.arange(count, dtype=np.float32) / np.float32(factor)
    if centred:
        places += np.float32(0.5 / factor - 0.5)
    places = places.clip(0, len(plane) - 1)
    before = places.astype(np.intp)
    after = np.minimum(before + 1, len(plane) - 1)
    part = (places - before)[:, None]
    between: FloatArray = plane[before] + part * (plane[after] - plane[before])
    return between


def _reduced(plane: FloatArray, factors: tuple[int, int]) -> FloatArray:
    """Chroma of fewer samples: on the left one of two columns, between two rows."""
    columns, rows = factors
    if rows == 2:
        plane = (plane[0::2] + plane[1::2]) * np.float32(0.5)
    if columns == 2:
        centre, right = plane[:, 0::2], plane[:, 1::2]
        left = np.concatenate([centre[:, :1], right[:, :-1]], axis=1)
        plane = (left + right) * np.float32(0.25) + centre * np.float32(0.5)
    return plane
