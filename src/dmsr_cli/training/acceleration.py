"""What makes a step fast on CUDA: compiled blocks, and all launches as one CUDA graph.

A training step is thousands of small kernels. Compiling block by block fuses what stands between
the convolutions, and takes seconds where compiling the whole network takes minutes, because the
hundred blocks are one piece of code. The graph then starts all kernels without Python.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dmsr_cli.model import DMSR, DegradationExtractor
from dmsr_cli.model.layers import ResidualChannelAttentionBlock
from dmsr_cli.model.meta_deblur import MetaDeblur
from dmsr_cli.training.data import Batch
from dmsr_cli.training.losses import Losses
from dmsr_cli.training.muon import MuonAndAdam

WARM_UP = 3
"""Passes before the capture: compilation and the choice of algorithms happen in them."""


def compile_regions(model: DMSR) -> None:
    """Have the blocks of the network compiled, each when it is first called."""
    for module in model.modules():
        if isinstance(module, ResidualChannelAttentionBlock | MetaDeblur | DegradationExtractor):
            module.compile()


class CapturedGradients:
    """Forward and backward pass on batches of one shape, as a CUDA graph."""

    def __init__(
        self,
        backward: Callable[[Batch], tuple[Losses, Tensor]],
        optimizer: torch.optim.Optimizer | MuonAndAdam,
        example: Batch,
    ) -> None:
        self.batch = _map(torch.clone, example)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch has not typed it
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                optimizer.zero_grad(set_to_none=True)
                backward(self.batch)
        torch.cuda.current_stream().wait_stream(stream)
        # Gradients that are made during the capture are overwritten at each replay.
        optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.losses, self.total = backward(self.batch)

    def __call__(self, batch: Batch) -> tuple[Losses, Tensor]:
        """Set the gradients; the losses returned are overwritten at the next call."""
        for mine, theirs in zip(_tensors(self.batch), _tensors(batch), strict=True):
            mine.copy_(theirs)
        self.graph.replay()
        return self.losses, self.total


def _tensors(batch: Batch) -> list[Tensor]:
    others = [batch.prefiltered, batch.told, batch.is_told]
    return [batch.hr, batch.lr, *batch.degradation, *others]


def _map(function: Callable[[Tensor], Tensor], batch: Batch) -> Batch:
    hr, lr, degradation, *others = batch
    degradation = type(degradation)(*map(function, degradation))
    return Batch(function(hr), function(lr), degradation, *map(function, others))
