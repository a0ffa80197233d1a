"""The patches and degradations drawn from training pictures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from dmsr_cli.degradation import PatchDegradation, bicubic_downsample, blur, gaussian_kernel
from dmsr_cli.model.steering import sharpening
from dmsr_cli.training.data import Batch, PatchSource
from dmsr_cli.training.settings import TrainingSettings

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(iterations=1, batch=8, patch=6, seed=3)


def random_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def map_picture(height: int, width: int, number: int) -> np.ndarray:
    """Every pixel says where it is: (row, column, number of the picture)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack((rows, columns, np.full_like(rows, number)), axis=-1).astype(np.uint8)


def source_of(
    *pictures: np.ndarray, scale: int = 2, kernel_size: int = 15, rank: int = 0, **changes: object
):
    settings = dataclasses.replace(SETTINGS, **changes)  # type: ignore[arg-type] # by name
    return PatchSource(pictures, scale, settings, CPU, kernel_size, rank)


def symmetries(image: Tensor) -> list[Tensor]:
    """The 8 flips and quarter turns of (..., H, W)."""
    turned = [torch.rot90(image, turns, (-2, -1)) for turns in range(4)]
    return [*turned, *(each.flip(-1) for each in turned)]


def same(left: Batch, right: Batch) -> bool:
    pairs = zip((*left[:2], *left[2], *left[3:]), (*right[:2], *right[2], *right[3:]), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


class TestBatch:
    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_shapes_and_types(self, scale: int) -> None:
        batch = source_of(random_picture(90, 80), scale=scale).batch(1)
        degradation = batch.degradation
        assert batch.hr.shape == (8, 3, 6 * scale, 6 * scale)
        assert batch.lr.shape == degradation.noise_map.shape == (8, 3, 6, 6)
        assert degradation.kernel.shape == (8, 15, 15)
        for tensor in (batch.hr, batch.lr, batch.prefiltered, *degradation):
            assert tensor.dtype == torch.float32
        assert 0 <= batch.hr.min() < batch.hr.max() <= 1
        torch.testing.assert_close(degradation.kernel.sum(dim=(1, 2)), torch.ones(8))

    def test_another_kernel_size(self) -> None:
        source = source_of(random_picture(70, 70), kernel_size=7)
        batch = source.batch(1)
        assert batch.degradation.kernel.shape == (8, 7, 7)
        assert batch.lr.shape == (8, 3, 6, 6)
        assert source.margin < source_of(random_picture(70, 70)).margin

    def test_patches_are_flipped_and_turned_crops(self) -> None:
        pictures = [map_picture(60, 200, 0), map_picture(130, 64, 1), map_picture(90, 90, 2)]
        source = source_of(*pictures, batch=64)
        seen = set()
        for iteration in range(1, 7):
            values = (source.batch(iteration).hr * 255).round().long()
            for patch in values:
                rows, columns, number = patch
                assert number.min() == number.max()
                picture = torch.from_numpy(pictures[int(number[0, 0])]).permute(2, 0, 1)
                top, left = int(rows.min()), int(columns.min())
                crop = picture[:, top : top + 12, left : left + 12].long()
                fitting = [torch.equal(patch, each) for each in symmetries(crop)]
                assert sum(fitting) == 1
                seen.add((int(number[0, 0]), fitting.index(True)))
        assert seen == {(number, turn) for number in range(3) for turn in range(8)}

    def test_every_place_is_drawn(self) -> None:
        """A picture a few pixels larger than a patch: all corners come up, none outside."""
        side = source_of(random_picture(90, 90)).side
        source = source_of(map_picture(side + 3, side + 1, 0), batch=64)
        seen = set()
        for iteration in range(1, 9):
            rows, columns, _ = (source.batch(iteration).hr * 255).round().long().unbind(dim=1)
            top, left = rows.amin(dim=(1, 2)), columns.amin(dim=(1, 2))
            seen |= set(zip(top.tolist(), left.tolist(), strict=True))
        margin = source.margin
        assert seen == {(margin + row, margin + column) for row in range(4) for column in range(2)}

    def test_pictures_are_drawn_in_proportion_to_their_places(self) -> None:
        side = source_of(random_picture(90, 90)).side
        shapes = [(side, side), (side + 9, side + 9), (side + 19, side + 9)]  # 1, 100, 200 places
        pictures = [map_picture(*shape, number) for number, shape in enumerate(shapes)]
        source = source_of(*pictures, batch=250)
        numbers = torch.cat(
            [(source.batch(number).hr[:, 2, 0, 0] * 255).round().long() for number in range(1, 13)]
        )
        counts = torch.bincount(numbers, minlength=3) / len(numbers)
        expected = torch.tensor([1, 100, 200]) / 301
        # Five standard deviations of 3000 draws; the rarest of the pictures does come up.
        assert ((counts - expected).abs() < 5 * (expected * (1 - expected) / 3000).sqrt()).all()
        assert counts[0] > 0

    def test_kernels_and_noise_follow_the_settings(self) -> None:
        settings = {"kernel_widths": (1.3, 1.3), "noise_levels": (50.0, 50.0), "eight_bit": 0.0}
        batch = source_of(random_picture(90, 90), batch=32, **settings).batch(1)
        torch.testing.assert_close(
            batch.degradation.kernel, gaussian_kernel(1.3).expand(32, 15, 15)
        )
        noise = batch.degradation.noise_map * 255
        assert abs(float(noise.std()) - 50) < 3
        assert abs(float(noise.mean())) < 3

    def test_each_batch_covers_the_widths_evenly(self) -> None:
        source = source_of(random_picture(90, 90), kernel_widths=(1.0, 3.0))
        orders = set()
        for iteration in range(1, 4):
            kernels = source.batch(iteration).degradation.kernel.double()
            widths = (-0.5 / (kernels[:, 7, 8] / kernels[:, 7, 7]).log()).sqrt()
            parts = ((widths - 1) / 2 * 8).floor().int().tolist()
            assert sorted(parts) == list(range(8))
            orders.add(tuple(parts))
        assert len(orders) == 3

    def test_ranges_are_used_up(self) -> None:
        source = source_of(random_picture(90, 90), batch=200, eight_bit=0.0)
        batch = source.batch(1)
        # The centre tap falls as the width grows: its extremes tell the extreme widths.
        centre = batch.degradation.kernel[:, 7, 7]
        widest, narrowest = (float(gaussian_kernel(width)[0, 7, 7]) for width in (3.0, 0.2))
        assert widest <= centre.min() < widest * 1.1
        assert narrowest * 0.99 < centre.max() <= narrowest
        levels = batch.degradation.noise_map.flatten(1).std(dim=1) * 255
        assert levels.min() < 5
        assert 65 < levels.max() < 95

    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_lr_is_equation_1_taken_literally(self, scale: int) -> None:
        side = 6 * scale + 2 * PatchDegradation(scale).margin
        picture = random_picture(side, side)  # exactly one place for a patch
        source = source_of(picture, scale=scale, eight_bit=0.0, told_kernels=0.0)
        batch = source.batch(1)
        whole = torch.from_numpy(picture).permute(2, 0, 1).unsqueeze(0) / 255
        inner = slice(source.margin, -source.margin)
        lr_inner = slice(source.margin // scale, -source.margin // scale)
        for index in range(len(batch.hr)):
            (turned,) = (
                each
                for each in symmetries(whole)
                if torch.equal(each[0, :, inner, inner], batch.hr[index])
            )
            blurred = blur(turned, batch.degradation.kernel[index : index + 1])
            clean = bicubic_downsample(blurred, scale)[0, :, lr_inner, lr_inner]
            noise_map = batch.degradation.noise_map[index]
            torch.testing.assert_close(batch.lr[index], clean + noise_map, atol=2e-6, rtol=0)

    @pytest.mark.parametrize("eight_bit", [0.0, 0.5, 1.0])
    def test_noise_map_is_lr_minus_clean(self, eight_bit: float) -> None:
        source = source_of(random_picture(90, 90), eight_bit=eight_bit)
        batch = source.batch(1)
        kernels, noise_map = batch.degradation
        clean = source.patch_degradation.downsample(batch.prefiltered, kernels)
        torch.testing.assert_close(noise_map, batch.lr - clean, atol=0, rtol=0)

    @pytest.mark.parametrize(("eight_bit", "share"), [(0.0, 0), (0.25, 0.25), (1.0, 1)])
    def test_8_bit_patches(self, eight_bit: float, share: float) -> None:
        settings = {"batch": 400, "patch": 2, "noise_levels": (30.0, 75.0)}
        batch = source_of(random_picture(60, 60), eight_bit=eight_bit, **settings).batch(1)
        levels = batch.lr * 255
        on_grid = (levels - levels.round()).abs().amax(dim=(1, 2, 3)) < 1e-4
        in_range = (batch.lr >= 0).all(dim=(1, 2, 3)) & (batch.lr <= 1).all(dim=(1, 2, 3))
        assert (in_range | ~on_grid).all()
        assert abs(float(on_grid.float().mean()) - share) < (0.1 if 0 < share < 1 else 1e-9)
        assert batch.lr.isfinite().all()
        if not share:
            assert batch.lr.min() < 0  # float LR is not clipped
            assert batch.lr.max() > 1

    @pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
    def test_so_many_are_free_of_noise(self, share: float) -> None:
        settings = {"batch": 400, "patch": 4, "noise_levels": (30.0, 75.0), "eight_bit": 0.0}
        batch = source_of(random_picture(60, 60), noise_free=share, **settings).batch(1)
        levels = batch.degradation.noise_map.flatten(1).std(dim=1) * 255
        assert ((levels < 1e-4) | (levels > 15)).all()
        assert abs(float((levels < 1e-4).float().mean()) - share) < (0.1 if 0 < share < 1 else 1e-9)

    @pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
    def test_so_many_are_free_of_blur(self, share: float) -> None:
        settings = {"batch": 400, "patch": 2, "kernel_widths": (0.2, 3.0)}
        batch = source_of(random_picture(60, 60), blur_free=share, **settings).batch(1)
        is_sharp = batch.degradation.kernel[:, 7, 7] > 0.999
        by_chance = (0.3 - 0.2) / 2.8  # widths up to 0.3 are nearly one point, too
        expected = share + (1 - share) * by_chance
        assert abs(float(is_sharp.float().mean()) - expected) < 0.06

    def test_the_most_detailed_of_some_places_is_taken(self) -> None:
        """Of pictures that differ in detail alone, the best of 3 places is in a better one."""
        flat, coarse = np.full((90, 90, 3), 128, np.uint8), random_picture(90, 90) // 8
        pictures = (flat, coarse, random_picture(90, 90))
        shares = []
        for choices in (1, 3):
            settings = {"batch": 400, "patch": 4, "told_kernels": 0.0, "choices": choices}
            hr = source_of(*pictures, **settings).batch(1).hr
            assert hr.shape == (400, 3, 8, 8)
            spread = hr.flatten(1).std(dim=1)
            shares.append(
                [float((spread < 0.01).float().mean()), float((spread > 0.1).float().mean())]
            )
        plain, chosen = shares
        assert plain == pytest.approx([1 / 3, 1 / 3], abs=0.08)
        assert chosen == pytest.approx([(1 / 3) ** 3, 1 - (2 / 3) ** 3], abs=0.08)

    @pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.25, 0.25), (1.0, 1)])
    def test_so_many_are_told_another_kernel(self, share: float, expected: float) -> None:
        settings = {"batch": 400, "patch": 2, "told_kernels": share}
        is_told = source_of(random_picture(60, 60), **settings).batch(1).is_told
        assert is_told.shape == (400, 1, 1)
        assert abs(float(is_told.float().mean()) - expected) < (0.1 if 0 < share < 1 else 1e-9)

    def test_what_follows_from_the_told_kernel_is_wanted(self) -> None:
        """Else nothing changes: neither the picture nor how it was degraded."""
        picture = random_picture(90, 90)
        plain = source_of(picture, told_kernels=0.0).batch(1)
        batch = source_of(picture, told_kernels=0.5).batch(1)
        torch.testing.assert_close(batch.lr, plain.lr, atol=0, rtol=0)
        change = (batch.hr - plain.hr).abs().amax(dim=(1, 2, 3))
        is_told = batch.is_told.flatten()
        assert 0 < is_told.sum() < 8
        assert (change[~is_told] == 0).all()
        assert (change[is_told] > 1e-4).all()
        # Detail grows or shrinks as the told kernel is wider or narrower than the true one.
        kernels = torch.stack((batch.degradation.kernel, batch.told))
        grows = torch.gt(*sharpening(kernels.flatten(0, 1)).view(2, -1).flip(0))
        detail = torch.stack(
            [hr.diff(dim=-1).square().mean(dim=(1, 2, 3)) for hr in (plain.hr, batch.hr)]
        )
        assert torch.equal((detail[1] > detail[0])[is_told], grows[is_told])


