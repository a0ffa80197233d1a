"""`dmsr train`, then `dmsr evaluate` and `dmsr upscale` with what it made."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import dmsr

RECIPE = """
[model]
channels = 8
groups = 1
blocks = 1
reduction = 4
upsampled_channels = 4
extractor_channels = 8
extractor_blocks = 1
blur_channels = 8
deblur_size = 3

[training]
iterations = 4
batch = 2
patch = 8
warmup = 1
validation_crop = 32
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, a recipe, and a finished run at x3."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg"):
        small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        small.resize((96, 80), Image.Resampling.BICUBIC).save(folder / "pictures" / name)
    (folder / "tiny.toml").write_text(RECIPE)
    done = dmsr(
        *("train", "--data", "pictures", "--val", "pictures", "-s", 3, "--recipe", "tiny.toml"),
        *("-o", "run", "--device", "cpu"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    assert "4 iterations, validation PSNR" in done.stderr
    return folder


def test_a_run_leaves_all_that_is_needed(workplace: Path) -> None:
    run = workplace / "run"
    assert {path.name for path in run.iterdir()} == {
        *("recipe.toml", "log.csv", "curves.png", "validation"),
        *("checkpoint.pt", "dmsr-x3.safetensors"),
    }
    assert "iterations = 4" in (run / "recipe.toml").read_text()


def test_evaluate_prints_a_table_and_writes_csv(workplace: Path) -> None:
    done = dmsr(
        *("evaluate", "--data", "pictures", "--model", "run/dmsr-x3.safetensors"),
        *("--kernel-width", 1.3, "--noise-level", 15, "-o", "scores.csv", "--device", "cpu"),
        cwd=workplace,
    )
    assert done.returncode == 0, done.stderr
    assert "x3: PSNR / SSIM" in done.stdout
    with (workplace / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["lr"] for row in rows] == ["float", "8-bit"]
    assert all(10 < float(row["psnr"]) < 40 for row in rows)
    refused = dmsr(
        *("evaluate", "--data", "pictures", "--model", "run/dmsr-x3.safetensors"),
        *("-o", "scores.csv"),
        cwd=workplace,
    )
    assert refused.returncode == 2
    assert "--overwrite" in refused.stderr


def test_the_weights_upscale(workplace: Path) -> None:
    done = dmsr(
        *("upscale", "pictures/a.png", "-o", "big.png", "--json"),
        *("--model", "run/dmsr-x3.safetensors"),
        cwd=workplace,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scale"] == 3
    assert Image.open(workplace / "big.png").size == (288, 240)


def test_init_from_another_scale(workplace: Path) -> None:
    done = dmsr(
        *("train", "--data", "pictures", "-s", 2, "--recipe", "tiny.toml", "-o", "run_x2"),
        *("--init-from", "run/dmsr-x3.safetensors", "--iterations", 1, "--device", "cpu"),
        cwd=workplace,
    )
    assert done.returncode == 0, done.stderr
    assert "restorer.upsample.weight" in done.stderr


def test_resume_begins_a_run_that_is_not_there(workplace: Path) -> None:
    """The same command starts a job and starts it again; the second time there is nothing left."""
    command = (
        *("train", "--data", "pictures", "-s", 3, "--recipe", "tiny.toml", "-o", "again"),
        *("--resume", "--device", "cpu"),
    )
    for told in ("no checkpoint in again yet: this is a new run", "going on from iteration 4"):
        done = dmsr(*command, cwd=workplace)
        assert done.returncode == 0, done.stderr
        assert told in done.stderr.splitlines()
        assert "4 iterations; weights: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--data", "absent"], 1, ["absent"]),
        (["--data", "nothing"], 1, ["nothing", "no pictures"]),
        (["--data", "text"], 1, ["fake.png", "not a picture"]),
        (["--data", "pictures", "--patch", "40"], 1, ["a.png", "96x80", "lower patch"]),
        (["--data", "pictures", "--recipe", "huge"], 2, ["huge", "lite"]),
        (["--data", "pictures", "--recipe", "bad.toml"], 2, ["bad.toml", "chanels"]),
        (["--data", "pictures", "--minutes", "1", "--iterations", "1"], 2, ["not both"]),
        (["--data", "pictures", "--init-from", "absent.safetensors"], 1, ["absent.safetensors"]),
        (["--data", "pictures", "-o", "run"], 2, ["run", "--resume"]),
    ],
)
def test_bad_input_gets_one_line(
    arguments: list[str], status: int, words: list[str], workplace: Path
) -> None:
    (workplace / "nothing").mkdir(exist_ok=True)
    (workplace / "text").mkdir(exist_ok=True)
    (workplace / "text" / "fake.png").write_text("text")
    (workplace / "bad.toml").write_text("[model]\nchanels = 8\n")
    if "--recipe" not in arguments:
        arguments = [*arguments, "--recipe", "tiny.toml"]
    if "-o" not in arguments:
        arguments = [*arguments, "-o", "never"]
    done = dmsr("train", *arguments, "-s", 3, "--device", "cpu", cwd=workplace)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert len(errors) == 1, done.stderr
    for word in words:
        assert word in errors[0]
    assert not (workplace / "never").exists()
