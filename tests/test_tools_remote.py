"""tools/train_remotely.sh, as it would run on a rented machine: train, go on, score, pack."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dmsr_cli.training.settings import recipe_text
from dmsr_cli.weights import load_weights
from training_runs import make_pictures, tiny_recipe

REPOSITORY = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def call(workplace: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    settings = {"DATA": "pictures", "VAL": "pictures", "RUN": str(workplace / "run")}
    settings |= {"RESULTS": "results", "MINUTES": "0.03", "PYTHON": sys.executable}
    return subprocess.run(
        ["bash", REPOSITORY / "tools" / "train_remotely.sh", "-s", "2", *options],
        cwd=workplace,
        env=os.environ | settings | variables | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_calls_that_make_one_training(tmp_path: Path) -> None:
    make_pictures(tmp_path / "pictures")
    (tmp_path / "tiny.toml").write_text(recipe_text(tiny_recipe()))
    recipe = ("--recipe", "tiny.toml", "--device", "cpu")
    first = call(tmp_path, *recipe, "--stop-after", "0.00001")
    assert first.returncode == 0, first.stderr
    assert "stopped at iteration 0" in first.stderr
    last = call(tmp_path, *recipe, TESTS="pictures")
    assert last.returncode == 0, last.stderr
    assert "going on from iteration 0" in last.stderr

    parts = REPOSITORY / "tools" / "parts.py"
    unpacked = subprocess.run(
        [sys.executable, parts, "unpack", "results/results.json", "-o", "home"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert unpacked.returncode == 0, unpacked.stderr
    run = tmp_path / "home" / "run"
    assert {"recipe.toml", "log.csv", "dmsr-x2.safetensors", "scores"} <= {
        path.name for path in run.iterdir()
    }
    assert not (run / "checkpoint.pt").exists()
    assert load_weights(run / "dmsr-x2.safetensors").config.scale == 2
    scores = json.loads((run / "scores" / "pictures.json").read_text())
    assert len(scores) == 18


def test_missing_variables_are_named(tmp_path: Path) -> None:
    done = call(tmp_path, RUN="")
    assert done.returncode != 0
    assert "RUN: the folder of the run" in done.stderr
    assert not any(tmp_path.iterdir())
