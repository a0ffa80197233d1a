"""Channel attention of a picture whose features do not fit into memory.

A gate of the channel attention depends on a mean over the whole picture. A tile alone would give
another mean, and so another result; the gates are therefore made first, once for the picture, from
patches that are spread over it and run through the body together, as one. Then every tile gets the
same gates, and the tiles are as local as their convolutions. Many small patches tell more than a
few large ones of as many pixels (docs/performance.md).

Means in a window around each place, as Test-time Local Converter has them (Chu et al., ECCV 2022),
are the alternative: within 0.05 dB of the whole picture's on Set14 and B100, in both directions
(docs/performance.md), and not exact for pictures that do fit. So the paper's definition stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dmsr_cli.inference.pieces import features_of
from dmsr_cli.model.restorer import Restorer
from dmsr_cli.tiling import Box

PATCH = 8
"""Side of a patch that counts, in LR pixels."""
MARGIN = 8
"""LR pixels around it that only give it surroundings."""


def sampled_gates(
    restorer: Restorer,
    height: int,
    width: int,
    inputs_of: Callable[[Box], tuple[Tensor, Tensor]],
    pixels: int,
) -> list[Tensor]:
    """The gates of all blocks, from patches of about `pixels` LR pixels together.

    Args:
        restorer: the network.
        height: of the LR picture; `width` likewise.
        width: see `height`.
        inputs_of: gives LR picture and noise map of a box, each (1, 3, box.height, box.width).
        pixels: if the picture has no more, it is taken whole, and the gates are exact.

    Returns:
        A gate (1, C, 1, 1) for each block.
    """
    if height * width <= pixels:
        boxes, margin = [Box(0, 0, height, width)], 0
    else:
        boxes = spread_patches(height, width, pixels)
        # Patches from edge to edge have all of their surroundings.
        margin = MARGIN if min(boxes[0].height, boxes[0].width) == PATCH + 2 * MARGIN else 0
    lr, noise_map = (torch.cat(parts) for parts in zip(*map(inputs_of, boxes), strict=True))
    _, gates = features_of(restorer, lr, noise_map, margin=margin)
    return gates


def spread_patches(height: int, width: int, pixels: int) -> list[Box]:
    """Patches of one size on a regular grid over the picture, `pixels` pixels in all, or a few."""
    side = PATCH + 2 * MARGIN
    high, wide = min(side, height), min(side, width)
    count = max(1, pixels // (high * wide))
    rows = min(count, -(-height // high), max(1, round(math.sqrt(count * height / width))))
    columns = min(-(-width // wide), max(1, count // rows))
    return [
        Box(top, left, high, wide)
        for top in _spread(height - high, rows)
        for left in _spread(width - wide, columns)
    ]


def _spread(room: int, count: int) -> list[int]:
    """The middles of `count` equal shares of a length."""
    return [int(room * (index + 0.5) / count) for index in range(count)]
