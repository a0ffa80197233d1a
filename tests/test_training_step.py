"""One training step: loss terms and their gradients, clipping, rates, the averaged weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.model import DMSR
from dmsr_cli.training import loop
from dmsr_cli.training.data import Batch, PatchSource, load_pictures
from dmsr_cli.training.loop import Objective, train
from dmsr_cli.training.losses import Losses
from dmsr_cli.training.settings import Recipe
from training_runs import checkpoint_of, log_of, make_pictures, report_each_iteration, tiny_recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("data") / "pictures")


class TestStep:
    WEIGHTS = (
        "reconstruction_weight",
        "degradation_weight",
        "consistency_weight",
        "kernel_consistency_weight",
    )

    def gradients(self, pictures: Path, **weights: float) -> tuple[Losses, DMSR]:
        """Losses and gradients of one step with these weights, all others 0."""
        recipe = tiny_recipe(**(dict.fromkeys(self.WEIGHTS, 0.0) | weights))
        batch = self.batch(pictures, recipe)
        torch.manual_seed(0)
        model = DMSR(recipe.model)
        losses = Objective(model, recipe.training, torch.float32)(batch)
        loop._weighted(losses, recipe.training).backward()
        return losses, model

    def batch(self, pictures: Path, recipe: Recipe) -> Batch:
        source = PatchSource(load_pictures([pictures], 64), 2, recipe.training, CPU)
        return source.next_batch()

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
        batch = self.batch(pictures, recipe)
        model = DMSR(recipe.model)
        model.extractor.forward = lambda lr: batch.degradation  # type: ignore[method-assign]
        losses = Objective(model, recipe.training, torch.float32)(batch)
        torch.testing.assert_close(batch.degradation.kernel, gaussian_kernel(1.3).expand(2, -1, -1))
        assert losses.degradation == losses.kernel_consistency == 0
        assert losses.consistency < 1e-12

    @pytest.mark.parametrize("clip", [0.0, 0.01])
    def test_gradient_clip(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: float
    ) -> None:
        norms: list[float] = []
        make = loop._optimizer

        def watched(parts: Any, settings: Any) -> torch.optim.Adam:
            optimizer = make(parts, settings)

            def record(*_: Any) -> None:
                for part in parts:
                    grads = [p.grad.flatten() for p in part if p.grad is not None]
                    norms.append(float(torch.cat(grads).norm()))

            optimizer.register_step_pre_hook(record)
            return optimizer

        monkeypatch.setattr(loop, "_optimizer", watched)
        train(tiny_recipe(iterations=4, gradient_clip=clip), [pictures], tmp_path / "run")
        assert len(norms) == 4 * 3
        if clip:
            assert max(norms) == pytest.approx(clip, rel=1e-3)
        else:
            assert min(norms) > 0.01

    def test_rate(self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        report_each_iteration(monkeypatch)
        recipe = tiny_recipe(iterations=25, warmup=5, learning_rate=1e-3, deblur_rate=0.004)
        train(recipe, [pictures], tmp_path / "run")
        rates = [float(row["rate"]) for row in log_of(tmp_path / "run")]
        expected = [
            1e-3 * min(1, (step + 1) / 5) * (1 + math.cos(math.pi * step / 25)) / 2
            for step in range(25)
        ]
        assert rates == pytest.approx(expected, rel=1e-3)
        assert rates[-1] < 0.005 * max(rates)
        body, deblur = checkpoint_of(tmp_path / "run")["optimizer"]["param_groups"]
        assert deblur["lr"] == pytest.approx(0.004 * body["lr"])

    def test_deblur_group(self) -> None:
        recipe = tiny_recipe()
        model = DMSR(recipe.model)
        body, deblur = loop._optimizer(loop._Parts.of(model), recipe.training).param_groups
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        assert {names[id(parameter)] for parameter in deblur["params"]} == {
            *("restorer.deblur.meta.weight", "restorer.deblur.meta.bias"),
            *("restorer.output.weight", "restorer.output.bias"),
        }
        assert len(body["params"]) + len(deblur["params"]) == len(names)

    @pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
    def test_average(self, decay: float) -> None:
        torch.manual_seed(0)
        model, average = nn.Linear(3, 2), nn.Linear(3, 2)
        expected = [parameter.detach().clone() for parameter in average.parameters()]
        for iteration in range(1, 8):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter))
            loop._update_average(average, model, decay, iteration)
            now = min(decay, (1 + iteration) / (10 + iteration))
            expected = [
                now * old + (1 - now) * new.detach()
                for old, new in zip(expected, model.parameters(), strict=True)
            ]
        for found, wanted in zip(average.parameters(), expected, strict=True):
            torch.testing.assert_close(found.detach(), wanted)
