"""Validation: PSNR at fixed degradations, and the pictures that are shown of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.images import read_image
from dmsr_cli.metrics import psnr
from dmsr_cli.model import DMSR
from dmsr_cli.training.loop import train
from dmsr_cli.training.settings import Recipe
from dmsr_cli.training.validation import DEGRADATIONS, Validation, Validator
from training_runs import (
    EVERY_ITERATION,
    checkpoint_of,
    draw_no_curves,
    make_pictures,
    tiny_recipe,
)

CPU = torch.device("cpu")


def tiny_network(recipe: Recipe) -> DMSR:
    torch.manual_seed(0)
    return DMSR(recipe.model)


def validation_of(pictures: Path, recipe: Recipe) -> Validation:
    return Validator(pictures, recipe, CPU).validate(tiny_network(recipe))


def test_deterministic(pictures: Path) -> None:
    recipe = tiny_recipe()
    model = tiny_network(recipe)
    scores = set()
    for seed in (1, 2):
        torch.manual_seed(seed)
        validator = Validator(pictures, recipe, CPU)
        scores |= {validator.validate(model).psnr, validator.validate(model).psnr}
    assert len(scores) == 1
    assert 10 < scores.pop() < 40


def test_does_not_disturb_the_run(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_no_curves(monkeypatch)
    often = tiny_recipe(iterations=4, validate_every=EVERY_ITERATION)
    scored = train(often, [pictures], tmp_path / "a", validation=pictures)
    train(tiny_recipe(iterations=4), [pictures], tmp_path / "b")
    one, other = (checkpoint_of(tmp_path / name)["model"] for name in "ab")
    assert all(torch.equal(one[name], other[name]) for name in one)
    model = DMSR(often.model)
    model.load_state_dict(checkpoint_of(tmp_path / "a")["average"])
    expected = Validator(pictures, often, CPU).validate(model).psnr
    # The memory layout of the weights changes the last bits.
    assert scored.psnr == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_row_for_each_degradation(tmp_path: Path, count: int) -> None:
    """As many different pictures as there are, up to one for each row."""
    rows = validation_of(make_pictures(tmp_path / "data", count), tiny_recipe(scale=3)).rows
    for width, level in DEGRADATIONS:
        (row,) = (row for row in rows if row.label.startswith(f"width {width}, noise {level:g}: "))
        np.testing.assert_array_equal(row.true_kernel, gaussian_kernel(width)[0].numpy())
    assert len(rows) == len(DEGRADATIONS)
    assert len({row.hr.tobytes() for row in rows}) == min(count, len(DEGRADATIONS))


def test_what_a_row_shows(pictures: Path) -> None:
    recipe = tiny_recipe(validation_crop=50)
    result = validation_of(pictures, recipe)
    # 50 of 96 pixels, from the centre.
    crops = [read_image(path).pixels[23:73, 23:73] for path in sorted(pictures.iterdir())]
    for row in result.rows:
        assert any(np.allclose(row.hr, crop, atol=1e-6) for crop in crops)
        assert row.lr.shape == (25, 25, 3)
        assert row.restored.shape == (50, 50, 3)
        assert row.estimated_kernel.shape == (15, 15)
        assert row.estimated_kernel.sum() == pytest.approx(1, abs=1e-5)
        restored, hr = (
            torch.from_numpy(each).permute(2, 0, 1).unsqueeze(0) for each in (row.restored, row.hr)
        )
        expected = psnr(restored.clamp(0, 1), hr, border=2)
        assert float(row.label.split()[-2]) == pytest.approx(expected, abs=0.006)


def test_psnr_is_the_mean_over_all(tmp_path: Path) -> None:
    """With one picture the rows show all there is."""
    result = validation_of(make_pictures(tmp_path / "data", 1), tiny_recipe())
    shown = [float(row.label.split()[-2]) for row in result.rows]
    assert result.psnr == pytest.approx(sum(shown) / 4, abs=0.01)


def test_another_kernel_size(pictures: Path, tmp_path: Path) -> None:
    """The true kernels stay what they are, whatever the network can say of them."""
    recipe = tiny_recipe(iterations=1)
    recipe = Recipe(dataclasses.replace(recipe.model, kernel_size=9), recipe.training)
    (row, *_) = validation_of(pictures, recipe).rows
    assert row.true_kernel.shape == (15, 15)
    assert row.estimated_kernel.shape == (9, 9)
    train(recipe, [pictures], tmp_path / "run", validation=pictures)
    assert (tmp_path / "run" / "validation" / "iteration_0000001.png").is_file()
