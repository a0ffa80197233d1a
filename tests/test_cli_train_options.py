"""`dmsr train`: a look without training, stopping for a while, and what TensorBoard shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from command_line import dmsr
from dmsr_cli.training.loop import train
from dmsr_cli.training.settings import recipe_text
from training_runs import checkpoint_of, make_pictures, report_each_iteration, tiny_recipe


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    make_pictures(tmp_path / "pictures")
    (tmp_path / "tiny.toml").write_text(recipe_text(tiny_recipe(iterations=12)))
    return tmp_path


def command(*more: str) -> list[str]:
    arguments = ["train", "--data", "pictures", "-s", "2", "--recipe", "tiny.toml", "-o", "run"]
    return [*arguments, "--device", "cpu", *more]


def test_dry_run(workplace: Path) -> None:
    done = dmsr(*command("--dry-run", "--minutes", "10"), cwd=workplace)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert list(lines) == ["network", "pictures", "step", "time", "memory", "budget", "output"]
    assert "tiny.toml x2" in lines["network"]
    assert lines["step"] == "2 patches of 8x8 LR pixels (16x16 HR), fp32 on cpu"
    assert re.match(r"\d+\.\d{3} s an iteration, [\d,.]+ patches/s", lines["time"])
    assert re.match(r"10\.0 minutes, about [\d,]+ iterations, [\d,]+ patches", lines["budget"])
    assert lines["output"] == "run: nothing was written"
    assert not (workplace / "run").exists()


def test_stop_after(workplace: Path) -> None:
    """Far less than loading takes: the run ends before its first step, in order."""
    done = dmsr(*command("--stop-after", "0.00001"), cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert "stopped at iteration 0; go on with --resume" in done.stderr
    assert checkpoint_of(workplace / "run")["iteration"] == 0
    done = dmsr(*command("--resume"), cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert "going on from iteration 0" in done.stderr
    assert "12 iterations" in done.stderr


@pytest.mark.parametrize("more", [{}, {"stop_after": 60.0}])
def test_ctrl_c_is_told_from_a_planned_stop(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, float]
) -> None:
    report_each_iteration(monkeypatch)

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    arguments = (tiny_recipe(iterations=12), [workplace / "pictures"], workplace / "run")
    result = train(*arguments, on_progress=interrupt, **more)
    assert (result.finished, result.interrupted, result.iterations) == (False, True, 1)
    result = train(*arguments, resume=True, stop_after=1e-9)
    assert (result.finished, result.interrupted, result.iterations) == (False, False, 1)


def test_tensorboard(workplace: Path) -> None:
    done = dmsr(*command("--tensorboard"), cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert [path.name[:6] for path in (workplace / "run" / "tensorboard").iterdir()] == ["events"]
