"""The three losses (section 3.3).

The paper leaves open whether equations 7 and 8 sum or average. Here noise maps and pictures are
averaged over their pixels and colours, so that the weights mean the same at every patch size;
kernels are summed over their taps, whose values are small; everything is averaged over the batch.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from dmsr_cli.model import Degradation


class Losses(NamedTuple):
    """The terms of equation 5 before their weights, each a scalar tensor in fp32."""

    reconstruction: Tensor
    degradation: Tensor
    consistency: Tensor
    kernel_consistency: Tensor


def reconstruction_loss(restored: Tensor, hr: Tensor, error: str = "l1") -> Tensor:
    """Equation 6: mean absolute difference of (N, 3, H, W) pictures.

    With `error` "rmse" the root mean square difference of each picture, averaged over the batch.
    PSNR counts squares, too, but weighs pictures by the reciprocal of theirs, which leaves little
    to those that are hard; the root is between that and plain squares.
    """
    difference = restored.float() - hr
    if error == "l1":
        return difference.abs().mean()
    # Where the difference is nothing the root has no finite slope.
    return (difference.square().mean(dim=(1, 2, 3)) + 1e-5).sqrt().mean()


def degradation_loss(estimated: Degradation, true: Degradation) -> Tensor:
    """Equation 7: squared differences of noise map and kernel."""
    return _mean_square(estimated.noise_map, true.noise_map) + _kernel_distance(
        estimated.kernel, true.kernel
    )


def consistency_loss(simulated_lr: Tensor, lr: Tensor) -> Tensor:
    """Equation 8, first term: HR degraded as estimated must give the LR picture again."""
    return _mean_square(simulated_lr, lr)


def kernel_consistency_loss(simulated: Degradation, estimated: Degradation) -> Tensor:
    """Equation 8, other terms: the simulated LR picture must show the same degradation."""
    return degradation_loss(simulated, estimated)


def _mean_square(left: Tensor, right: Tensor) -> Tensor:
    return (left.float() - right.float()).square().mean()


def _kernel_distance(left: Tensor, right: Tensor) -> Tensor:
    return (left - right).square().sum(dim=(1, 2)).mean()
