"""A result, blurred and shrunk again by the estimated kernel, in bounded memory."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dmsr_cli.degradation import bicubic_taps
from dmsr_cli.images import Samples

Pixels = NDArray[np.float32]

STRIP_PIXELS = 2**15
"""LR pixels of a strip: with their HR pixels, some 10 MB."""
LEAST_ROWS = 8
"""Of a strip: each also needs the HR rows around it."""


@torch.inference_mode()
def redegraded(
    result: Samples,
    kernel: Pixels,
    scale: int,
    device: torch.device | None = None,
    *,
    strip_pixels: int = STRIP_PIXELS,
) -> Pixels:
    """Blur and bicubic down-sampling, as `degradation.degrade` without noise.

    Both are one filter of which only every `scale`-th value is computed. Borders are mirrored
    before both. `degrade` mirrors before each, which is the same if the kernel is symmetric, and
    else differs in the two outermost LR pixels.

    Args:
        result: HR (h * scale, w * scale, 3), float32 in [0, 1], uint8 or uint16.
        kernel: (K, K) float32 in HR pixels.
        scale: 2, 3 or 4.
        device: where it is computed; the CPU if not given.
        strip_pixels: LR pixels that are computed at a time.

    Returns:
        LR float32 (h, w, 3).
    """
    height, width = result.shape[0] // scale, result.shape[1] // scale
    white = np.float32(1 if result.dtype == np.float32 else np.iinfo(result.dtype).max)
    weights = _joint_filter(torch.from_numpy(kernel), scale).to(device)
    size = weights.shape[-1]
    columns = _mirrored(result.shape[1], scale, size, kernel.shape[0], range(width))
    small = np.empty((height, width, 3), np.float32)
    rows_at_once = max(LEAST_ROWS, strip_pixels // width)
    for top in range(0, height, rows_at_once):
        rows = range(top, min(top + rows_at_once, height))
        places = _mirrored(result.shape[0], scale, size, kernel.shape[0], rows)
        strip = result[places][:, columns].astype(np.float32)
        strip /= white
        planes = torch.from_numpy(strip).to(device).permute(2, 0, 1).unsqueeze(1)
        filtered = F.conv2d(planes.contiguous(), weights, stride=scale)
        small[rows.start : rows.stop] = filtered[:, 0].permute(1, 2, 0).cpu().numpy()
    return small


def _joint_filter(kernel: Tensor, scale: int) -> Tensor:
    """Correlation with the flipped kernel, then with the bicubic taps, as one: (1, 1, L, L)."""
    taps = bicubic_taps(scale).float()
    bicubic = torch.outer(taps, taps)
    margin = len(taps) - 1
    flipped = F.pad(kernel.flip(0, 1), (margin, margin, margin, margin))
    return F.conv2d(flipped[None, None], bicubic.flip(0, 1)[None, None])


def _mirrored(
    length: int, scale: int, size: int, kernel_size: int, wanted: range
) -> NDArray[np.int64]:
    """HR places that a filter of `size` sees for the wanted LR pixels, mirrored at the borders."""
    before = (3 * scale + 1) // 2 + kernel_size // 2  # of `bicubic_taps`, and of the kernel
    first, last = wanted.start * scale - before, (wanted.stop - 1) * scale - before + size
    places = np.arange(first, last) % (2 * length)
    return np.minimum(places, 2 * length - 1 - places)
