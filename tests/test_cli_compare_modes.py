"""`dmsr upscale --compare-mode`: one picture beside the result, whatever it shows."""

from __future__ import annotations

import json
from pathlib import Path

import PIL.Image
import pytest

from dmsr_cli.cli.compare_options import COMPARE_MODES
from dmsr_cli.cli.main import main
from dmsr_cli.weights import save_weights
from pictures import noise, save
from tiny_weights import tiny_model

MADE = ["a_x2.png", "a_x2_compare.png", "b_x2.png", "b_x2_compare.png"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """album/a.png and b.png of 60 x 40, and tiny.safetensors for x2."""
    monkeypatch.chdir(tmp_path)
    Path("album").mkdir()
    for name in ("a", "b"):
        save(Path(f"album/{name}.png"), noise(40, 60, 3))
    save_weights(tiny_model(scale=2), tmp_path / "tiny.safetensors")
    return tmp_path


def upscale(*arguments: str) -> int:
    return main(["upscale", *arguments, "--model", "tiny.safetensors"])


def made(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("mode", COMPARE_MODES)
def test_a_mode_needs_no_compare(folder: Path, mode: str) -> None:
    assert upscale("album/a.png", "--compare-mode", mode) == 0
    assert made(folder / "album") == ["a.png", "a_x2.png", "a_x2_compare.png", "b.png"]
    sizes = {"side-by-side": (244, 80), "split": (120, 80)}
    size = PIL.Image.open("album/a_x2_compare.png").size
    assert sizes.get(mode, size) == size
    if mode == "zoom":
        assert size[0] >= 360
        assert size[1] > 240


def test_compare_alone_is_side_by_side(folder: Path) -> None:
    assert upscale("album/a.png", "--compare") == 0
    assert PIL.Image.open("album/a_x2_compare.png").size == (244, 80)


def test_no_other_mode(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert upscale("album/a.png", "--compare-mode", "slider") == 2
    assert "zoom" in capsys.readouterr().err


def test_a_batch_knows_its_comparisons(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("album", "--compare-mode", "split", "--skip-existing", "--json")

    def records() -> list[str]:
        return [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()]

    assert upscale(*arguments, "--dry-run") == 0
    assert records() == ["planned", "planned"]
    assert not Path("album_x2").exists()
    assert upscale(*arguments) == 0
    assert records() == ["ok", "ok"]
    assert made(folder / "album_x2") == MADE
    assert upscale(*arguments) == 0
    assert records() == ["skipped", "skipped"]
    Path("album_x2/b_x2_compare.png").unlink()
    assert upscale(*arguments, "--dry-run") == 0
    assert records() == ["skipped", "planned"]
    assert upscale(*arguments) == 0
    assert records() == ["skipped", "ok"]
    assert made(folder / "album_x2") == MADE


def test_comparisons_are_no_inputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("album", "-o", "album/", "--compare-mode", "zoom", "--skip-existing")
    assert upscale(*arguments) == 0
    assert upscale(*arguments) == 0
    assert "4 results of earlier runs left out" in capsys.readouterr().err


def test_a_comparison_that_is_there_is_refused(folder: Path) -> None:
    Path("album/a_x2_compare.png").write_bytes(b"precious")
    assert upscale("album/a.png", "--compare-mode", "split") == 1
    assert Path("album/a_x2_compare.png").read_bytes() == b"precious"
    assert not Path("album/a_x2.png").exists()


def test_results_of_one_stem_get_comparisons_of_their_own(folder: Path) -> None:
    save(Path("album/a.jpg"), noise(40, 60, 3))
    assert upscale("album", "--compare-mode", "split") == 0
    assert len([name for name in made(folder / "album_x2") if "compare" in name]) == 3
