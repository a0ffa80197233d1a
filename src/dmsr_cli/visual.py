"""Pictures that show a degradation, or a result beside its input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from dmsr_cli.images import Samples

Pixels = NDArray[np.float32]

KERNEL_MAGNIFICATION = 16
DIVIDER = 4
"""Pixels between the two halves of a comparison, and between the pictures of a strip."""
TEXT_HEIGHT = 14
"""Font size of the labels of a strip, in pixels."""
SPACE_ABOVE_TEXT = 5
"""So that a label is nearer to the row that it belongs to than to the one above."""
SPACE_BESIDE_NAMES = ((0, 0), (DIVIDER, DIVIDER), (0, 0))
STRIP_COLUMNS = ("LR", "result", "HR", "true kernel", "estimated kernel")


class StripRow(NamedTuple):
    """One degradation of a picture, and what a network made of it."""

    lr: Pixels
    """(h, w, 3), float32, nominally in [0, 1]."""
    restored: Pixels
    """(H, W, 3), as all HR pictures."""
    hr: Pixels
    true_kernel: Pixels
    """(K, K), float32, not negative."""
    estimated_kernel: Pixels
    label: str
    """One line of text."""


def kernel_picture(kernel: Pixels) -> Pixels:
    """A blur kernel (K, K) as a grey picture, 16 pixels for a tap, its largest tap white.

    Returns:
        float32 (16 K, 16 K, 3) in [0, 1].
    """
    brightness = np.clip(kernel / max(float(kernel.max()), 1e-12), 0, 1).astype(np.float32)
    return _grey(brightness, KERNEL_MAGNIFICATION)


def noise_picture(noise_map: Pixels) -> Pixels:
    """A noise map (h, w, 3) around middle grey, so that three standard deviations fill the range.

    Returns:
        float32 (h, w, 3) in [0, 1]; flat grey where there is no noise (less than one level).
    """
    deviation = max(float(np.sqrt(np.mean(np.square(noise_map, dtype=np.float64)))), 1 / 255)
    picture: Pixels = np.clip(0.5 + noise_map / np.float32(6 * deviation), 0, 1)
    return picture.astype(np.float32)


def comparison(before: Pixels, after: Samples) -> Samples:
    """The input, enlarged plainly (bicubic), on the left, and the result on the right.

    Args:
        before: LR (h, w, 3), float32 in [0, 1].
        after: the result (H, W, 3), float32 in [0, 1], uint8 or uint16.

    Returns:
        (H, 2 * W + 4, 3) of the dtype of `after`, with a white line between.
    """
    height, width = after.shape[:2]
    white = 1 if after.dtype.kind == "f" else np.iinfo(after.dtype).max
    both = np.full((height, 2 * width + DIVIDER, 3), white, after.dtype)
    for colour in range(3):
        plane = PillowImage.fromarray(np.ascontiguousarray(before[..., colour]))
        resized = plane.resize((width, height), PillowImage.Resampling.BICUBIC)
        enlarged = np.asarray(resized).clip(0, 1) * white
        both[:, :width, colour] = enlarged if white == 1 else np.rint(enlarged)
    both[:, width + DIVIDER :] = after
    return both


def validation_strip(rows: Sequence[StripRow]) -> Pixels:
    """A row of pictures for each degradation, under its label: LR, result, HR and both kernels.

    LR and kernels are enlarged plainly, so that one sees their pixels. All kernels have the same
    brightness scale, that of the largest tap in the strip, and can be compared; the brightness is
    the cube root of a tap, because a wide kernel has only a fortieth of a narrow one's peak.

    Args:
        rows: at least one.

    Returns:
        float32 (height, width, 3) in [0, 1] on white, with the names of the columns on top.
    """
    largest = max(max(row.true_kernel.max(), row.estimated_kernel.max()) for row in rows)
    pictures = [_strip_pictures(row, max(float(largest), 1e-12)) for row in rows]
    names = [np.pad(_text(name), SPACE_BESIDE_NAMES, constant_values=1) for name in STRIP_COLUMNS]
    widths = [
        max(picture.shape[1] for picture in column) for column in zip(names, *pictures, strict=True)
    ]
    lines = [_side_by_side(names, widths)]
    for row, cells in zip(rows, pictures, strict=True):
        label = _text(row.label)
        lines += [_side_by_side([label], [label.shape[1]]), _side_by_side(cells, widths)]
    return _stacked(lines)


def _strip_pictures(row: StripRow, largest_tap: float) -> list[Pixels]:
    height, width = row.hr.shape[:2]
    from_rows = np.arange(height) * row.lr.shape[0] // height
    from_columns = np.arange(width) * row.lr.shape[1] // width
    pictures = [row.lr[from_rows][:, from_columns], row.restored, row.hr]
    kernels = [row.true_kernel, row.estimated_kernel]
    return [np.clip(picture, 0, 1).astype(np.float32) for picture in pictures] + [
        _kernel_square(np.cbrt(np.clip(kernel / largest_tap, 0, 1)), height) for kernel in kernels
    ]


def _kernel_square(brightness: Pixels, side: int) -> Pixels:
    """A kernel as large as whole pixels per tap allow, in the middle of a black square."""
    magnification = max(side // brightness.shape[0], 1)
    enlarged = _grey(brightness.astype(np.float32), magnification)
    missing = max(side - enlarged.shape[0], 0)
    before, after = missing // 2, missing - missing // 2
    return np.pad(enlarged, ((before, after), (before, after), (0, 0)))


def _grey(brightness: Pixels, magnification: int) -> Pixels:
    """(K, K) in [0, 1] as a grey picture with `magnification` pixels for each value."""
    enlarged = brightness.repeat(magnification, 0).repeat(magnification, 1)
    return np.repeat(enlarged[..., None], 3, axis=2)


def _text(text: str) -> Pixels:
    """One line in black on white, in Pillow's own font, which needs no file."""
    font = ImageFont.load_default(size=TEXT_HEIGHT)
    left, _, right, _ = font.getbbox(text)
    bottom = font.getbbox(f"{text}gj|")[3]  # one height and baseline, whatever the letters
    size = (math.ceil(right - left), SPACE_ABOVE_TEXT + math.ceil(bottom))
    picture = PillowImage.new("L", size, 255)
    ImageDraw.Draw(picture).text((-left, SPACE_ABOVE_TEXT), text, fill=0, font=font)
    return _grey(np.asarray(picture, np.float32) / np.float32(255), 1)


def _side_by_side(pictures: Sequence[Pixels], widths: Sequence[int]) -> Pixels:
    """Each picture in the middle of its column, on white, with a divider on every side of it."""
    height = max(picture.shape[0] for picture in pictures)
    line = np.ones((height, sum(widths) + DIVIDER * (len(widths) + 1), 3), np.float32)
    column = DIVIDER
    for picture, width in zip(pictures, widths, strict=True):
        top = (height - picture.shape[0]) // 2
        left = column + (width - picture.shape[1]) // 2
        line[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        column += width + DIVIDER
    return line


def _stacked(lines: Sequence[Pixels]) -> Pixels:
    """Lines from the left border on, on white, with dividers between."""
    width = max(line.shape[1] for line in lines)
    return np.concatenate(
        [
            np.pad(line, ((0, DIVIDER), (0, width - line.shape[1]), (0, 0)), constant_values=1)
            for line in lines
        ]
    )
