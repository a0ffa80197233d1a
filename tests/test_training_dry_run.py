"""`--dry-run`: what a training would be, found out without writing anything."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from dmsr_cli.errors import DataError, SettingsError, WeightsError
from dmsr_cli.model import DMSR
from dmsr_cli.training import dry_run as module
from dmsr_cli.training.dry_run import dry_run
from dmsr_cli.training.loop import train
from training_runs import files_of, tiny_recipe


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)


def test_what_it_says(pictures: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(iterations=100)
    plan = dry_run(recipe, [pictures], tmp_path / "run", validation=pictures)
    model = DMSR(recipe.model)
    assert plan.parameters == sum(p.numel() for p in model.parameters())
    assert plan.extractor_parameters == sum(p.numel() for p in model.extractor.parameters())
    assert plan.pictures == "2 pictures of 0.02 megapixels in all"
    assert plan.precision == "fp32"
    assert plan.iterations == 100
    assert plan.minutes == pytest.approx(100 * plan.seconds_per_iteration / 60)
    assert plan.patches_per_second == pytest.approx(2 / plan.seconds_per_iteration)
    assert plan.peak_memory is None or plan.peak_memory > 50 * 2**20  # torch alone takes more
    assert not (tmp_path / "run").exists()


def test_minutes_say_how_many_iterations_fit(pictures: Path, tmp_path: Path) -> None:
    plan = dry_run(tiny_recipe(minutes=10.0), [pictures], tmp_path / "run")
    assert plan.minutes == 10
    assert plan.iterations == round(600 / plan.seconds_per_iteration)


@pytest.mark.parametrize(
    ("changes", "arguments", "error"),
    [
        ({"iterations": None}, {}, SettingsError),
        ({"patch": 60}, {}, DataError),
        ({"validation_crop": 200}, {"validation": True}, DataError),
        ({}, {"init_from": Path("absent.safetensors")}, WeightsError),
        ({}, {"init_from": Path("absent.safetensors"), "resume": True}, WeightsError),
    ],
)
def test_refuses_what_a_training_would_refuse(
    pictures: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    arguments: dict[str, Any],
    error: type[Exception],
) -> None:
    if arguments.get("validation"):
        arguments = {**arguments, "validation": pictures}
    for start in (dry_run, train):
        with pytest.raises(error):
            start(tiny_recipe(**changes), [pictures], tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_there_stays_as_it_is(pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    train(tiny_recipe(iterations=1), [pictures], output)
    before = files_of(output)
    with pytest.raises(SettingsError, match="holds a run already"):
        dry_run(tiny_recipe(), [pictures], output)
    plan = dry_run(tiny_recipe(iterations=3), [pictures], output, resume=True)
    assert dataclasses.asdict(plan)["iterations"] == 3
    assert files_of(output) == before