class TestSeeds:
    PICTURE = random_picture(90, 90)

    def test_only_the_iteration_counts(self) -> None:
        """Whatever was drawn before, by this source or another: so a run can go on anywhere."""
        source, other = source_of(self.PICTURE), source_of(self.PICTURE)
        forward = [source.batch(iteration) for iteration in (1, 2, 3)]
        torch.rand(5)
        backward = [other.batch(iteration) for iteration in (3, 2, 1)]
        for one, same_one in zip(forward, reversed(backward), strict=True):
            assert same(one, same_one)
        assert same(source.batch(2), forward[1])

    def test_seed_rank_and_iteration_all_differ(self) -> None:
        """Also where the three numbers are the same in another order, or sum up to the same."""
        batches = [
            source_of(self.PICTURE, seed=seed, rank=rank).batch(iteration)
            for seed in (0, 1, 2)
            for rank in (0, 1, 2)
            for iteration in (1, 2, 11, 12)
        ]
        for parts in ("hr", "lr", "prefiltered"):
            assert len({getattr(batch, parts).numpy().tobytes() for batch in batches}) == 36
        for part in ("kernel", "noise_map"):
            drawn = {getattr(batch.degradation, part).numpy().tobytes() for batch in batches}
            assert len(drawn) == 36

    def test_extreme_numbers(self) -> None:
        source = source_of(self.PICTURE, seed=2**32 - 1, rank=4095)
        assert not same(source.batch(10**9), source.batch(10**9 + 1))

    def test_global_generator_is_left_alone(self) -> None:
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        source_of(self.PICTURE).batch(1)
        assert torch.equal(torch.rand(3), expected)
