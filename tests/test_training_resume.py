"""Going on with a run, and checkpoints that cannot be used."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from safetensors import safe_open

from dmsr_cli.errors import CheckpointError
from dmsr_cli.files import display_name
from dmsr_cli.training.loop import train
from dmsr_cli.training.settings import Recipe
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
    tick,
    tiny_recipe,
)


@pytest.fixture
def stopped(pictures: Path, tmp_path: Path) -> Path:
    """A run of 8 iterations that was interrupted after 3."""
    run_until(3, tiny_recipe(), [pictures], tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_no_curves(monkeypatch)


class TestResume:
    def test_bit_for_bit(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tick(monkeypatch, 1e-4)  # the weight file tells the seconds, rounded: here none
        recipe = tiny_recipe(iterations=10)
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        expected = train(recipe, [pictures], whole, validation=pictures)
        lines: list[str] = []
        arguments: dict[str, Any] = {"validation": pictures, "on_message": lines.append}
        first = run_until(3, recipe, [pictures], parts, **arguments)
        assert (first.finished, first.iterations) == (False, 3)
        second = run_until(7, recipe, [pictures], parts, resume=True, **arguments)
        assert (second.finished, second.iterations) == (False, 7)
        last = train(recipe, [pictures], parts, resume=True, **arguments)
        assert last == dataclasses.replace(expected, weights=last.weights)
        assert last.finished
        assert_same_run(whole, parts)
        assert last.weights.read_bytes() == expected.weights.read_bytes()
        assert lines == [
            "stopped at iteration 3; go on with --resume",
            "going on from iteration 3",
            "stopped at iteration 7; go on with --resume",
            "going on from iteration 7",
        ]
        assert [row["iteration"] for row in log_of(parts)] == [*"1234567", "10"]

    def test_interrupted_run_leaves_good_weights(self, stopped: Path) -> None:
        model = load_weights(stopped / "dmsr-x2.safetensors")
        average = checkpoint_of(stopped)["average"]
        name = "restorer.head.weight"
        assert torch.equal(model.state_dict()[name], average[name].half().float())

    def test_a_run_that_has_ended(self, pictures: Path, tmp_path: Path) -> None:
        recipe = tiny_recipe(iterations=2)
        for resume in (False, True):
            result = train(recipe, [pictures], tmp_path / "run", resume=resume)
            assert (result.finished, result.iterations) == (True, 2)
        longer = train(tiny_recipe(iterations=3), [pictures], tmp_path / "run", resume=True)
        assert longer.iterations == 3

    def test_seconds_add_up(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tick(monkeypatch, 1.0)
        output = tmp_path / "run"
        run_until(3, tiny_recipe(), [pictures], output)
        before = checkpoint_of(output)["seconds"]
        train(tiny_recipe(), [pictures], output, resume=True)
        assert checkpoint_of(output)["seconds"] > before > 3

    def test_without_checkpoint(self, pictures: Path, tmp_path: Path) -> None:
        """Whoever starts a job again and again need not know whether it ever began."""
        whole, lines = tmp_path / "whole", []
        train(tiny_recipe(), [pictures], whole)
        for name, prepare in (("never", lambda folder: None), ("an\nempty", Path.mkdir)):
            prepare(tmp_path / name)
            arguments: dict[str, Any] = {"resume": True, "on_message": lines.append}
            result = train(tiny_recipe(), [pictures], tmp_path / name, **arguments)
            assert (result.finished, result.iterations) == (True, 8)
            assert_same_run(tmp_path / name, whole)
        assert lines == [
            f"no checkpoint in {display_name(tmp_path / name)} yet: this is a new run"
            for name in ("never", "an\nempty")
        ]

    def test_psnr_is_restored(self, pictures: Path, tmp_path: Path) -> None:
        """What the last validation found stays known where none follows it."""
        output = tmp_path / "run"
        scored = run_until(3, tiny_recipe(), [pictures], output, validation=pictures)
        assert scored.psnr == checkpoint_of(output)["psnr"]
        assert scored.psnr is not None
        result = train(tiny_recipe(), [pictures], output, resume=True)
        assert result.psnr == checkpoint_of(output)["psnr"] == scored.psnr
        with safe_open(result.weights, "pt") as file:
            assert json.loads(file.metadata()["dmsr_info"])["psnr"] == scored.psnr

    def test_each_other_setting_is_named(self, pictures: Path, stopped: Path) -> None:
        before = files_of(stopped)
        recipe = tiny_recipe(batch=3, noise_levels=(0.0, 50.0), schedule=(0.0, 0.5))
        recipe = Recipe(dataclasses.replace(recipe.model, blocks=2), recipe.training)
        with pytest.raises(CheckpointError) as error:
            train(recipe, [pictures], stopped, resume=True)
        assert (
            "other settings: blocks was 1, is 2; batch was 2, is 3; "
            "schedule was (0.0, 1.0), is (0.0, 0.5); "
            "noise_levels was (0.0, 75.0), is (0.0, 50.0); use the same" in message(error)
        )
        assert files_of(stopped) == before

    @pytest.mark.parametrize("change", ["one more", "one pixel", "another order"])
    def test_other_pictures_are_named(self, stopped: Path, tmp_path: Path, change: str) -> None:
        count = 3 if change == "one more" else 2
        folder = make_pictures(tmp_path / "other", count)
        if change == "one pixel":
            picture = PIL.Image.open(folder / "1.png")
            picture.putpixel((95, 95), (0, 0, 0))
            picture.save(folder / "1.png")
        if change == "another order":
            (folder / "0.png").rename(folder / "2.png")
        before = files_of(stopped)
        with pytest.raises(CheckpointError) as error:
            train(tiny_recipe(), [folder], stopped, resume=True)
        expected = (
            rf"other settings: pictures were 2 pictures of 0\.02 megapixels in all \(\w+\), "
            rf"are {count} pictures of 0\.0\d megapixels in all \(\w+\); use the same"
        )
        assert re.search(expected, message(error))
        assert files_of(stopped) == before

    def test_pictures_and_settings_are_named_together(self, stopped: Path, tmp_path: Path) -> None:
        folder = make_pictures(tmp_path / "other", 1)
        with pytest.raises(CheckpointError, match=r"seed was 0, is 1; pictures were 2 pictures"):
            train(tiny_recipe(seed=1), [folder], stopped, resume=True)

    def test_same_pictures_elsewhere(self, stopped: Path, tmp_path: Path) -> None:
        """What they are counts, not where they are."""
        folder = make_pictures(tmp_path / "moved")
        assert train(tiny_recipe(), [folder], stopped, resume=True).finished

    def test_settings_that_may_change(self, pictures: Path, stopped: Path) -> None:
        recipe = tiny_recipe(minutes=1e-9, validate_every=EVERY_ITERATION, compile=False)
        assert train(recipe, [pictures], stopped, resume=True).iterations == 3


class TestBadCheckpoint:
    def refused(self, pictures: Path, output: Path, expected: str = "is damaged or not") -> None:
        before = files_of(output)
        with pytest.raises(CheckpointError, match=expected) as error:
            train(tiny_recipe(), [pictures], output, resume=True)
        assert str(output / "checkpoint.pt") in message(error)
        assert files_of(output) == before

    def test_cut_short(self, pictures: Path, stopped: Path) -> None:
        path = stopped / "checkpoint.pt"
        content = path.read_bytes()
        for length in (0, 1, 100, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            self.refused(pictures, stopped)

    def test_flipped_bit_in_a_weight(self, pictures: Path, stopped: Path) -> None:
        path = stopped / "checkpoint.pt"
        weight = checkpoint_of(stopped)["model"]["restorer.head.weight"]
        stored = weight.permute(0, 2, 3, 1).contiguous().numpy().tobytes()  # channels last
        content = bytearray(path.read_bytes())
        content[content.index(stored) + 9] ^= 4
        path.write_bytes(content)
        self.refused(pictures, stopped)

    @pytest.mark.parametrize("content", [b"hello\n", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(99)])
    def test_other_files(self, pictures: Path, stopped: Path, content: bytes) -> None:
        (stopped / "checkpoint.pt").write_bytes(content)
        self.refused(pictures, stopped)

    @pytest.mark.parametrize(
        "state", [{"w": torch.zeros(2)}, [1], torch.zeros(2), {"format": 1, "recipe": "lite"}]
    )
    def test_other_checkpoints(self, pictures: Path, stopped: Path, state: Any) -> None:
        torch.save(state, stopped / "checkpoint.pt")
        self.refused(pictures, stopped)

    def test_other_version(self, pictures: Path, stopped: Path) -> None:
        path, state = stopped / "checkpoint.pt", checkpoint_of(stopped)
        for version in (1, 3, "2"):
            torch.save({**state, "format": version}, path)
            self.refused(pictures, stopped, "of another version")
        for part in ("model", "average", "optimizer", "iteration", "seconds", "psnr"):
            torch.save({key: value for key, value in state.items() if key != part}, path)
            self.refused(pictures, stopped, "does not fit")
        without = {key: value for key, value in state.items() if key != "pictures"}
        torch.save(without, path)
        self.refused(pictures, stopped, "pictures were unknown")
        weights = dict(state["model"])
        weights["restorer.old.weight"] = weights.pop("restorer.head.weight")
        torch.save({**state, "model": weights}, path)
        self.refused(pictures, stopped, "does not fit")

    @pytest.mark.parametrize("archive", [False, True])
    def test_no_code_is_run(self, pictures: Path, stopped: Path, archive: bool) -> None:
        marker, path = stopped / "code-was-run", stopped / "checkpoint.pt"

        class Bomb:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return (os.mkdir, (str(marker),))

        if archive:
            torch.save({**checkpoint_of(stopped), "model": Bomb()}, path)
        else:
            path.write_bytes(pickle.dumps(Bomb()))
        self.refused(pictures, stopped)
        assert not marker.exists()
        torch.load(path, weights_only=False) if archive else pickle.loads(path.read_bytes())
        assert marker.exists()  # it would have
