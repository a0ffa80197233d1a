"""What goes wrong in the middle of a run: losses, full disks, pictures that are gone."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dmsr_cli.errors import DataError, DmsrError, TrainingError
from dmsr_cli.training import step
from dmsr_cli.training.loop import train
from dmsr_cli.training.record import Progress
from dmsr_cli.weights import load_weights
from training_runs import (
    EVERY_ITERATION,
    assert_same_run,
    checkpoint_of,
    draw_no_curves,
    files_of,
    log_of,
    make_pictures,
    message,
    run_until,
    tiny_recipe,
)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "pictures")


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_no_curves(monkeypatch)


class TestNotFinite:
    def break_after(self, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
        """Make the loss NaN after this many steps."""
        count = [0]
        sound = step.reconstruction_loss

        def breaking(*args: torch.Tensor) -> torch.Tensor:
            count[0] += 1
            return sound(*args) * (math.nan if count[0] > calls else 1)

        monkeypatch.setattr(step, "reconstruction_loss", breaking)

    # Found by the report at 20, or when the budget ends; told is where it began.
    @pytest.mark.parametrize(
        ("calls", "iterations", "first"), [(9, 30, 18), (11, 30, 20), (4, 15, 13), (6, 15, 15)]
    )
    def test_last_good_state_stays(
        self,
        pictures: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        calls: int,
        iterations: int,
        first: int,
    ) -> None:
        output = tmp_path / "run"
        train(tiny_recipe(iterations=8), [pictures], output)
        before = files_of(output)
        del before["recipe.toml"]
        self.break_after(monkeypatch, calls)
        with pytest.raises(TrainingError, match=rf"not finite at iteration {first}:") as error:
            train(tiny_recipe(iterations=iterations), [pictures], output, resume=True)
        assert "lower --learning-rate" in message(error)
        assert str(output) in message(error)
        assert {**files_of(output), **before} == files_of(output)
        assert len(files_of(output)) == len(before) + 1
        load_weights(output / "dmsr-x2.safetensors")

    def test_state_before_the_first_bad_step_is_kept(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.break_after(monkeypatch, 3)
        recipe = tiny_recipe(validate_every=EVERY_ITERATION)
        with pytest.raises(TrainingError, match="not finite at iteration 4:"):
            train(recipe, [pictures], tmp_path / "run", validation=pictures)
        monkeypatch.undo()
        state = checkpoint_of(tmp_path / "run")
        assert state["iteration"] == 3
        assert all(tensor.isfinite().all() for tensor in state["model"].values())

    def test_also_when_interrupted(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C must not save what is broken."""
        self.break_after(monkeypatch, 4)

        def interrupt(progress: Progress) -> None:
            raise KeyboardInterrupt

        recipe, output = tiny_recipe(iterations=30), tmp_path / "run"
        run_until(2, recipe, [pictures], output)
        before = files_of(output)
        with pytest.raises(TrainingError, match="not finite at iteration 5:"):
            train(recipe, [pictures], output, resume=True, on_progress=interrupt)
        assert {**files_of(output), "recipe.toml": b""} == {**before, "recipe.toml": b""}

    @pytest.mark.parametrize("validated", [False, True])
    def test_weights_break_after_a_finite_loss(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validated: bool
    ) -> None:
        """The gradient of the very last step before a save is what breaks."""
        monkeypatch.setattr(nn.utils, "clip_grad_norm_", _spoil_gradients)
        recipe = tiny_recipe(iterations=1, validate_every=EVERY_ITERATION)
        validation = pictures if validated else None
        with pytest.raises(TrainingError, match="weights are not finite at iteration 1") as error:
            train(recipe, [pictures], tmp_path / "run", validation=validation)
        assert "last good state" not in message(error)  # there is none
        assert not (tmp_path / "run" / "checkpoint.pt").exists()
        assert not (tmp_path / "run" / "dmsr-x2.safetensors").exists()

    def test_absurd_learning_rate(self, pictures: Path, tmp_path: Path) -> None:
        recipe = tiny_recipe(iterations=20, learning_rate=1e30, warmup=0)
        with pytest.raises(TrainingError, match=r"loss is not finite at iteration [2-9]:"):
            train(recipe, [pictures], tmp_path / "run")


def _spoil_gradients(parameters: Any, limit: float) -> None:
    for parameter in parameters:
        parameter.grad.fill_(math.nan)


