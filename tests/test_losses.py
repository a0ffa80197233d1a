"""The losses against their formulas in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dmsr_cli.model import Degradation
from dmsr_cli.training.losses import (
    consistency_loss,
    degradation_loss,
    kernel_consistency_loss,
    reconstruction_loss,
)


def random(*shape: int, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def degradation(seed: int, count: int = 3) -> Degradation:
    kernel = random(count, 15, 15, seed=seed)
    kernel = kernel / kernel.sum(dim=(1, 2), keepdim=True)
    return Degradation(kernel, random(count, 3, 5, 4, seed=seed + 1) - 0.5)


def numpy_degradation_loss(left: Degradation, right: Degradation) -> float:
    """Noise maps averaged over everything, kernels summed over taps, averaged over the batch."""
    kernels, other_kernels = (np.asarray(each.kernel, np.float64) for each in (left, right))
    maps, other_maps = (np.asarray(each.noise_map, np.float64) for each in (left, right))
    kernel_distances = [
        ((one - other) ** 2).sum() for one, other in zip(kernels, other_kernels, strict=True)
    ]
    return float(((maps - other_maps) ** 2).mean() + np.mean(kernel_distances))


def test_reconstruction() -> None:
    restored, hr = random(2, 3, 6, 7, seed=0), random(2, 3, 6, 7, seed=1)
    expected = np.abs(restored.numpy() - hr.numpy()).mean(dtype=np.float64)
    assert float(reconstruction_loss(restored, hr)) == pytest.approx(expected, rel=1e-5)
    squares = ((restored.numpy() - hr.numpy()) ** 2).mean((1, 2, 3), dtype=np.float64)
    root = float(reconstruction_loss(restored, hr, "rmse"))
    assert root == pytest.approx(np.sqrt(squares).mean(), rel=1e-3)


def test_root_has_a_slope_where_nothing_is_wrong() -> None:
    image = random(1, 3, 4, 4, seed=0).requires_grad_()
    reconstruction_loss(image, image.detach(), "rmse").backward()
    assert image.grad is not None
    assert image.grad.abs().max() == 0


def test_consistency() -> None:
    simulated, lr = random(2, 3, 6, 7, seed=0), random(2, 3, 6, 7, seed=1)
    expected = ((simulated.numpy() - lr.numpy()) ** 2).mean(dtype=np.float64)
    assert float(consistency_loss(simulated, lr)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [degradation_loss, kernel_consistency_loss])
class TestDegradation:
    def test_formula(self, loss) -> None:
        left, right = degradation(0), degradation(10)
        expected = numpy_degradation_loss(left, right)
        assert float(loss(left, right)) == pytest.approx(expected, rel=1e-5)

    def test_each_part_counts(self, loss) -> None:
        left, right = degradation(0), degradation(10)
        kernel_only = loss(left, Degradation(right.kernel, left.noise_map))
        noise_only = loss(left, Degradation(left.kernel, right.noise_map))
        assert kernel_only > 0
        assert noise_only > 0
        torch.testing.assert_close(kernel_only + noise_only, loss(left, right))

    def test_does_not_depend_on_batch_and_patch_size(self, loss) -> None:
        left, right = degradation(0), degradation(10)
        twice = [
            Degradation(each.kernel.repeat(2, 1, 1), each.noise_map.repeat(2, 1, 3, 2))
            for each in (left, right)
        ]
        torch.testing.assert_close(loss(*twice), loss(left, right))


def test_zero_for_perfect_estimates() -> None:
    image, true = random(2, 3, 6, 7, seed=0), degradation(0)
    assert reconstruction_loss(image, image) == 0
    assert consistency_loss(image, image) == 0
    assert degradation_loss(true, true) == 0
    assert kernel_consistency_loss(true, true) == 0


def test_float32_from_half_precision() -> None:
    image, true = random(2, 3, 6, 7, seed=0), degradation(0)
    rough = Degradation(true.kernel, true.noise_map.bfloat16())
    for value in (
        reconstruction_loss(image.bfloat16(), image),
        consistency_loss(image.bfloat16(), image),
        degradation_loss(rough, true),
    ):
        assert value.dtype == torch.float32
        assert 0 < value < 1e-2


def test_gradients_reach_both_sides_of_the_kernel_consistency() -> None:
    """Equation 8 pulls the estimate, too, not only what is found in the simulated picture."""
    sides = [Degradation(*(part.requires_grad_() for part in degradation(seed))) for seed in (0, 9)]
    kernel_consistency_loss(*sides).backward()
    for side in sides:
        for part in side:
            assert part.grad is not None
            assert part.grad.abs().sum() > 0
