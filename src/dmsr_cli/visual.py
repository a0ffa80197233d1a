"""Pictures that show a degradation, or a result beside its input."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

Pixels = NDArray[np.float32]

KERNEL_MAGNIFICATION = 16
DIVIDER = 4
"""Pixels between the two halves of a comparison."""


def kernel_picture(kernel: Pixels) -> Pixels:
    """A blur kernel (K, K) as a grey picture, 16 pixels for a tap, its largest tap white.

    Returns:
        float32 (16 K, 16 K, 3) in [0, 1].
    """
    brightness = np.clip(kernel / max(float(kernel.max()), 1e-12), 0, 1).astype(np.float32)
    enlarged = brightness.repeat(KERNEL_MAGNIFICATION, 0).repeat(KERNEL_MAGNIFICATION, 1)
    return np.repeat(enlarged[..., None], 3, axis=2)


def noise_picture(noise_map: Pixels) -> Pixels:
    """A noise map (h, w, 3) around middle grey, so that three standard deviations fill the range.

    Returns:
        float32 (h, w, 3) in [0, 1]; flat grey where there is no noise (less than one level).
    """
    deviation = max(float(np.sqrt(np.mean(np.square(noise_map, dtype=np.float64)))), 1 / 255)
    picture: Pixels = np.clip(0.5 + noise_map / np.float32(6 * deviation), 0, 1)
    return picture.astype(np.float32)


def comparison(before: Pixels, after: Pixels) -> Pixels:
    """The input, enlarged plainly (bicubic), on the left, and the result on the right.

    Args:
        before: LR (h, w, 3), float32 in [0, 1].
        after: HR (h * scale, w * scale, 3), float32 in [0, 1].

    Returns:
        float32 (h * scale, 2 * w * scale + 4, 3) in [0, 1], with a white line between.
    """
    height, width = after.shape[:2]
    planes = [
        PillowImage.fromarray(np.ascontiguousarray(before[..., colour])).resize(
            (width, height), PillowImage.Resampling.BICUBIC
        )
        for colour in range(3)
    ]
    enlarged = np.stack([np.asarray(plane) for plane in planes], axis=-1).clip(0, 1)
    line = np.ones((height, DIVIDER, 3), np.float32)
    return np.concatenate((enlarged, line, after), axis=1)
