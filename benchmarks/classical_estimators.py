"""Noise and blur as they are estimated without a network: what `estimation.py` compares with.

    python benchmarks/classical_estimators.py FOLDER

prints the table EDGE_BLURS, as measured on the pictures of a folder.
"""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmsr_cli import read_image
from dmsr_cli.degradation import blur, crop_to_multiple, degrade, gaussian_kernel
from dmsr_cli.images import LUMA_WEIGHTS, find_images

Pixels = NDArray[np.float32]

WIDTHS = (0.2, 0.5, 0.8, 1.1, 1.4, 1.7, 2.0, 2.3, 2.6, 3.0)
EDGE_BLURS = {
    2: (-0.073, -0.017, 0.087, 0.217, 0.389, 0.654, 0.954, 1.299, 1.624, 2.123),
    3: (0.030, 0.049, 0.075, 0.148, 0.227, 0.324, 0.434, 0.565, 0.724, 0.946),
    4: (0.018, 0.026, 0.046, 0.068, 0.100, 0.155, 0.230, 0.291, 0.358, 0.467),
}
"""What `edge_blur` finds for each of WIDTHS at each scale, without noise: medians over 20
photographs that are in no test set. Shrinking blurs, too, and no edge is a perfect step."""
REBLURS = (1.0, 2.0)
STRONGEST = 0.01


def has_wavelets() -> bool:
    """Whether scikit-image and PyWavelets, which its estimate_sigma needs, are installed."""
    return all(importlib.util.find_spec(name) for name in ("skimage", "pywt"))


def wavelet_level(pixels: Pixels) -> float:
    """Noise level, 0-255: scikit-image's estimate_sigma, root mean square over the channels.

    The median of the finest diagonal wavelet coefficients: Donoho and Johnstone, "Ideal spatial
    adaptation by wavelet shrinkage", Biometrika 81(3), 1994.
    """
    from skimage.restoration import estimate_sigma

    sigmas = np.array(estimate_sigma(pixels, channel_axis=-1), dtype=np.float64)  # type: ignore[no-untyped-call] # scikit-image has not typed it
    return float(np.sqrt(np.mean(sigmas**2))) * 255


def laplacian_level(pixels: Pixels) -> float:
    """Noise level, 0-255, root mean square over the channels.

    The mean of a difference of two Laplacians, which lines and slopes do not move: Immerkær, "Fast
    noise variance estimation", Computer Vision and Image Understanding 64(2), 1996.
    """
    columns = pixels[:, :-2] - 2 * pixels[:, 1:-1] + pixels[:, 2:]
    response = columns[:-2] - 2 * columns[1:-1] + columns[2:]
    sigmas = np.sqrt(np.pi / 2) / 6 * np.abs(response).mean(axis=(0, 1), dtype=np.float64)
    return float(np.sqrt(np.mean(sigmas**2))) * 255


def edge_width(pixels: Pixels, scale: int) -> float:
    """Width of a Gaussian blur in HR pixels, from 0.2 to 3, by `edge_blur`, calibrated."""
    measured = np.maximum.accumulate(EDGE_BLURS[scale])
    return float(np.interp(edge_blur(pixels), measured, WIDTHS))


def edge_blur(pixels: Pixels) -> float:
    """Variance of the blur of the strongest edges, in LR pixels, if they were steps.

    The gradient of a step falls with 1 / sqrt(blur^2 + re-blur^2), so the ratio of two re-blurred
    gradients tells the blur: Zhuo and Sim, "Defocus map estimation from a single image", Pattern
    Recognition 44(9), 2011. They take one re-blur; two hold noise down. Negative where an edge was
    sharpened, as bicubic shrinking does.
    """
    grey = torch.from_numpy(np.ascontiguousarray(pixels @ LUMA_WEIGHTS))[None, None]
    narrow, wide = (_gradients(blur(grey, gaussian_kernel(width))) for width in REBLURS)
    strong = narrow >= torch.quantile(narrow.flatten(), 1 - STRONGEST)
    squared = float((narrow[strong] / wide[strong].clamp_min(1e-6)).median()) ** 2
    low, high = (width**2 for width in REBLURS)
    return (high - squared * low) / max(squared - 1, 1e-3)


def _gradients(grey: Tensor) -> Tensor:
    """Magnitudes (h - 2, w - 2) of the central differences of (1, 1, h, w)."""
    plane = grey[0, 0]
    rows = plane[2:, 1:-1] - plane[:-2, 1:-1]
    columns = plane[1:-1, 2:] - plane[1:-1, :-2]
    return torch.hypot(rows, columns)


def main() -> None:
    pictures = [
        torch.from_numpy(read_image(path).pixels).permute(2, 0, 1).unsqueeze(0)
        for path in find_images(sys.argv[1])
    ]
    for scale in EDGE_BLURS:
        medians = []
        for width in WIDTHS:
            found = []
            for picture in pictures:
                hr = crop_to_multiple(picture, scale)
                lr = degrade(hr, gaussian_kernel(width), scale, 0)
                found.append(edge_blur(lr[0].permute(1, 2, 0).numpy()))
            medians.append(f"{np.median(found):.3f}")
        print(f"    {scale}: ({', '.join(medians)}),")


if __name__ == "__main__":
    main()
