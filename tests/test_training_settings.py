"""Recipes: the shipped ones, the reader, the writer, and every value that is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from dmsr_cli.config import DMSRConfig
from dmsr_cli.errors import SettingsError
from dmsr_cli.training.settings import (
    Recipe,
    TrainingSettings,
    read_recipe,
    recipe_text,
    with_changes,
)


def refused(name_or_path: str | Path) -> str:
    with pytest.raises(SettingsError) as error:
        read_recipe(str(name_or_path))
    assert "\n" not in str(error.value)
    return str(error.value)


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


class TestShipped:
    def test_full_is_the_papers_network(self) -> None:
        assert read_recipe("full").model == DMSRConfig()

    def test_lite_is_smaller(self) -> None:
        lite, full = read_recipe("lite").model, DMSRConfig()
        assert lite.groups * lite.blocks < full.groups * full.blocks
        assert lite.kernel_size == full.kernel_size

    @pytest.mark.parametrize("name", ["lite", "full"])
    def test_has_one_budget(self, name: str) -> None:
        training = read_recipe(name).training
        assert (training.minutes is None) != (training.iterations is None)

    @pytest.mark.parametrize("name", ["tiny", "", ".", "Lite", "lite\n", "x" * 300])
    def test_unknown_name(self, name: str) -> None:
        text = refused(name)
        assert f"unknown recipe {name!r}" in text
        assert "full, lite, or a .toml file" in text


class TestRead:
    def test_file(self, tmp_path: Path) -> None:
        text = "[model]\nscale = 2\n[training]\nminutes = 5\nschedule = [0, 0.5]\n"
        recipe = read_recipe(str(write(tmp_path, text)))
        assert recipe.model == DMSRConfig(scale=2)
        assert recipe.training == TrainingSettings(minutes=5.0, schedule=(0.0, 0.5))

    def test_empty_file_is_all_defaults(self, tmp_path: Path) -> None:
        assert read_recipe(str(write(tmp_path, ""))) == Recipe()

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("[training]\nbatchs = 3", "[training]: unknown setting 'batchs'"),
            ("[model]\nbatch = 3", "[model]: unknown setting 'batch'"),
            ("[trainign]", "unknown table 'trainign'; known are model, training"),
            ("minutes = 3", "unknown table 'minutes'"),
            ("model = 3", "model must be a table, not 3"),
            ("[[training]]", "training must be a table"),
            ("[training]\nbatch = 2.5", "[training]: batch must be of type int"),
            ("[training]\nbatch = true", "[training]: batch must be of type int"),
            ("[training]\nblur_free = 2", "[training]: blur_free must be from 0 to 1"),
            ("[training]\nreconstruction_error = 'l2'", "must be l1 or rmse, not 'l2'"),
            ("[training]\nchoices = 0", "[training]: choices must be greater than 0"),
            ("[training]\nfrozen_extractor = true", "leaves nothing to learn for degradation"),
            ("[training]\nbatch = 0", "[training]: batch must be greater than 0"),
            ("[training]\nlearning_rate = nan", "[training]: learning_rate must be finite"),
            ("[training]\nschedule = 0.5", "[training]: schedule must be"),
            ("[training]\nschedule = [0, 2]", "smaller first, from 0 to 1: not (0.0, 2.0)"),
            ("[training]\nkernel_widths = [0, 2]", "smaller first, from 0.05 up: not (0.0, 2.0)"),
            ("[model]\nkernel_size = 4", "[model]: kernel_size must be odd"),
            ("[training]\nminutes = 1\niterations = 1", "minutes or iterations, not both"),
            ("[training", "not valid TOML"),
        ],
    )
    def test_refused(self, tmp_path: Path, text: str, expected: str) -> None:
        path = write(tmp_path, text)
        message = refused(path)
        assert expected in message
        assert str(path) in message

    def test_missing_file(self, tmp_path: Path) -> None:
        assert "No such file" in refused(tmp_path / "none.toml")
        assert "cannot read" in refused("no-such-folder/lite")


class TestText:
    @pytest.mark.parametrize(
        "recipe",
        [
            Recipe(),
            read_recipe("lite"),
            read_recipe("full"),
            Recipe(
                DMSRConfig(scale=3, channels=8, reduction=2, kernel_size=21),
                TrainingSettings(
                    iterations=12345,
                    learning_rate=1e-05,
                    deblur_rate=1 / 3,
                    ema=0.0,
                    degradation_weight=1e22,
                    kernel_widths=(0.1 + 0.2, 2.6),
                    noise_levels=(0.0, 1e-9),
                    schedule=(0.5, 1.0),
                    seed=2**32 - 1,
                    precision="bf16",
                    compile=False,
                ),
            ),
            Recipe(training=TrainingSettings(minutes=0.1)),
        ],
    )
    def test_round_trip(self, tmp_path: Path, recipe: Recipe) -> None:
        assert read_recipe(str(write(tmp_path, recipe_text(recipe)))) == recipe

    def test_names_every_setting(self) -> None:
        text = recipe_text(Recipe(training=TrainingSettings(minutes=1.0)))
        names = {line.split(" = ")[0] for line in text.splitlines() if " = " in line}
        everything = {*dataclasses.asdict(DMSRConfig()), *dataclasses.asdict(TrainingSettings())}
        assert names == everything - {"iterations"}


class TestChanges:
    def test_one_budget_removes_the_other(self) -> None:
        by_time = Recipe(training=TrainingSettings(minutes=5.0))
        by_count = with_changes(by_time, {}, {"iterations": 7})
        assert (by_count.training.minutes, by_count.training.iterations) == (None, 7)
        again = with_changes(by_count, {}, {"minutes": 2.0})
        assert (again.training.minutes, again.training.iterations) == (2.0, None)

    def test_both_budgets_are_refused(self) -> None:
        with pytest.raises(SettingsError, match="not both"):
            with_changes(Recipe(), {}, {"minutes": 2.0, "iterations": 7})

    def test_other_settings_stay(self) -> None:
        recipe = read_recipe("lite")
        changed = with_changes(recipe, {"scale": 2}, {"batch": 3})
        assert changed.model == dataclasses.replace(recipe.model, scale=2)
        assert changed.training == dataclasses.replace(recipe.training, batch=3)
        assert with_changes(recipe, {}, {}) == recipe

    def test_result_is_checked(self) -> None:
        with pytest.raises(SettingsError, match="batch"):
            with_changes(Recipe(), {}, {"batch": 0})


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("minutes", [0.0, -1.0, NAN, INFINITY]),
        ("iterations", [0, -5]),
        ("batch", [0, -1]),
        ("patch", [0, -1]),
        ("learning_rate", [0.0, -1e-4, NAN, INFINITY]),
        ("deblur_rate", [-0.1, NAN, INFINITY]),
        ("warmup", [-1]),
        ("gradient_clip", [-1.0, NAN, INFINITY]),
        ("ema", [-0.1, 1.1, NAN]),
        ("reconstruction_weight", [-1.0, NAN, INFINITY]),
        ("degradation_weight", [-1.0, NAN, INFINITY]),
        ("consistency_weight", [-1.0, NAN, INFINITY]),
        ("kernel_consistency_weight", [-1.0, NAN, INFINITY]),
        ("kernel_widths", [(), (1.0,), (1.0, 2.0, 3.0), (2.0, 1.0), (0.0, 1.0), (NAN, 1.0)]),
        ("kernel_widths", [(0.2, NAN), (0.2, INFINITY), (-0.2, 1.0)]),
        ("noise_levels", [(), (1.0,), (2.0, 1.0), (-1.0, 1.0), (0.0, NAN), (0.0, INFINITY)]),
        ("schedule", [(), (1.0,), (0.0, 0.5, 1.0), (0.6, 0.5), (-0.1, 1.0), (0.5, 1.1)]),
        ("schedule", [(NAN, 1.0), (0.0, INFINITY)]),
        ("eight_bit", [-0.1, 1.1, NAN]),
        ("seed", [-1, 2**32]),
        ("validate_every", [0.0, -1.0, NAN, INFINITY]),
        ("validation_crop", [0, -1, 31]),
    ],
)
def test_impossible_value_is_named(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(SettingsError, match=rf"^{name} must ") as error:
            TrainingSettings(**{name: value})
        assert str(value) in str(error.value)


def test_possible_extremes() -> None:
    TrainingSettings(
        warmup=0,
        gradient_clip=0.0,
        ema=0.0,
        reconstruction_weight=0.0,
        degradation_weight=0.0,
        consistency_weight=0.0,
        kernel_consistency_weight=0.0,
        kernel_widths=(1.3, 1.3),
        noise_levels=(0.0, 0.0),
        schedule=(1.0, 1.0),
        eight_bit=1.0,
    )
