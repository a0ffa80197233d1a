"""A result beside its input."""

from __future__ import annotations

import numpy as np
from PIL import Image as PillowImage

from dmsr_cli.images import Samples
from dmsr_cli.visual.layout import DIVIDER, Pixels


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
