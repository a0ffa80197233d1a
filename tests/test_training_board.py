"""What TensorBoard reads from the files of a run."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

from dmsr_cli.errors import DmsrError
from dmsr_cli.training.board import Board
from training_runs import message


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={IMAGES: 0}).Reload()


def points(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(name)]


def test_scalars(tmp_path: Path) -> None:
    board = Board.open(tmp_path / "new" / "board")
    board.scalars({"loss/reconstruction": 0.5, "speed": 60.0}, 20)
    board.scalars({"loss/reconstruction": 0.25}, 40)
    board.close()
    folder = tmp_path / "new" / "board"
    assert points(folder, "loss/reconstruction") == [(20, 0.5), (40, 0.25)]
    assert points(folder, "speed") == [(20, 60.0)]


def test_pictures_keep_size_colours_and_rounding(tmp_path: Path) -> None:
    levels = np.arange(7 * 12 * 3, dtype=np.uint8).reshape(7, 12, 3)
    pixels = levels.astype(np.float32) / 255
    # Nearest levels, not the next below; beyond the range, its ends.
    pixels = np.clip(pixels - np.float32(0.4 / 255), 0, 1)
    pixels[0, :2] = [[-3, 2, 0.5], [2, -3, 1]]
    expected = levels.copy()
    expected[0, :2] = [[0, 255, 128], [255, 0, 255]]
    board = Board.open(tmp_path)
    before = pixels.copy()
    board.picture("validation", pixels, 20)
    board.picture("validation", pixels[::-1], 40)
    board.close()
    np.testing.assert_array_equal(pixels, before)
    first, second = read(tmp_path).Images("validation")
    assert (first.step, second.step) == (20, 40)
    decoded = [
        np.asarray(PIL.Image.open(io.BytesIO(event.encoded_image_string)))
        for event in (first, second)
    ]
    np.testing.assert_array_equal(decoded[0], expected)
    np.testing.assert_array_equal(decoded[1], expected[::-1])


def test_a_resumed_run_hides_what_it_goes_through_again(tmp_path: Path) -> None:
    board = Board.open(tmp_path)
    for iteration in (20, 40, 60, 80):
        board.scalars({"loss": 1.0}, iteration)
    board.close()
    board = Board.open(tmp_path, resumed_at=40)
    board.scalars({"loss": 2.0}, 60)
    board.close()
    assert len(list(tmp_path.iterdir())) == 2
    assert points(tmp_path, "loss") == [(20, 1.0), (40, 1.0), (60, 2.0)]


def test_closing_twice(tmp_path: Path) -> None:
    board = Board.open(tmp_path)
    board.scalars({"loss": 1.0}, 20)
    board.close()
    board.close()
    assert len(list(tmp_path.iterdir())) == 1


def test_missing_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith(("tensorboard", "torch.utils.tensorboard")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(DmsrError) as error:
        Board.open(tmp_path / "board")
    assert 'pip install "dmsr-cli[tensorboard]"' in message(error)
    assert "board" in message(error)
    assert not (tmp_path / "board").exists()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DmsrError) as error:
        Board.open(tmp_path / "file" / "board")
    assert str(tmp_path / "file" / "board") in message(error)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board.open(tmp_path)

    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(board._writer.file_writer, "add_summary", refuse)
    for use in (
        lambda: board.scalars({"loss": 1.0}, 20),
        lambda: board.picture("result", np.zeros((4, 4, 3), np.float32), 20),
    ):
        with pytest.raises(DmsrError) as error:
            use()
        assert "No space left on device" in message(error)
        assert str(tmp_path) in message(error)
    monkeypatch.undo()
    board.close()
