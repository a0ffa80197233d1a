"""The training loop: what a run computes, and what it leaves on disk."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from dmsr_cli.errors import DataError, DmsrError, SettingsError, WeightsError
from dmsr_cli.training.loop import train
from dmsr_cli.training.record import Progress
from dmsr_cli.training.settings import Recipe
from dmsr_cli.weights import load_weights, read_config
from training_runs import (
    EVERY_ITERATION,
    checkpoint_of,
    draw_no_curves,
    files_of,
    log_of,
    message,
    report_each_iteration,
    tick,
    tiny_recipe,
)


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_no_curves(monkeypatch)


class TestRun:
    def test_loss_falls(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        report_each_iteration(monkeypatch)
        recipe = tiny_recipe(
            iterations=60, kernel_widths=(1.5, 1.5), noise_levels=(10.0, 10.0), eight_bit=0.0
        )
        totals: list[float] = []
        result = train(
            recipe,
            [pictures],
            tmp_path / "run",
            on_progress=lambda progress: totals.append(sum(progress.losses.values())),
        )
        assert result.iterations == len(totals) == 60
        assert result.finished
        assert sum(totals[-15:]) < 0.7 * sum(totals[:15])

    def test_weights_are_the_average(self, pictures: Path, tmp_path: Path) -> None:
        result = train(tiny_recipe(), [pictures], tmp_path / "run")
        assert read_config(result.weights) == tiny_recipe().model
        model, average = load_weights(result.weights), checkpoint_of(tmp_path / "run")["average"]
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, average[name].half().float()), name
        with safe_open(result.weights, "pt") as file:
            info = json.loads(file.metadata()["dmsr_info"])
        assert info["iterations"] == 8
        assert info["psnr"] is None

    def test_log(self, pictures: Path, tmp_path: Path) -> None:
        recipe = tiny_recipe(iterations=3, validate_every=EVERY_ITERATION)
        reports: list[Progress] = []
        train(recipe, [pictures], tmp_path / "run", validation=pictures, on_progress=reports.append)
        rows = log_of(tmp_path / "run")
        assert list(rows[0]) == [
            *("iteration", "seconds", "rate", "patches_per_second"),
            *("reconstruction", "degradation", "consistency", "kernel_consistency", "psnr"),
        ]
        assert [report.iteration for report in reports] == [1, 2, 3]
        assert [report.done for report in reports] == [0, 1 / 3, 2 / 3]
        for row, report in zip(rows, reports, strict=True):
            assert int(row["iteration"]) == report.iteration
            assert float(row["rate"]) == pytest.approx(report.rate, rel=1e-3)
            assert float(row["psnr"]) == pytest.approx(report.psnr, abs=1e-3)
            assert float(row["patches_per_second"]) > 0
            for name, value in report.losses.items():
                assert float(row[name]) == pytest.approx(value, abs=1e-6)

    def test_same_seed_same_run(self, pictures: Path, tmp_path: Path) -> None:
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            torch.manual_seed(ord(name))  # the global state must not matter
            train(tiny_recipe(seed=seed), [pictures], tmp_path / name)
        one, same, other = (checkpoint_of(tmp_path / name)["model"] for name in "abc")
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert not torch.equal(one["restorer.head.weight"], other["restorer.head.weight"])

    def test_another_kernel_size(self, pictures: Path, tmp_path: Path) -> None:
        recipe = tiny_recipe(iterations=2)
        model = dataclasses.replace(recipe.model, kernel_size=9)
        result = train(Recipe(model, recipe.training), [pictures], tmp_path / "run")
        assert read_config(result.weights).kernel_size == 9

    def test_minutes_end_the_run(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tick(monkeypatch, 0.25)
        report_each_iteration(monkeypatch)
        output, reports = tmp_path / "run", []
        recipe = tiny_recipe(minutes=0.2)  # 12 seconds of a clock that ticks at each look
        result = train(recipe, [pictures], output, on_progress=reports.append)
        assert result.finished
        assert 5 < result.iterations < 48
        assert 12 <= checkpoint_of(output)["seconds"] < 14  # a few looks later
        assert reports[-1].done < 1
        assert float(log_of(output)[-1]["rate"]) < 0.1 * recipe.training.learning_rate
        again = train(recipe, [pictures], output, resume=True)
        assert again.finished
        assert again.iterations == result.iterations

    def test_stop_after(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A part of a run, as long as somebody lends the machine."""
        tick(monkeypatch, 1.0)
        output, lines = tmp_path / "run", []
        arguments = {"stop_after": 1.0, "on_message": lines.append}
        first = train(tiny_recipe(iterations=60), [pictures], output, **arguments)
        assert not first.finished
        assert 5 < first.iterations < 60
        assert lines == [f"stopped at iteration {first.iterations}; go on with --resume"]
        assert checkpoint_of(output)["iteration"] == first.iterations
        second = train(tiny_recipe(iterations=60), [pictures], output, resume=True, **arguments)
        assert not second.finished
        assert second.iterations >= 2 * first.iterations - 1  # the minutes before do not count
        budget = tiny_recipe(iterations=second.iterations + 2)
        assert train(budget, [pictures], output, resume=True, **arguments).finished


