"""tools/train_remotely.py, as it would run on a rented machine: train, go on, score, pack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dmsr_cli.training.settings import recipe_text
from dmsr_cli.weight_file import load_weights
from training_runs import make_pictures, tiny_recipe

TOOLS = Path(__file__).resolve().parents[1] / "tools"
PLAN = """
[[stage]]
name = "first"
recipe = "tiny.toml"
scale = 2
minutes = 0.02

[[stage]]
name = "second"
recipe = "tiny.toml"
scale = 3
minutes = 0.01
start = "first"
"""


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    make_pictures(tmp_path / "pictures")
    (tmp_path / "tiny.toml").write_text(recipe_text(tiny_recipe()))
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path


def call(workplace: Path, minutes: float, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, TOOLS / "train_remotely.py", "plan.toml", "--data", "pictures"]
    command += ["--val", "pictures", "--runs", "runs", "--results", "results", "--device", "cpu"]
    return subprocess.run(
        [*command, "--minutes", str(minutes), *options],
        cwd=workplace,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def fetched(workplace: Path) -> Path:
    """The runs as they come home."""
    command = [sys.executable, TOOLS / "parts.py", "unpack", "results/results.json", "-o", "home"]
    done = subprocess.run(command, cwd=workplace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return workplace / "home" / "runs"


def test_calls_that_make_the_trainings_of_a_plan(workplace: Path) -> None:
    # The first call's time is over before the first stage's is, which counts from the first step.
    first = call(workplace, 0.005)
    assert first.returncode == 0, first.stderr
    assert "stopped at iteration" in first.stdout
    assert "second" not in first.stdout
    last = call(workplace, 5, "--test", "pictures")
    assert last.returncode == 0, last.stderr
    assert "going on from iteration" in last.stdout
    assert "tensors taken from" in last.stdout.split("second:")[1]

    runs = fetched(workplace)
    for name, scale in (("first", 2), ("second", 3)):
        there = {path.name for path in (runs / name).iterdir()}
        assert {"recipe.toml", "log.csv", f"dmsr-x{scale}.safetensors", "finished"} <= there
        assert "checkpoint.pt" not in there
        assert load_weights(runs / name / f"dmsr-x{scale}.safetensors").config.scale == scale
        assert len(json.loads((runs / name / "scores" / "pictures.json").read_text())) == 18


def test_a_stage_that_fails_is_told_and_does_not_end_the_call(workplace: Path) -> None:
    third = '[[stage]]\nname = "third"\nrecipe = "tiny.toml"\nscale = 2\nminutes = 0.01\n'
    (workplace / "plan.toml").write_text(PLAN + third)
    (workplace / "runs").mkdir()
    (workplace / "runs" / "first").write_text("no folder")
    done = call(workplace, 5)
    assert done.returncode == 1
    assert "second needs first, which is not finished" in done.stderr
    assert done.stderr.splitlines()[-1] == "failed: first, second"
    assert "Traceback" not in done.stderr
    assert (fetched(workplace) / "third" / "finished").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minutes = 0.01": "minuts = 1"}, "unknown setting 'minuts'"),
        ({"scale = 3": "scale = 9"}, "scale must be at most 8"),
        ({'"second"': '"first"'}, "'first' is no name for a stage, or there twice"),
        ({'"second"': '"../second"'}, "'../second' is no name for a stage"),
        ({'start = "first"': 'start = "second"'}, "neither an earlier stage nor a bundled model"),
        ({'"tiny.toml"': '"tiniest.toml"'}, "tiniest.toml"),
        ({"[[stage]]": "[stage]"}, "is not valid TOML"),
    ],
)
def test_a_slip_in_the_plan_costs_nothing(
    workplace: Path, change: dict[str, str], message: str
) -> None:
    ((old, new),) = change.items()
    (workplace / "plan.toml").write_text(PLAN.replace(old, new))
    done = call(workplace, 5)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (workplace / "runs").exists()


def test_the_plan_for_the_family_is_sound() -> None:
    """It is read where time costs nothing."""
    code = (
        "import sys; from pathlib import Path; import train_remotely as tool; "
        "stages = tool.read_plan(Path('family/plan.toml')); "
        "print(sum(stage.minutes for stage in stages), *(stage.name for stage in stages))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=TOOLS, capture_output=True, text=True, check=True)
    minutes, *names = done.stdout.split()
    assert 0 < float(minutes) <= 30
    assert {"lite-x2", "lite-x3", "lite-x4", "full-x4"} <= set(names)
