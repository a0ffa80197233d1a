"""Pictures that show a degradation."""

from __future__ import annotations

import numpy as np

from dmsr_cli.visual.layout import Pixels, grey_picture

KERNEL_MAGNIFICATION = 16


def kernel_picture(kernel: Pixels) -> Pixels:
    """A blur kernel (K, K) as a grey picture, 16 pixels for a tap, its largest tap white.

    Returns:
        float32 (16 K, 16 K, 3) in [0, 1].
    """
    brightness = np.clip(kernel / max(float(kernel.max()), 1e-12), 0, 1).astype(np.float32)
    return grey_picture(brightness, KERNEL_MAGNIFICATION)


def noise_picture(noise_map: Pixels) -> Pixels:
    """A noise map (h, w, 3) around middle grey, so that three standard deviations fill the range.

    Returns:
        float32 (h, w, 3) in [0, 1]; flat grey where there is no noise (less than one level).
    """
    deviation = max(float(np.sqrt(np.mean(np.square(noise_map, dtype=np.float64)))), 1 / 255)
    picture: Pixels = np.clip(0.5 + noise_map / np.float32(6 * deviation), 0, 1)
    return picture.astype(np.float32)