EXTRACTOR_LOSSES = ("degradation_weight", "consistency_weight", "kernel_consistency_weight")


class TestRefusals:
    def test_folder_that_holds_a_run(self, pictures: Path, tmp_path: Path) -> None:
        output = tmp_path / "run"
        train(tiny_recipe(iterations=1), [pictures], output)
        before = files_of(output)
        with pytest.raises(SettingsError, match="holds a run already: add --resume") as error:
            train(tiny_recipe(iterations=2), [pictures], output)
        assert str(output) in message(error)
        assert files_of(output) == before

    @pytest.mark.parametrize(
        ("changes", "arguments", "expected"),
        [
            ({"iterations": None}, {}, "give --minutes or --iterations"),
            ({"precision": "fp8"}, {}, "precision must be auto"),
            (
                {"frozen_extractor": True, **dict.fromkeys(EXTRACTOR_LOSSES, 0.0)},
                {},
                "give its weights by --init-from",
            ),
        ],
    )
    def test_settings(
        self, pictures: Path, tmp_path: Path, changes: Any, arguments: Any, expected: str
    ) -> None:
        with pytest.raises(SettingsError, match=expected) as error:
            train(tiny_recipe(**changes), [pictures], tmp_path / "run", **arguments)
        message(error)
        assert not (tmp_path / "run").exists()

    def test_data(self, pictures: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="lower patch"):
            train(tiny_recipe(patch=40), [pictures], tmp_path / "run")
        recipe = tiny_recipe(validation_crop=100)
        with pytest.raises(DataError, match="lower validation_crop"):
            train(recipe, [pictures], tmp_path / "run", validation=pictures)
        assert not (tmp_path / "run").exists()

    def test_output_cannot_be_made(self, pictures: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        for output in (tmp_path / "file", tmp_path / "file" / "run"):
            with pytest.raises(DmsrError, match="cannot create") as error:
                train(tiny_recipe(), [pictures], output)
            assert "file" in message(error)
        assert (tmp_path / "file").read_text() == "mine"


class TestInitFrom:
    # So small a rate changes no weight: what is saved is what the run started from.
    FROZEN = {"iterations": 1, "learning_rate": 1e-30}  # noqa: RUF012 # never changed

    def test_another_scale(self, pictures: Path, tmp_path: Path) -> None:
        start = train(tiny_recipe(2, iterations=3), [pictures], tmp_path / "x2").weights
        lines: list[str] = []
        result = train(
            tiny_recipe(4, **self.FROZEN, seed=7),
            [pictures],
            tmp_path / "x4",
            init_from=start,
            on_message=lines.append,
        )
        new = ["restorer.upsample.bias", "restorer.upsample.weight"]
        old, made = load_weights(start).state_dict(), load_weights(result.weights).state_dict()
        assert [line for line in lines if "taken from" in line] == [
            f"{len(old) - 2} of {len(old)} tensors taken from {start}; new: {', '.join(new)}"
        ]
        for name, tensor in made.items():
            if name in new:
                assert tensor.shape != old[name].shape
            else:
                assert torch.equal(tensor, old[name]), name

    def test_same_network(self, pictures: Path, tmp_path: Path) -> None:
        start = train(tiny_recipe(iterations=3), [pictures], tmp_path / "a").weights
        lines: list[str] = []
        recipe = tiny_recipe(**self.FROZEN, seed=7)
        train(recipe, [pictures], tmp_path / "b", init_from=start, on_message=lines.append)
        assert "new:" not in lines[0]

    def test_only_a_new_run_starts_from_them(self, pictures: Path, tmp_path: Path) -> None:
        """One command serves the first call and all that go on."""
        start = train(tiny_recipe(iterations=3), [pictures], tmp_path / "a").weights
        keywords: dict[str, Any] = {"init_from": start, "resume": True}
        said: list[list[str]] = []
        for iterations in (2, 4):
            lines: list[str] = []
            recipe = tiny_recipe(iterations=iterations)
            train(recipe, [pictures], tmp_path / "b", **keywords, on_message=lines.append)
            said.append(lines)
        assert "taken from" in said[0][0]
        assert said[1] == ["going on from iteration 2"]

    def test_bad_weights(self, pictures: Path, tmp_path: Path) -> None:
        (tmp_path / "w.safetensors").write_text("not weights")
        for name in ("w.safetensors", "none.safetensors"):
            with pytest.raises(WeightsError, match=name):
                train(tiny_recipe(), [pictures], tmp_path / "run", init_from=tmp_path / name)
