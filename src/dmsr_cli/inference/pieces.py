"""The network's stages, a piece of the picture at a time, with the whole picture's result.

A convolution is local. A piece that is read with a halo as wide as a stage can see gives exactly
what the whole picture gives; the padding at a cut spoils only the halo, which is cut off. Pieces
keep memory down where a stage makes many channels, and on a CPU they fit the cache, where whole
pictures of 64 channels do not.

What is not local are two means over the picture: of the kernel logits, and of each channel that an
attention gate looks at. They are summed over the pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor

from dmsr_cli.model.extractor import DegradationExtractor
from dmsr_cli.model.layers import (
    ResidualChannelAttentionBlock,
    ResidualGroup,
    spatial_mean,
)
from dmsr_cli.model.restorer import Restorer
from dmsr_cli.tiling import Box, cut

BODY_PIXELS = {"cpu": 2**15}
"""LR pixels of a piece of the body: on a CPU, features of that many stay in the cache."""
RENDER_PIXELS = {"cpu": 2**14}
"""LR pixels that are rendered at a time; each takes up to several kilobytes."""
EXTRACTION_PIXELS = {"cpu": 2**15}
"""LR pixels that the extractor sees at a time."""
ELSEWHERE = 2**16
"""The same three on other devices, which want large pieces."""


def features_of(
    restorer: Restorer,
    lr: Tensor,
    noise_map: Tensor,
    gates: Sequence[Tensor] | None = None,
    *,
    margin: int = 0,
    on_progress: Callable[[float], None] = lambda done: None,
) -> tuple[Tensor, list[Tensor]]:
    """What `Restorer.body` computes, in pieces.

    Args:
        restorer: the network.
        lr: (N, 3, h, w).
        noise_map: (N, 3, h, w).
        gates: of the channel attention, for each block (1, C, 1, 1); if not given, they come from
            the means over all N pictures together.
        margin: pixels at each edge that those means leave out.
        on_progress: called with the share that is done.

    Returns:
        The features (N, C, h, w) and the gates.
    """
    known = iter(gates) if gates is not None else None
    used: list[Tensor] = []
    groups = cast("list[ResidualGroup]", list(restorer.groups))
    count = sum(len(group.blocks) for group in groups)
    source = torch.cat((lr, noise_map), dim=1)
    start = _convolve(lambda piece: restorer.head(restorer.denoise(piece)), source, 1)
    group_input, features, buffer = start, start.clone(), torch.empty_like(start)
    for group in groups:
        for block in cast("list[ResidualChannelAttentionBlock]", list(group.blocks)):
            _convolve(block.residual, features, 2, buffer)
            gate = next(known) if known else block.attention.gate(_mean(buffer, margin))
            features.addcmul_(buffer, gate)
            used.append(gate)
            on_progress(len(used) / count)
        _convolve(group.tail, features, 1, buffer).add_(group_input)
        # The first input is needed at the end; later ones make room for what comes next.
        free = torch.empty_like(start) if group_input is start else group_input
        group_input, buffer = buffer, free
        features.copy_(group_input)
    _convolve(restorer.tail, features, 1, buffer).add_(start)
    return buffer, used


def rendered(restorer: Restorer, features: Tensor, kernel: Tensor) -> Iterator[tuple[Box, Tensor]]:
    """What `Restorer.render` computes, in pieces that cover the picture once.

    Args:
        restorer: the network.
        features: (1, C, h, w).
        kernel: (1, K, K).

    Yields:
        A box in HR pixels and its pixels (1, 3, box.height, box.width), float32.
    """
    height, width = features.shape[-2:]
    for box in cut(height, width, RENDER_PIXELS.get(features.device.type, ELSEWHERE)):
        halo = box.grown(restorer.render_radius, height, width)
        picture = restorer.render(features[..., halo.rows, halo.columns], kernel)
        inner = box.inside(halo).scaled(restorer.scale)
        yield box.scaled(restorer.scale), picture[..., inner.rows, inner.columns]


def extracted(
    extractor: DegradationExtractor,
    height: int,
    width: int,
    lr_of: Callable[[Box], Tensor],
    pixels: int,
) -> Iterator[tuple[Box, Tensor, Tensor]]:
    """What `DegradationExtractor.maps` computes, in pieces that cover the picture once.

    Args:
        extractor: the network.
        height: of the LR picture; `width` likewise.
        width: see `height`.
        lr_of: gives the LR pixels of a box as (1, 3, box.height, box.width).
        pixels: LR pixels of a piece.

    Yields:
        A box, the sums of its logits (K*K), float32, and its noise map.
    """
    for box in cut(height, width, pixels):
        halo = box.grown(extractor.radius, height, width)
        logits, noise_map = extractor.maps(lr_of(halo))
        inner = box.inside(halo)
        mean = spatial_mean(logits[..., inner.rows, inner.columns])[0]
        yield box, mean * (box.height * box.width), noise_map[..., inner.rows, inner.columns]


def _convolve(
    function: Callable[[Tensor], Tensor],
    source: Tensor,
    radius: int,
    result: Tensor | None = None,
) -> Tensor:
    """Apply a function that sees `radius` pixels far, in pieces; writes into `result` if given."""
    count, _, height, width = source.shape
    for some, box in _body_pieces(source):
        halo = box.grown(radius, height, width)
        piece = function(source[some, :, halo.rows, halo.columns])
        if result is None:
            size = (count, piece.shape[1], height, width)
            result = torch.empty(
                size, dtype=piece.dtype, device=piece.device, memory_format=torch.channels_last
            )
        inner = box.inside(halo)
        result[some, :, box.rows, box.columns] = piece[..., inner.rows, inner.columns]
    assert result is not None, "there is always a piece"
    return result


def _mean(residual: Tensor, margin: int) -> Tensor:
    """Mean over the pixels of all pictures, without their margins: (1, C), float32."""
    height, width = residual.shape[-2:]
    inner = residual[..., margin : height - margin, margin : width - margin]
    total = torch.zeros_like(inner[0, :, 0, 0], dtype=torch.float32)
    # In pieces, because summing bf16 as float32 makes a copy.
    for some, box in _body_pieces(inner):
        piece = inner[some, :, box.rows, box.columns]
        total += spatial_mean(piece).sum(dim=0) * (box.height * box.width)
    return total.unsqueeze(0) / inner[:, 0].numel()


def _body_pieces(features: Tensor) -> Iterator[tuple[slice, Box]]:
    """Cuts (N, C, h, w): several small pictures at a time, or a large one in pieces."""
    count, _, height, width = features.shape
    pixels = BODY_PIXELS.get(features.device.type, features[:, 0].numel())
    together = max(1, pixels // (height * width))
    for first in range(0, count, together):
        for box in cut(height, width, pixels):
            yield slice(first, first + together), box
