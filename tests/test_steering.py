"""What a told kernel means, and that a new network obeys it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from dmsr_cli.config import DMSRConfig
from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.model.meta_deblur import MetaDeblur
from dmsr_cli.model.steering import REACH, answer, low_pass, sharpening

WIDTHS = torch.tensor([0.2, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])


def picture(count: int = 1, side: int = 48) -> Tensor:
    return torch.rand((count, 3, side, side), generator=torch.Generator().manual_seed(1))


def energy(image: Tensor) -> Tensor:
    return image.diff(dim=-1).square().mean(dim=(1, 2, 3))


def test_sharpening_grows_with_the_width_between_its_bounds() -> None:
    amounts = sharpening(gaussian_kernel(WIDTHS))
    assert (amounts.diff() > 0.05).all()
    assert amounts[0] == pytest.approx(-REACH, abs=1e-3)
    assert amounts[3] == pytest.approx(0, abs=0.02)
    assert amounts[-1] == pytest.approx(REACH, abs=0.1)


def test_sharpening_is_linear_in_the_kernel() -> None:
    one, other = (gaussian_kernel(width) for width in (0.7, 2.2))
    mixed = sharpening(0.3 * one + 0.7 * other)
    torch.testing.assert_close(mixed, 0.3 * sharpening(one) + 0.7 * sharpening(other))


@pytest.mark.parametrize("scale", [2, 3, 4])
class TestAnswer:
    def test_the_truth_leaves_the_picture(self, scale: int) -> None:
        image, kernel = picture(), gaussian_kernel(1.7)
        torch.testing.assert_close(answer(image, kernel, kernel, scale), image)

    def test_there_and_back(self, scale: int) -> None:
        image, one, other = picture(), gaussian_kernel(0.6), gaussian_kernel(2.4)
        there = answer(image, one, other, scale)
        assert (there - image).abs().max() > 0.1
        torch.testing.assert_close(answer(there, other, one, scale), image, atol=1e-5, rtol=0)

    def test_more_blur_told_is_sharper(self, scale: int) -> None:
        image = picture().expand(len(WIDTHS), -1, -1, -1)
        told = answer(image, gaussian_kernel(1.5), gaussian_kernel(WIDTHS), scale)
        assert (energy(told).diff() > 0).all()

    def test_brightness_stays(self, scale: int) -> None:
        image = picture()
        told = answer(image, gaussian_kernel(0.2), gaussian_kernel(3.0), scale)
        torch.testing.assert_close(told.mean(dim=(2, 3)), image.mean(dim=(2, 3)))

    @pytest.mark.parametrize("size", [7, 9, 15])
    @torch.inference_mode()
    def test_a_new_deblur_module_does_just_that(
        self, scale: int, size: int, tiny_config: type[DMSRConfig]
    ) -> None:
        """On a picture that leaves it what the law says, it gives the picture back."""
        config = dataclasses.replace(tiny_config(scale), deblur_size=size)
        module = MetaDeblur(config)
        module.meta.weight[:, :3] = 0  # what is random at the start
        kernels = gaussian_kernel(WIDTHS)
        image = picture(len(WIDTHS))
        neutral = gaussian_kernel(1.5)
        left = answer(image, kernels, neutral, scale)
        wanted = answer(left, neutral, kernels, scale)
        inner = (..., slice(size, -size), slice(size, -size))
        amount = sharpening(neutral).item()  # of a kernel that is not quite the middle one
        restored = module(left, kernels)[inner]
        torch.testing.assert_close(restored, wanted[inner], atol=0.03 + abs(amount), rtol=0)

    @pytest.mark.parametrize("size", [3, 5])
    @torch.inference_mode()
    def test_a_small_window_sharpens_as_it_can(
        self, scale: int, size: int, tiny_config: type[DMSRConfig]
    ) -> None:
        module = MetaDeblur(dataclasses.replace(tiny_config(scale), deblur_size=size))
        image = picture().expand(len(WIDTHS), -1, -1, -1)
        assert (energy(module(image, gaussian_kernel(WIDTHS))).diff() > 0).all()


def test_the_low_pass_keeps_brightness() -> None:
    for scale in (2, 3, 4):
        assert low_pass(scale).sum() == pytest.approx(1)
