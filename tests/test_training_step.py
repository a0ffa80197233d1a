"""One training step: loss terms and their gradients, clipping, rates, the averaged weights."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.model import DMSR
from dmsr_cli.training import step
from dmsr_cli.training.data import Batch, load_patch_source
from dmsr_cli.training.distributed import World
from dmsr_cli.training.loop import train
from dmsr_cli.training.losses import Losses
from dmsr_cli.training.settings import Recipe
from dmsr_cli.training.step import Objective, Stepper
from training_runs import (
    checkpoint_of,
    draw_no_curves,
    log_of,
    report_each_iteration,
    tiny_recipe,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_no_curves(monkeypatch)


def batch_of(pictures: Path, recipe: Recipe, iteration: int = 1) -> Batch:
    return load_patch_source([pictures], recipe, CPU).batch(iteration)


class TestTerms:
    WEIGHTS = (
        "reconstruction_weight",
        "degradation_weight",
        "consistency_weight",
        "kernel_consistency_weight",
    )

    def gradients(self, pictures: Path, **weights: float) -> tuple[Losses, DMSR]:
        """Losses and gradients of one step with these weights, all others 0."""
        recipe = tiny_recipe(**(dict.fromkeys(self.WEIGHTS, 0.0) | weights))
        batch = batch_of(pictures, recipe)
        torch.manual_seed(0)
        model = DMSR(recipe.model)
        losses = Objective(model, recipe.training, torch.float32)(batch)
        step.weighted(losses, recipe.training).backward()
        return losses, model

    @pytest.mark.parametrize("name", WEIGHTS)
    def test_a_term_alone(self, pictures: Path, name: str) -> None:
        losses, model = self.gradients(pictures, **{name: 1.0})
        for field, value in losses._asdict().items():
            if field != "reconstruction":  # comes for free, and then counts nothing
                assert (value > 0) == (f"{field}_weight" == name), field
        for part in (model.extractor, model.restorer):
            norm = sum(float(p.grad.norm()) for p in part.parameters() if p.grad is not None)
            moved = part is model.extractor or name == "reconstruction_weight"
            assert (norm > 0) == moved

    def test_all_off(self, pictures: Path) -> None:
        _, model = self.gradients(pictures)
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())

    def test_weights_scale_their_terms(self, pictures: Path) -> None:
        weights = dict(zip(self.WEIGHTS, (1.0, 10.0, 3.0, 0.5), strict=True))
        _, together = self.gradients(pictures, **weights)
        alone = [self.gradients(pictures, **{name: 1.0})[1] for name in weights]
        name = "extractor.blur1.weight"
        expected = sum(
            weight * model.get_parameter(name).grad
            for weight, model in zip(weights.values(), alone, strict=True)
        )
        torch.testing.assert_close(together.get_parameter(name).grad, expected)

    def test_perfect_extractor_leaves_only_what_it_cannot_see(self, pictures: Path) -> None:
        """With the true degradation as the estimate, the first term of equation 8 vanishes."""
        recipe = tiny_recipe(kernel_widths=(1.3, 1.3))
        batch = batch_of(pictures, recipe)
        model = DMSR(recipe.model)
        model.extractor.forward = lambda lr: batch.degradation  # type: ignore[method-assign]
        losses = Objective(model, recipe.training, torch.float32)(batch)
        torch.testing.assert_close(batch.degradation.kernel, gaussian_kernel(1.3).expand(2, -1, -1))
        assert losses.degradation == losses.kernel_consistency == 0
        assert losses.consistency < 1e-12


class TestOptimizer:
    @pytest.mark.parametrize("clip", [0.0, 0.01])
    def test_gradient_clip(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: float
    ) -> None:
        norms: list[float] = []
        make = step._optimizer

        def watched(parts: Any, settings: Any) -> torch.optim.Adam:
            optimizer = make(parts, settings)

            def record(*_: Any) -> None:
                for part in parts:
                    grads = [p.grad.flatten() for p in part if p.grad is not None]
                    norms.append(float(torch.cat(grads).norm()))

            optimizer.register_step_pre_hook(record)
            return optimizer

        monkeypatch.setattr(step, "_optimizer", watched)
        train(tiny_recipe(iterations=4, gradient_clip=clip), [pictures], tmp_path / "run")
        assert len(norms) == 4 * 3
        if clip:
            assert max(norms) == pytest.approx(clip, rel=1e-3)
        else:
            assert min(norms) > 0.01

    def rates(self, pictures: Path, output: Path, **settings: Any) -> list[float]:
        """The learning rate of each step of a run."""
        train(tiny_recipe(learning_rate=1e-3, **settings), [pictures], output)
        return [float(row["rate"]) for row in log_of(output)]

    def test_rate(self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        report_each_iteration(monkeypatch)
        settings = {"iterations": 25, "warmup": 5, "deblur_rate": 0.004}
        rates = self.rates(pictures, tmp_path / "run", **settings)
        expected = [
            1e-3 * min(1, (step + 1) / 5) * (1 + math.cos(math.pi * step / 25)) / 2
            for step in range(25)
        ]
        assert rates == pytest.approx(expected, rel=1e-3)
        assert rates[-1] < 0.005 * max(rates)
        body, deblur = checkpoint_of(tmp_path / "run")["optimizer"]["param_groups"]
        assert deblur["lr"] == pytest.approx(0.004 * body["lr"])

    def test_schedule_in_parts(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Runs that cover parts of the cosine have, one after the other, its rates."""
        report_each_iteration(monkeypatch)
        whole = self.rates(pictures, tmp_path / "whole", iterations=12, warmup=0)
        parts: list[float] = []
        for first, last, iterations in ((0.0, 0.5, 6), (0.5, 0.75, 3), (0.75, 1.0, 3)):
            output = tmp_path / f"from {first}"
            settings = {"schedule": (first, last), "iterations": iterations, "warmup": 0}
            parts += self.rates(pictures, output, **settings)
        assert parts == pytest.approx(whole, rel=1e-3)
        assert whole == sorted(whole, reverse=True)

    def test_deblur_group(self) -> None:
        recipe = tiny_recipe()
        model = DMSR(recipe.model)
        body, deblur = step._optimizer(step._Parts.of(model), recipe.training).param_groups
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        assert {names[id(parameter)] for parameter in deblur["params"]} == {
            *("restorer.deblur.meta.weight", "restorer.deblur.meta.bias"),
            *("restorer.output.weight", "restorer.output.bias"),
        }
        assert len(body["params"]) + len(deblur["params"]) == len(names)


