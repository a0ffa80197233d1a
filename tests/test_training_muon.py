"""Muon: which parameters it takes, its steps against singular values, and runs that use it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from dmsr_cli.errors import SettingsError
from dmsr_cli.training.loop import train
from dmsr_cli.training.muon import STEP, Muon, MuonAndAdam, is_matrix, orthogonal
from training_runs import (
    assert_same_run,
    draw_no_curves,
    log_of,
    report_each_iteration,
    run_until,
    tiny_recipe,
)


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_no_curves(monkeypatch)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class TestOrthogonal:
    @pytest.mark.parametrize("shape", [(8, 27), (64, 576), (225, 48), (16, 16)])
    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
    def test_singular_values_come_near_one(self, shape: tuple[int, int], scale: float) -> None:
        matrix = random(1, *shape) * scale
        values = torch.linalg.svdvals(orthogonal(matrix))
        # A square matrix has values near nought, which five rounds do not lift up to one.
        assert values.max() < 1.25
        assert values.median() > 0.65

    def test_small_singular_values_are_lifted(self) -> None:
        left, _, right = torch.linalg.svd(random(1, 8, 27), full_matrices=False)
        values = torch.linalg.svdvals(orthogonal(left * torch.linspace(0.02, 1, 8) @ right))
        assert values.min() > 0.6

    def test_directions_are_those_of_the_exact_form(self) -> None:
        matrix = random(1, 16, 144)
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        exact, found = left @ right, orthogonal(matrix)
        assert nn.functional.cosine_similarity(exact.flatten(), found.flatten(), dim=0) > 0.97

    def test_each_of_several_is_as_alone(self) -> None:
        several = random(3, 12, 40)
        for one, together in zip(several, orthogonal(several), strict=True):
            torch.testing.assert_close(orthogonal(one[None])[0], together)

    def test_nothing_stays_nothing(self) -> None:
        assert not orthogonal(torch.zeros(1, 8, 27)).any()


def test_which_are_matrices() -> None:
    def fits(*shape: int) -> bool:
        return is_matrix(nn.Parameter(torch.zeros(shape)))

    assert fits(64, 64, 3, 3)
    assert fits(8, 3, 3, 3)
    assert not fits(64, 6, 1, 1)  # six inputs
    assert not fits(3, 64, 3, 3)  # three outputs
    assert not fits(64)
    assert not fits(15, 225)


class TestSteps:
    def test_a_step_has_the_size_of_the_rate(self) -> None:
        """The root mean square that the source wants, whatever the shape and the gradient."""
        for shape in ((64, 64, 3, 3), (16, 8, 3, 3), (225, 8, 3, 3)):
            weights = nn.Parameter(torch.zeros(shape))
            weights.grad = random(*shape) * 1e-4
            Muon([{"params": [weights]}], lr=0.01).step()
            assert weights.square().mean().sqrt().item() == pytest.approx(0.01 * STEP, rel=0.25)
            assert (weights * weights.grad).sum() < 0

    def test_momentum_outlasts_a_gradient(self) -> None:
        weights = nn.Parameter(torch.zeros(16, 8, 3, 3))
        optimizer = Muon([{"params": [weights]}], lr=0.01)
        weights.grad = random(16, 8, 3, 3)
        optimizer.step()
        before = weights.detach().clone()
        weights.grad = torch.zeros_like(weights)
        optimizer.step()
        second = (weights - before).flatten()
        assert nn.functional.cosine_similarity(second, before.flatten(), dim=0) > 0.9

    def test_each_parameter_has_one_of_the_two(self) -> None:
        matrix, bias = nn.Parameter(torch.zeros(16, 8, 3, 3)), nn.Parameter(torch.zeros(16))
        slow = nn.Parameter(torch.zeros(16, 8, 3, 3))
        both = MuonAndAdam(
            [{"params": [matrix, bias], "factor": 1.0}], [{"params": [slow], "factor": 0.1}], 0.01
        )
        assert sum(len(group["params"]) for group in both.param_groups) == 3
        for group in both.param_groups:
            group["lr"] = 0.01 * group["factor"]
        for one in (matrix, bias, slow):
            one.grad = torch.ones_like(one)
        both.step()
        # Adam's first step is the rate itself; Muon's, for a gradient of rank one, is not.
        torch.testing.assert_close(bias.detach(), torch.full((16,), -0.01))
        torch.testing.assert_close(slow.detach(), torch.full_like(slow, -0.001))
        assert not torch.allclose(matrix, torch.full_like(matrix, -0.01), rtol=0.1)
        both.zero_grad()
        assert matrix.grad is bias.grad is slow.grad is None


class TestRuns:
    def test_a_run_learns_and_differs_from_adam(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        report_each_iteration(monkeypatch)
        losses = []
        for name in ("muon", "adam"):
            output = tmp_path / name
            train(tiny_recipe(iterations=40, optimizer=name), [pictures], output)
            losses.append([float(row["reconstruction"]) for row in log_of(output)])
        muon, adam = losses
        assert sum(muon[-10:]) < 0.9 * sum(muon[:10])
        assert muon[:1] == adam[:1]
        assert muon[1:] != adam[1:]

    def test_a_run_in_two_parts_is_one_in_one_piece(self, pictures: Path, tmp_path: Path) -> None:
        recipe = tiny_recipe(optimizer="muon")
        train(recipe, [pictures], tmp_path / "whole")
        run_until(3, recipe, [pictures], tmp_path / "parts")
        assert train(recipe, [pictures], tmp_path / "parts", resume=True).finished
        assert_same_run(tmp_path / "whole", tmp_path / "parts")

    def test_another_name_is_refused(self) -> None:
        with pytest.raises(SettingsError, match="optimizer must be adam or muon, not 'sgd'"):
            tiny_recipe(optimizer="sgd")
