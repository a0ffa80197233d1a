"""A convolution whose weights differ at every pixel, on the CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CACHED_PIXELS = 2**15
"""Pixels that a core works on together: that many of a few channels fit its cache."""


def dynamic_convolution(padded: Tensor, weights: Tensor) -> Tensor:
    """Weigh the window around each pixel with that pixel's own weights.

    out_c(p) = sum over j of weights_j(p) padded_c(p + j)

    Args:
        padded: pictures (N, C, H + size - 1, W + size - 1), float32.
        weights: (N, size^2, H, W), float32; taps in row-major order, shared by all channels.

    Returns:
        (N, C, H, W), float32.
    """
    result: Tensor = _DynamicConvolution.apply(  # type: ignore[no-untyped-call] # torch has not typed it
        padded.contiguous(), weights.contiguous()
    )
    return result


class _DynamicConvolution(torch.autograd.Function):
    """One tap of a few pictures at a time, so that what is touched stays in the cache.

    The same in one product and a sum needs size^2 copies of the pictures, which come from memory.
    """

    @staticmethod
    def forward(ctx: Any, padded: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(padded, weights)
        count, _, height, width = weights.shape
        result = padded.new_zeros(count, padded.shape[1], height, width)
        for some in _groups(weights):
            output = result[some]
            for tap, window in zip(
                _planes(weights[some]), _windows(padded[some], weights), strict=True
            ):
                output.addcmul_(tap, window)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        padded, weights = ctx.saved_tensors
        padded_gradient, weights_gradient = torch.zeros_like(padded), torch.empty_like(weights)
        gradient = gradient.contiguous()
        for some in _groups(weights):
            output_gradient = gradient[some]
            channels = _planes(output_gradient)
            for tap, tap_gradient, window, window_gradient in zip(
                _planes(weights[some]),
                _planes(weights_gradient[some]),
                _windows(padded[some], weights),
                _windows(padded_gradient[some], weights),
                strict=True,
            ):
                window_gradient.addcmul_(tap, output_gradient)
                window_channels = _planes(window)
                torch.mul(channels[0], window_channels[0], out=tap_gradient)
                for channel, window_channel in zip(channels[1:], window_channels[1:], strict=True):
                    tap_gradient.addcmul_(channel, window_channel)
        return padded_gradient, weights_gradient


def _groups(weights: Tensor) -> Iterator[slice]:
    """Slices of the batch, of nearly equal length."""
    count, _, height, width = weights.shape
    most = max(1, CACHED_PIXELS * torch.get_num_threads() // (height * width))
    size = math.ceil(count / math.ceil(count / most))
    return (slice(start, start + size) for start in range(0, count, size))


def _planes(tensor: Tensor) -> tuple[Tensor, ...]:
    """Each channel of (N, C, H, W) as a view (N, 1, H, W)."""
    return tensor.unsqueeze(2).unbind(1)


def _windows(padded: Tensor, weights: Tensor) -> Iterator[Tensor]:
    """The padded pictures shifted to each tap: views (N, C, H, W)."""
    height, width = weights.shape[-2:]
    rows, columns = padded.shape[-2] - height + 1, padded.shape[-1] - width + 1
    return (
        padded[:, :, row : row + height, column : column + width]
        for row in range(rows)
        for column in range(columns)
    )
