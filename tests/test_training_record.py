"""What a run shows of itself, and that nothing of it can end the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dmsr_cli.errors import DmsrError
from dmsr_cli.training import loop, record
from dmsr_cli.training.board import Board
from dmsr_cli.training.loop import train
from dmsr_cli.training.settings import read_recipe
from dmsr_cli.weights import load_weights
from training_runs import (
    EVERY_ITERATION,
    checkpoint_of,
    draw_no_curves,
    files_of,
    log_of,
    message,
    run_until,
    tiny_recipe,
)

OFTEN = tiny_recipe(iterations=3, validate_every=EVERY_ITERATION)


def below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


class TestWhatItLeaves:
    def test_without_validation(self, pictures: Path, tmp_path: Path) -> None:
        recipe = tiny_recipe(scale=3, iterations=40)
        output = tmp_path / "deep" / "run"
        result = train(recipe, [pictures], output)
        assert below(output) == {
            *("recipe.toml", "log.csv", "curves.png", "checkpoint.pt", "dmsr-x3.safetensors")
        }
        assert result.weights == output / "dmsr-x3.safetensors"
        assert result.psnr is None
        assert read_recipe(str(output / "recipe.toml")) == recipe
        assert [row["iteration"] for row in log_of(output)] == ["20", "40"]
        assert checkpoint_of(output)["iteration"] == 40
        with PIL.Image.open(output / "curves.png") as curves:
            assert len(np.unique(np.asarray(curves))) > 10

    def test_validation_at_the_end(self, pictures: Path, tmp_path: Path) -> None:
        output = tmp_path / "run"
        result = train(tiny_recipe(iterations=20), [pictures], output, validation=pictures)
        assert {name for name in below(output) if "/" in name} == {
            "validation/iteration_0000020.png"
        }
        assert result.psnr == checkpoint_of(output)["psnr"]
        last = log_of(output)[-1]
        assert last["iteration"] == "20"
        assert float(last["psnr"]) == pytest.approx(result.psnr, abs=1e-3)
        with PIL.Image.open(output / "validation" / "iteration_0000020.png") as strip:
            assert strip.width > 3 * 48  # LR, result and HR, side by side
            assert strip.height > 4 * 48  # for four degradations

    def test_each_validation_and_tensorboard(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        draw_no_curves(monkeypatch)
        output = tmp_path / "run"
        arguments = {"validation": pictures, "tensorboard": True}
        run_until(2, OFTEN, [pictures], output, **arguments)
        train(OFTEN, [pictures], output, resume=True, **arguments)
        assert {path.name for path in (output / "validation").iterdir()} == {
            f"iteration_000000{iteration}.png" for iteration in (1, 2, 3)
        }
        board = EventAccumulator(str(output / "tensorboard")).Reload()
        rows = log_of(output)
        assert [event.step for event in board.Images("validation")] == [1, 2, 3]
        for curve, column in (
            ("loss/kernel_consistency", "kernel_consistency"),
            ("learning rate", "rate"),
            ("patches per second", "patches_per_second"),
            ("validation PSNR", "psnr"),
        ):
            events = board.Scalars(curve)
            assert [event.step for event in events] == [1, 2, 3]
            shown, logged = [event.value for event in events], [float(row[column]) for row in rows]
            assert shown == pytest.approx(logged, rel=1e-2)

    def test_log_starts_anew_with_a_new_run(self, pictures: Path, tmp_path: Path) -> None:
        """A folder without a checkpoint holds no run that could go on."""
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "log.csv").write_text("old\n")
        for resume in (False, True):
            train(tiny_recipe(iterations=20), [pictures], tmp_path / "run", resume=resume)
            assert [row["iteration"] for row in log_of(tmp_path / "run")] == ["20"]

    def test_lost_log_is_begun_again(self, pictures: Path, tmp_path: Path) -> None:
        run_until(2, OFTEN, [pictures], tmp_path / "run")
        (tmp_path / "run" / "log.csv").unlink()
        train(OFTEN, [pictures], tmp_path / "run", resume=True)
        assert [row["iteration"] for row in log_of(tmp_path / "run")] == ["3"]


def make_folder(path: Path) -> None:
    path.mkdir(parents=True)


def make_file(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("mine")


class TestNothingEndsTheRun:
    def assert_told_once(self, lines: list[str], *words: str) -> None:
        """One line for each of the words, and no other line."""
        assert len(lines) == len(words)
        for word in words:
            (line,) = (line for line in lines if word in line)
            assert "\n" not in line

    @pytest.mark.parametrize(
        ("name", "occupy", "told"),
        [
            ("log.csv", make_folder, ["no log in", "cannot read"]),
            ("curves.png", make_folder, ["curves.png"]),
            ("validation", make_file, ["no validation picture in"]),
            ("validation/iteration_0000002.png", make_folder, ["iteration_0000002.png"]),
        ],
    )
    def test_something_is_in_the_way(
        self,
        pictures: Path,
        tmp_path: Path,
        name: str,
        occupy: Callable[[Path], None],
        told: list[str],
    ) -> None:
        output, lines = tmp_path / "a\nrun", []
        occupy(output / name)
        before = below(output)
        result = train(OFTEN, [pictures], output, validation=pictures, on_message=lines.append)
        assert result.finished
        self.assert_told_once(lines, *told)
        assert before <= below(output)
        assert checkpoint_of(output)["iteration"] == 3
        load_weights(result.weights)

    def test_without_matplotlib(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(record, "curves_available", lambda: False)
        lines: list[str] = []
        assert train(OFTEN, [pictures], tmp_path / "run", on_message=lines.append).finished
        self.assert_told_once(lines, 'pip install "dmsr-cli[plots]"')
        assert not (tmp_path / "run" / "curves.png").exists()

    def test_tensorboard_breaks(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise DmsrError("cannot write TensorBoard files")

        for method in ("scalars", "picture", "close"):
            monkeypatch.setattr(Board, method, refuse)
        draw_no_curves(monkeypatch)
        lines: list[str] = []
        arguments = {"validation": pictures, "tensorboard": True, "on_message": lines.append}
        assert train(OFTEN, [pictures], tmp_path / "run", **arguments).finished
        self.assert_told_once(lines, "cannot write TensorBoard files")


def test_missing_tensorboard_ends_a_run_before_it_starts(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for it wants it; hours later would be too late to say so."""

    def refuse(*_: object) -> Board:
        raise DmsrError("pip install it")

    monkeypatch.setattr(loop.Board, "open", refuse)
    with pytest.raises(DmsrError, match="pip install it") as error:
        train(OFTEN, [pictures], tmp_path / "run", tensorboard=True)
    message(error)
    assert not (tmp_path / "run").exists()
    train(OFTEN, [pictures], tmp_path / "run")
    assert "tensorboard" not in below(tmp_path / "run")
    assert "checkpoint.pt" in files_of(tmp_path / "run")