class TestStepper:
    def make(self, recipe: Recipe, rank: int = 0, seed: int = 0) -> Stepper:
        torch.manual_seed(seed)
        model = DMSR(recipe.model)
        return Stepper(model, recipe.training, CPU, torch.float32, World(rank=rank))

    def test_changes_every_weight_and_the_average(self, pictures: Path) -> None:
        recipe = tiny_recipe()
        stepper, start = self.make(recipe), self.make(recipe).model
        losses = stepper(batch_of(pictures, recipe), 1, 1e-3)
        assert all(loss.isfinite() for loss in losses)
        expected = copy.deepcopy(start)
        step._update_average(expected, stepper.model, recipe.training.ema, 1)
        for name, old in start.named_parameters():
            assert not torch.equal(stepper.model.get_parameter(name), old), name
            torch.testing.assert_close(
                stepper.average.get_parameter(name), expected.get_parameter(name)
            )

    @pytest.mark.parametrize("optimizer", ["adam", "muon"])
    def test_a_frozen_extractor_stays_as_it_is(self, pictures: Path, optimizer: str) -> None:
        off = dict.fromkeys(TestTerms.WEIGHTS[1:], 0.0)
        recipe = tiny_recipe(frozen_extractor=True, optimizer=optimizer, **off)
        stepper, start = self.make(recipe), self.make(recipe).model
        for iteration in (1, 2):
            stepper(batch_of(pictures, recipe, iteration), iteration, 1e-3)
        for name, old in start.named_parameters():
            for model in (stepper.model, stepper.average):
                kept = torch.equal(model.get_parameter(name), old)
                assert kept == name.startswith("extractor."), name

    def test_only_the_leading_process_averages(self, pictures: Path) -> None:
        recipe = tiny_recipe()
        stepper, start = self.make(recipe, rank=1), self.make(recipe).model
        stepper(batch_of(pictures, recipe), 1, 1e-3)
        for name, old in start.named_parameters():
            assert not torch.equal(stepper.model.get_parameter(name), old), name
            assert torch.equal(stepper.average.get_parameter(name), old), name

    def test_state_holds_all_that_a_step_changes(self, pictures: Path) -> None:
        recipe = tiny_recipe()
        batches = [batch_of(pictures, recipe, iteration) for iteration in range(4)]
        whole, first, second = (self.make(recipe, seed=seed) for seed in (0, 0, 1))
        for iteration, batch in enumerate(batches, start=1):
            whole(batch, iteration, 1e-3)
        for iteration, batch in enumerate(batches[:2], start=1):
            first(batch, iteration, 1e-3)
        second.set_state(copy.deepcopy(first.state()))
        for iteration, batch in enumerate(batches[2:], start=3):
            second(batch, iteration, 1e-3)
        for part in ("model", "average"):
            expected = whole.state()[part]
            for name, tensor in second.state()[part].items():
                assert torch.equal(tensor, expected[name]), name

    @pytest.mark.parametrize(
        ("factors", "sound"),
        [
            ((1, 1, 1), None),
            ((math.nan, 1, 1), 0),
            ((1, math.inf, 1), 1),
            ((1, 1, -math.inf), 2),
            ((1, math.nan, math.nan), 1),
        ],
    )
    def test_first_loss_that_is_not_finite(
        self,
        pictures: Path,
        monkeypatch: pytest.MonkeyPatch,
        factors: tuple[float, ...],
        sound: int | None,
    ) -> None:
        """Found later, also when the losses after it are finite again."""
        recipe = tiny_recipe()
        batch, stepper = batch_of(pictures, recipe), self.make(recipe)
        weigh = step.weighted
        for iteration, factor in enumerate(factors, start=1):
            state = copy.deepcopy(stepper.state())
            monkeypatch.setattr(step, "weighted", lambda *args, f=factor: weigh(*args) * f)
            stepper(batch, iteration, 1e-3)
            stepper.set_state(state)  # the weights stay whole, whatever the gradients were
        assert stepper.steps_before_trouble() == sound


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_average(decay: float) -> None:
    torch.manual_seed(0)
    model, average = nn.Linear(3, 2), nn.Linear(3, 2)
    expected = [parameter.detach().clone() for parameter in average.parameters()]
    for iteration in range(1, 8):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        step._update_average(average, model, decay, iteration)
        now = min(decay, (1 + iteration) / (10 + iteration))
        expected = [
            now * old + (1 - now) * new.detach()
            for old, new in zip(expected, model.parameters(), strict=True)
        ]
    for found, wanted in zip(average.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted)
