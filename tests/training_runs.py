"""Tiny training runs on synthetic pictures, and how to compare what they leave."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from dmsr_cli.errors import DmsrError
from dmsr_cli.training import keeper, loop, record
from dmsr_cli.training.loop import TrainingResult, train
from dmsr_cli.training.record import Progress
from dmsr_cli.training.settings import Recipe, TrainingSettings
from tiny_weights import TINY

SETTINGS = TrainingSettings(
    iterations=8,
    batch=2,
    patch=8,
    learning_rate=2e-3,
    deblur_rate=0.01,
    warmup=2,
    precision="fp32",
    validate_every=1000.0,
    validation_crop=48,
)
EVERY_ITERATION = 1e-9
"""For `validate_every`: validate, save and report after each step."""


def tiny_recipe(scale: int = 2, **training: Any) -> Recipe:
    wider = {"channels": 8, "reduction": 4, "extractor_channels": 8, "blur_channels": 8}
    model = dataclasses.replace(TINY, scale=scale, deblur_size=5, **wider)
    if "minutes" in training:
        training["iterations"] = None
    return Recipe(model, dataclasses.replace(SETTINGS, **training))


def make_pictures(folder: Path, count: int = 2, side: int = 96) -> Path:
    """Smooth coloured waves with a few hard edges, different in each file."""
    folder.mkdir()
    rows, columns = np.mgrid[:side, :side] / side
    for number in range(count):
        waves = [
            np.sin(2 * np.pi * ((number + 1 + colour) * rows + (3 - number) * columns))
            for colour in range(3)
        ]
        picture = 0.5 + 0.3 * np.stack(waves, axis=-1)
        picture[side // 3 : side // 2, side // 4 :] = 0.2 * number
        PIL.Image.fromarray((picture * 255).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def run_until(iteration: int, recipe: Recipe, *args: Any, **keywords: Any) -> TrainingResult:
    """Train, and stop as Ctrl-C in `on_progress` does after this iteration."""

    def stop(progress: Progress) -> None:
        if progress.iteration == iteration:
            raise KeyboardInterrupt

    training = dataclasses.replace(recipe.training, validate_every=EVERY_ITERATION)
    recipe = dataclasses.replace(recipe, training=training)
    return train(recipe, *args, on_progress=stop, **keywords)


def report_each_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "REPORT_EVERY", 1)


def draw_no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all the rest of a tiny run."""
    monkeypatch.setattr(record, "write_curves", lambda log, picture: None)


def tick(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Give a run a clock that moves on by `seconds` at each look."""
    now = [0.0]

    def monotonic() -> float:
        now[0] += seconds
        return now[0]

    for module in (loop, keeper):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=monotonic))


def checkpoint_of(output: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(output / "checkpoint.pt", weights_only=True)
    return state


def log_of(output: Path) -> list[dict[str, str]]:
    with (output / "log.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_same_run(left: Path, right: Path) -> None:
    """The states of two runs are equal bit for bit, but for the seconds they took."""
    states = [checkpoint_of(output) for output in (left, right)]
    for state in states:
        del state["seconds"], state["recipe"]
    _assert_same(*states, where="checkpoint")


def _assert_same(left: Any, right: Any, where: str) -> None:
    assert type(left) is type(right), where
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key, value in left.items():
            _assert_same(value, right[key], f"{where}.{key}")
    elif isinstance(left, list):
        assert len(left) == len(right), where
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            _assert_same(one, other, f"{where}[{index}]")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    else:
        assert left == right, where


def files_of(output: Path) -> dict[str, bytes]:
    """What a run leaves that must survive a failure, and all that should not be there."""
    shown = {"log.csv", "curves.png", "validation", "tensorboard"}
    return {path.name: path.read_bytes() for path in output.iterdir() if path.name not in shown}


def message(error: pytest.ExceptionInfo[DmsrError]) -> str:
    """The error's text, which must be one line."""
    text = str(error.value)
    assert "\n" not in text
    return text
