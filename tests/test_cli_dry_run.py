"""`dmsr upscale --dry-run`: what would be done is what is done, and nothing is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from dmsr_cli import pipeline
from dmsr_cli.cli.main import main
from dmsr_cli.weights import save_weights
from pictures import needs_posix
from tiny_weights import tiny_model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """album/a.png of 12 x 9, album/b.jpg of 1000 x 500, and tiny.safetensors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "album").mkdir()
    PIL.Image.new("RGB", (12, 9), (90, 80, 70)).save("album/a.png")
    PIL.Image.new("RGB", (1000, 500)).save("album/b.jpg")
    save_weights(tiny_model(scale=2), tmp_path / "tiny.safetensors")
    return tmp_path


def upscale(*arguments: str) -> int:
    return main(["upscale", *arguments, "--model", "tiny.safetensors"])


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, b"" if path.is_dir() else path.read_bytes())
        for path in folder.rglob("*")
    }


def test_it_says_what_would_be_done_and_does_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "load_model", pytest.fail)
    (folder / "album" / "notes.txt").touch()
    before = everything(folder)
    assert upscale("album", "--dry-run", "-o", "out", "--suffix", "-big") == 0
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        f"{Path('album/a.png')} -> {Path('out/a-big.png')} (24x18)",
        f"{Path('album/b.jpg')} -> {Path('out/b-big.jpg')} (2000x1000)",
    ]
    assert output.err.splitlines() == [
        "tiny.safetensors on cpu",
        "1 other file left alone",
        "2 to do (2.0 megapixels), 0 to skip, 0 would fail; nothing was written",
    ]
    assert everything(folder) == before


def test_it_foretells_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names, sizes and failures are those of the run that follows."""
    (folder / "album/c_x2.png").write_bytes(b"precious")
    PIL.Image.new("RGB", (5, 4)).save("album/c.png")
    PIL.Image.new("L", (5, 4)).save("album/a.bmp")
    inputs = ["album/*.[pb]*", "missing.png", "album/a.png", "*.webp", "--format", "png"]
    records = []
    for extra in (["--dry-run"], []):
        assert upscale(*inputs, *extra, "--json") == 1
        lines = capsys.readouterr().out.splitlines()
        records.append([json.loads(line) for line in lines])
    foretold, done = records
    assert [record["output"] for record in foretold] == [record["output"] for record in done]

    def facts(record: dict[str, Any]) -> tuple[Any, ...]:
        status = record["status"].replace("planned", "ok")
        return status, record["error"], record["width"], record["height"], record["model"]

    expected = [facts(record) for record in done]
    found = [facts(record) for record in foretold]
    for number, (was_foretold, was_done) in enumerate(zip(found, expected, strict=True)):
        if Path(done[number]["input"]).name == "c_x2.png":  # what is wrong inside is not foretold
            assert (was_foretold[0], was_done[0]) == ("ok", "failed")
        else:
            assert was_foretold == was_done
    assert [status for status, *_ in expected].count("failed") == 4


def test_it_knows_what_is_up_to_date(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    upscale("album/a.png", "album/b.jpg")
    (folder / "album/b_x2.jpg").unlink()
    before = everything(folder)
    capsys.readouterr()
    assert upscale("album", "-o", "album/", "--skip-existing", "--dry-run") == 0
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        "album/a.png: skip, album/a_x2.png is up to date",
        "album/b.jpg -> album/b_x2.jpg (2000x1000)",
    ]
    assert "1 result of an earlier run left out" in output.err
    assert upscale("album", "-o", "album/", "--skip-existing", "--dry-run", "--strip") == 0
    output = capsys.readouterr()
    assert "album/a.png -> album/a_x2.png (24x18)" in output.out
    assert "is made anew: it was made without --strip" in output.err
    assert everything(folder) == before


def test_a_camera_that_was_turned(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (30, 20)).save("turned.jpg", exif=exif)
    for extra in (["--dry-run"], []):
        upscale("turned.jpg", "--json", *extra)
        record = json.loads(capsys.readouterr().out)
        assert (record["width"], record["height"]) == (40, 60)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["album/a.png", "-o", "file/out/"], 1, "file is no folder"),
        (["album/a.png", "-o", "out.xyz"], 1, "its suffix must be one of"),
        (["album/a.png", "-o", "album/b.jpg"], 1, "exists already"),
        (["empty.png"], 1, "the file is empty"),
        (["album/b.jpg", "--size", "20000x", "--passes", "2"], 1, "x20"),
        (["album/a.png", "-s", "3"], 2, "x2 model"),
        (["album/a.png", "--device", "toaster"], 2, "toaster"),
        (["album/a.png", "--tile", "16", "--overlap", "16"], 2, "overlap"),
    ],
)
def test_what_can_be_known_to_fail(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, words: str
) -> None:
    Path("file").touch()
    Path("empty.png").touch()
    before = everything(folder)
    assert upscale(*arguments, "--dry-run") == status
    assert words in capsys.readouterr().err
    assert everything(folder) == before
    assert upscale(*arguments) == status


@needs_posix
@pytest.mark.skipif(os.name != "nt" and os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_closed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("closed").mkdir(0o500)
    assert upscale("album/a.png", "-o", "closed/", "--dry-run") == 1
    assert "nothing may be written to closed" in capsys.readouterr().err


def test_a_result_on_the_way_may_be_an_input(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = ["album/a.png", "album/a_x2.png"]
    assert upscale(*chain, "--dry-run") == 0
    assert "album/a_x2.png -> album/a_x2_x2.png" in capsys.readouterr().out
    assert upscale(*chain) == 0