class TestFullDisk:
    RECIPE = tiny_recipe(iterations=6, validate_every=EVERY_ITERATION)

    def fill_disk(self, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
        """From now on files with this suffix find room for 100 bytes."""
        write = Path.write_bytes

        def refuse(path: Path, content: bytes) -> int:
            if path.suffix != suffix:
                return write(path, content)
            write(path, content[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "write_bytes", refuse)

    @pytest.mark.parametrize("name", ["checkpoint.pt", "dmsr-x2.safetensors"])
    def test_for_a_while(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        output = tmp_path / "run"
        kept: dict[int, dict[str, bytes]] = {}

        def report(progress: Progress) -> None:
            kept[progress.iteration] = files_of(output)  # what the iteration before has saved
            if progress.iteration == 3:
                self.fill_disk(monkeypatch, Path(name).suffix)
            if progress.iteration == 5:
                monkeypatch.undo()
                draw_no_curves(monkeypatch)

        lines: list[str] = []
        arguments: dict[str, Any] = {"on_progress": report, "on_message": lines.append}
        assert train(self.RECIPE, [pictures], output, **arguments).finished
        expected = f"cannot write {output / name}: No space left on device; the run goes on"
        assert [line.startswith(expected) for line in lines] == [True] * 2
        assert kept[3][name] == kept[4][name] == kept[5][name]
        assert len({kept[iteration][name] for iteration in (2, 3, 6)}) == 3
        assert all(files_of(output).keys() == kept[iteration].keys() for iteration in range(2, 7))
        assert checkpoint_of(output)["iteration"] == 6

    def test_to_the_end(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        output = tmp_path / "run"
        kept: list[dict[str, bytes]] = []

        def report(progress: Progress) -> None:
            if progress.iteration == 3:
                kept.append(files_of(output))
                self.fill_disk(monkeypatch, ".pt")

        with pytest.raises(DmsrError, match=r"checkpoint\.pt: No space left on device$") as error:
            train(self.RECIPE, [pictures], output, on_progress=report)
        message(error)
        assert [files_of(output)] == kept
        assert checkpoint_of(output)["iteration"] == 2

    def test_before_the_start(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path, text: str, encoding: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "write_text", refuse)
        with pytest.raises(DmsrError, match=r"recipe\.toml: No space left on device$") as error:
            train(self.RECIPE, [pictures], tmp_path / "run")
        message(error)
        assert not any((tmp_path / "run").iterdir())

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no file's size")
    @pytest.mark.parametrize("ends", [True, False])
    def test_real_limit(self, pictures: Path, tmp_path: Path, ends: bool) -> None:
        """A process whose files may not grow beyond 20 kB, in iterations 3 and 4 or to the end.

        A checkpoint is larger than that, and so are the weights and curves.png; log.csv is not.
        """
        program = (
            "import resource, sys\n"
            "from pathlib import Path\n"
            "from training_runs import EVERY_ITERATION, tiny_recipe\n"
            "from dmsr_cli.errors import DmsrError\n"
            "from dmsr_cli.training.loop import train\n"
            "pictures, output, ends = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == 'True'\n"
            "before, most = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
            "def report(progress):\n"
            "    if progress.iteration == 3:\n"
            "        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))\n"
            "    if progress.iteration == 5 and ends:\n"
            "        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))\n"
            "recipe = tiny_recipe(iterations=6, validate_every=EVERY_ITERATION)\n"
            "try:\n"
            "    train(recipe, [pictures], output, on_progress=report, on_message=print)\n"
            "except DmsrError as error:\n"
            "    print('error:', error)\n"
        )
        output = tmp_path / "run"
        lines = run_python(program, pictures, output, ends).splitlines()
        told = f"cannot write {output / 'checkpoint.pt'}: File too large"
        on = f"{told}; the run goes on, and tries again at the next validation"
        curves = f"cannot write {output / 'curves.png'}: File too large"
        if ends:
            assert lines == [on, curves, on]
            assert checkpoint_of(output)["iteration"] == 6
        else:
            assert lines == [on, curves, on, on, on, f"error: {told}"]
            assert checkpoint_of(output)["iteration"] == 2
        assert [row["iteration"] for row in log_of(output)] == list("123456")
        assert set(files_of(output)) == {"recipe.toml", "checkpoint.pt", "dmsr-x2.safetensors"}
        load_weights(output / "dmsr-x2.safetensors")
        assert train(self.RECIPE, [pictures], output, resume=True).finished
        train(tiny_recipe(iterations=6), [pictures], tmp_path / "whole")
        assert_same_run(output, tmp_path / "whole")


def run_python(program: str, *arguments: object) -> str:
    """What a program that imports the tests' modules prints."""
    python_path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": python_path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout


class TestPicturesAreGone:
    def test_while_training_goes_on(self, pictures: Path, tmp_path: Path) -> None:
        """Nothing happens: they are in memory."""
        recipe = tiny_recipe(validate_every=EVERY_ITERATION)
        train(recipe, [pictures], tmp_path / "whole", validation=pictures)
        lines: list[str] = []
        result = train(
            recipe,
            [pictures],
            tmp_path / "run",
            validation=pictures,
            on_progress=lambda progress: shutil.rmtree(pictures, ignore_errors=True),
            on_message=lines.append,
        )
        assert not pictures.exists()
        assert result.finished
        assert lines == []
        assert_same_run(tmp_path / "run", tmp_path / "whole")

    @pytest.mark.parametrize("validation", [False, True])
    def test_before_a_resume(self, pictures: Path, tmp_path: Path, validation: bool) -> None:
        other, output = make_pictures(tmp_path / "other"), tmp_path / "run"
        folders = {"data": [pictures], "validation": other if validation else None}
        run_until(3, tiny_recipe(), output=output, **folders)
        before = files_of(output)
        gone = other if validation else pictures
        shutil.rmtree(gone)
        expected = re.escape(f"{gone} is not a folder with pictures")
        with pytest.raises(DataError, match=expected) as error:
            train(tiny_recipe(), output=output, resume=True, **folders)
        message(error)
        assert files_of(output) == before
