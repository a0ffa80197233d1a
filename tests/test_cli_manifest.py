"""--skip-existing: which results are up to date, which are made anew, which are left alone."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from dmsr_cli import files
from dmsr_cli.cli.batch import manifest as manifest_module
from dmsr_cli.cli.batch.manifest import MANIFEST_NAME, Entry, Manifest, parse_entry
from dmsr_cli.cli.main import main
from dmsr_cli.images import read_provenance
from dmsr_cli.weights import save_weights
from pictures import needs_posix
from tiny_weights import tiny_model

ENTRY = Entry("a_x2.png", 10, 11, "ab" * 32, "../a.png", 12, 13, "cd" * 32, {"scale": 2})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """album/a.png, album/b.png, and tiny.safetensors, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "album").mkdir()
    for seed, name in enumerate("ab"):
        save_noise(Path(f"album/{name}.png"), seed)
    save_weights(tiny_model(scale=2), tmp_path / "tiny.safetensors")
    return tmp_path


def save_noise(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(path)


Run = Callable[..., "tuple[int, list[str], str]"]


@pytest.fixture
def upscale(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `dmsr upscale`; gives the exit status, the status of each input, and what was said."""

    def run(*arguments: str, model: str = "tiny.safetensors") -> tuple[int, list[str], str]:
        capsys.readouterr()
        status = main(["upscale", *arguments, "--model", model, "--json"])
        output = capsys.readouterr()
        return status, [json.loads(line)["status"] for line in output.out.splitlines()], output.err

    return run


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / MANIFEST_NAME).read_bytes().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_batch_is_resumed_where_it_stopped(folder: Path, upscale: Run) -> None:
    assert upscale("album")[:2] == (0, ["ok", "ok"])
    before = contents(folder / "album_x2")
    assert upscale("album", "--skip-existing")[:2] == (0, ["skipped", "skipped"])
    assert contents(folder / "album_x2") == before
    (folder / "album_x2" / "b_x2.png").unlink()
    assert upscale("album", "--skip-existing")[:2] == (0, ["skipped", "ok"])
    again = contents(folder / "album_x2")
    assert again["b_x2.png"] == before["b_x2.png"]
    assert upscale("album")[:2] == (1, ["failed", "failed"])  # as ever


def test_an_entry_says_what_was_made_from_what(folder: Path, upscale: Run) -> None:
    upscale("album", "--denoise", "0.5")
    first = lines(folder / "album_x2")[0]
    result, source = folder / "album_x2/a_x2.png", folder / "album/a.png"
    assert first["name"] == "a_x2.png"
    assert first["size"] == result.stat().st_size
    assert first["mtime_ns"] == result.stat().st_mtime_ns
    assert first["source"] == os.path.join("..", "album", "a.png")  # noqa: PTH118 - a text
    assert first["source_size"] == source.stat().st_size
    assert first["version"] == 1
    settings = first["settings"]
    assert isinstance(settings, dict)
    assert settings.pop("weights") == read_provenance(result).sha256  # type: ignore[union-attr]
    assert settings == {"scale": 2, "denoise": 0.5}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (["--denoise", "0.5"], "made without --denoise 0.5"),
        (["--kernel-width", "2"], "made without --kernel-width 2"),
        (["--strip"], "made without --strip"),
        (["--no-provenance"], "made without --no-provenance"),
        (["--frames", "0:1"], "made without --frames 0:1"),
    ],
)
def test_other_settings_make_results_anew(
    folder: Path, upscale: Run, changed: list[str], words: str
) -> None:
    upscale("album")
    before = contents(folder / "album_x2")
    status, records, said = upscale("album", "--skip-existing", *changed)
    assert (status, records) == (0, ["ok", "ok"])
    assert words in said
    assert upscale("album", "--skip-existing", *changed)[1] == ["skipped", "skipped"]
    assert upscale("album", "--skip-existing")[1] == ["ok", "ok"]
    after = contents(folder / "album_x2")
    assert after.pop(MANIFEST_NAME).startswith(before.pop(MANIFEST_NAME))
    assert after == before


@pytest.mark.parametrize(
    "changed",
    [["--tile", "16"], ["--overlap", "4"], ["--device", "cpu"], ["--precision", "fp32"],
     ["--quality", "50"], ["--passes", "2"]],
)  # fmt: skip
def test_how_it_is_computed_does_not_count(folder: Path, upscale: Run, changed: list[str]) -> None:
    upscale("album")
    assert upscale("album", "--skip-existing", *changed)[1] == ["skipped", "skipped"]


def test_the_quality_counts_where_there_is_one(folder: Path, upscale: Run) -> None:
    arguments = ("album", "--format", "jpg", "--skip-existing")
    assert upscale(*arguments)[1] == ["ok", "ok"]
    assert upscale(*arguments)[1] == ["skipped", "skipped"]
    status, records, said = upscale(*arguments, "--quality", "50")
    assert (status, records) == (0, ["ok", "ok"])
    assert "made with --quality 95, not --quality 50" in said


def test_other_weights_make_results_anew(folder: Path, upscale: Run) -> None:
    upscale("album")
    shutil.copy("tiny.safetensors", "renamed.safetensors")
    same = upscale("album", "--skip-existing", model="renamed.safetensors")
    assert same[1] == ["skipped", "skipped"]
    save_weights(tiny_model(seed=1, scale=2), folder / "other.safetensors")
    other = upscale("album", "--skip-existing", model="other.safetensors")
    assert other[1] == ["ok", "ok"]
    assert "made with other weights" in other[2]


def test_a_changed_input_is_restored_again(folder: Path, upscale: Run) -> None:
    upscale("album")
    save_noise(folder / "album/a.png", 7)
    status, records, said = upscale("album", "--skip-existing")
    assert (status, records) == (0, ["ok", "skipped"])
    assert "the input has changed" in said
    os.utime(folder / "album/a.png", (1, 1))  # touched, not changed
    assert upscale("album", "--skip-existing")[1] == ["skipped", "skipped"]


def test_the_bytes_of_an_input_count_not_its_size(folder: Path, upscale: Run) -> None:
    bitmap = folder / "album/c.bmp"
    for seed in (3, 4):
        save_noise(bitmap, seed)
        os.utime(bitmap, (seed, seed))
        assert upscale("album/c.bmp", "--skip-existing")[1] == ["ok"]
        assert upscale("album/c.bmp", "--skip-existing")[1] == ["skipped"]


def test_inputs_and_results_may_move_together(folder: Path, upscale: Run) -> None:
    upscale("album")
    (folder / "elsewhere").mkdir()
    for name in ("album", "album_x2"):
        shutil.copytree(name, f"elsewhere/{name}")  # with other times
    shutil.rmtree("album")
    for path in Path("elsewhere/album_x2").iterdir():
        os.utime(path)
    assert upscale("elsewhere/album", "--skip-existing")[1] == ["skipped", "skipped"]
    Path("elsewhere/album").rename("elsewhere/renamed")
    arguments = ("elsewhere/renamed", "-o", "elsewhere/album_x2/", "--skip-existing")
    assert upscale(*arguments)[1] == ["skipped", "skipped"]


def test_what_is_not_ours_is_not_replaced(folder: Path, upscale: Run) -> None:
    upscale("album")
    foreign, changed = folder / "album_x2/c_x2.png", folder / "album_x2/b_x2.png"
    save_noise(folder / "album/c.png", 5)
    foreign.write_bytes(b"precious")
    retouched = changed.read_bytes()[:-1] + b"!"
    changed.write_bytes(retouched)
    os.utime(changed, (1, 1))
    for extra in ([], ["--denoise", "0.5"]):
        status, records, said = upscale("album", "--skip-existing", *extra)
        assert (status, records[2]) == (1, "failed")
        assert "c_x2.png exists already and is not known as a result" in said
        assert "--overwrite" in said
        assert foreign.read_bytes() == b"precious"
        assert changed.read_bytes() == retouched
        assert records[1] == "failed"
        assert "b_x2.png was changed after it was made: use --overwrite" in said
    both = upscale("album", "--skip-existing", "--overwrite", "--denoise", "0.5")
    assert both[:2] == (0, ["skipped", "ok", "ok"])
    assert upscale("album", "--skip-existing", "--denoise", "0.5")[1] == ["skipped"] * 3


@needs_posix
def test_a_pipe_is_no_result(folder: Path, upscale: Run) -> None:
    os.mkfifo("album/a_x2.png")  # reading from it would never end
    status, records, said = upscale("album/a.png", "--skip-existing")
    assert (status, records) == (1, ["failed"])
    assert "a_x2.png exists and is not a regular file" in said


def test_a_single_picture_leaves_no_manifest_but_a_note(folder: Path, upscale: Run) -> None:
    assert upscale("album/a.png")[1] == ["ok"]
    assert not (folder / "album" / MANIFEST_NAME).exists()
    assert upscale("album/a.png", "--skip-existing")[1] == ["skipped"]
    status, records, said = upscale("album/a.png", "--skip-existing", "--denoise", "0.5")
    assert (status, records) == (1, ["failed"])  # a note is not enough to replace it
    assert "--overwrite" in said
    shutil.copy("album/b.png", "album/a.png")
    assert upscale("album/a.png", "--skip-existing")[1] == ["failed"]


def test_a_note_without_digests_is_of_an_older_version(folder: Path, upscale: Run) -> None:
    upscale("album/a.png")
    note = read_provenance("album/a_x2.png")
    assert note is not None
    assert len(note.settings) == len(note.source) == 64
    old = dataclasses.replace(note, settings="", source="")
    assert "source" not in json.loads(old.note())


def test_files_beside_a_result_belong_to_it(folder: Path, upscale: Run) -> None:
    upscale("album")
    arguments = ("album", "--skip-existing", "--compare", "--save-degradation")
    status, records, said = upscale(*arguments)
    assert (status, records) == (0, ["ok", "ok"])
    assert "beside it" in said
    assert upscale(*arguments)[1] == ["skipped", "skipped"]
    (folder / "album_x2/a_x2_noise.npy").unlink()
    assert upscale(*arguments)[1] == ["ok", "skipped"]
    assert upscale(*arguments, "--denoise", "0.5")[1] == ["ok", "ok"]
    (folder / "album_x2/a_x2_kernel.png").write_bytes(b"precious")
    status, records, said = upscale(*arguments)
    assert records[0] == "failed"
    assert (folder / "album_x2/a_x2_kernel.png").read_bytes() == b"precious"


def test_results_are_no_inputs_of_the_next_run(folder: Path, upscale: Run) -> None:
    arguments = ("album", "-r", "-o", "album/", "--compare", "--skip-existing")
    assert upscale(*arguments)[1] == ["ok", "ok"]
    status, records, said = upscale(*arguments)
    assert (status, records) == (0, ["skipped", "skipped"])
    assert "4 results of earlier runs left out" in said
    assert upscale("album", "-r", "-o", "album/out/")[1] == ["ok", "ok"]
    assert upscale("album", "-r", "-o", "album/out/", "--skip-existing")[1] == ["skipped"] * 2
    assert upscale("album/a_x2.png")[1] == ["ok"]


@pytest.mark.parametrize("inputs", [["album/*.png"], ["album/a.png", "album/b.png", "made"]])
def test_results_beside_named_inputs_are_no_inputs(
    folder: Path, upscale: Run, inputs: list[str]
) -> None:
    assert upscale("album/a.png", "album/b.png", "--compare")[1] == ["ok", "ok"]
    made = ["album/a_x2.png", "album/b_x2.png", "album/a_x2_compare.png", "album/b_x2_compare.png"]
    named = [name for text in inputs for name in (made if text == "made" else [text])]
    status, records, said = upscale(*named, "--skip-existing")
    assert (status, records) == (0, ["skipped", "skipped"])
    assert "4 results of earlier runs left out" in said
    assert upscale("album/a_x2.png", "album/b.png", "--skip-existing")[1] == ["ok", "skipped"]


def test_overwriting_results_spares_other_inputs(folder: Path, upscale: Run) -> None:
    save_noise(folder / "album/a_x2.png", 9)  # not a result: it only has such a name
    before = Path("album/a_x2.png").read_bytes()
    for extra in ([], ["--skip-existing"]):
        status, _, said = upscale("album", "-o", "album/", "--overwrite", *extra)
        assert status == 1
        assert "album/a_x2.png is an input, too, and no result: use --suffix" in said
        assert Path("album/a_x2.png").read_bytes() == before
    assert upscale("album/b.png", "-o", "album/b.png", "--overwrite")[1] == ["ok"]


def test_the_result_of_an_input_that_is_gone_is_not_replaced(folder: Path, upscale: Run) -> None:
    upscale("album", "-o", "out/")
    made = Path("out/a_x2.png").read_bytes()
    (folder / "other").mkdir()
    Path("album/b.png").rename("other/a.png")
    shutil.rmtree("album")
    status, records, said = upscale("other", "-o", "out/", "--skip-existing")
    assert (status, records) == (1, ["failed"])
    assert "a_x2.png is the result of " in said
    assert Path("out/a_x2.png").read_bytes() == made


def test_a_name_stays_with_its_input(folder: Path, upscale: Run) -> None:
    PIL.Image.open("album/b.png").save("album/b.bmp")
    Path("album/b.png").unlink()
    arguments = ("album", "--format", "png", "-o", "out/", "--skip-existing")
    assert upscale(*arguments)[1] == ["ok", "ok"]
    before = contents(folder / "out")
    save_noise(Path("album/a.bmp"), 8)  # comes before a.png
    status, records, _ = upscale(*arguments)
    assert (status, records) == (0, ["ok", "skipped", "skipped"])
    after = contents(folder / "out")
    assert after["a_x2.png"] == before["a_x2.png"]
    assert "a.bmp_x2.png" in after
    Path("more").mkdir()
    save_noise(Path("more/b.png"), 9)
    assert upscale("more", "-o", "out/", "--skip-existing")[1] == ["ok"]
    assert contents(folder / "out")["b_x2.png"] == before["b_x2.png"]
    assert (folder / "out/b.png_x2.png").exists()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_around_the_renaming_loses_nothing(
    folder: Path, upscale: Run, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """As if killed: the entry is there, its result is not yet; or neither is there."""
    upscale("album")
    expected = contents(folder / "album_x2")

    class Killed(BaseException):
        pass

    append = Manifest.append

    def killed(self: Manifest, entry: Entry) -> None:
        if moment == "after":
            append(self, entry)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "append", killed)
        with pytest.raises(Killed):
            upscale("album", "--skip-existing", "--denoise", "0.5")
    assert contents(folder / "album_x2")["a_x2.png"] == expected["a_x2.png"]
    assert upscale("album", "--skip-existing")[1] == ["skipped", "skipped"]
    assert upscale("album", "--skip-existing", "--denoise", "0.5")[1] == ["ok", "ok"]


def test_an_input_that_changes_meanwhile_gives_no_result(
    folder: Path, upscale: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def change(descriptor: int) -> None:
        save_noise(folder / "album/a.png", 11)
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", change)
        status, records, said = upscale("album", "--no-provenance")
    assert (status, records) == (1, ["failed", "ok"])
    assert "a.png has changed while it was read" in said
    assert not (folder / "album_x2/a_x2.png").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"rubbish\n", "is damaged"),
        (b'{"version": 2, "name": "a_x2.png"}\n', "a newer dmsr wrote it"),
    ],
)
def test_a_manifest_that_cannot_be_read(
    folder: Path, upscale: Run, content: bytes, words: str
) -> None:
    upscale("album", "--no-provenance")
    path = folder / "album_x2" / MANIFEST_NAME
    good = path.read_bytes()
    path.write_bytes(good * (b"version" in content) + content)
    save_noise(folder / "album/c.png", 5)
    before = contents(folder / "album_x2")
    status, records, said = upscale("album", "--skip-existing", "--no-provenance")
    assert (status, records) == (1, ["failed", "failed", "ok"])
    assert said.count("dmsr: warning: ") == 1
    assert words in said
    after = contents(folder / "album_x2")
    assert after.pop("c_x2.png")
    assert after == before


@needs_posix
def test_a_manifest_that_is_no_file(folder: Path, upscale: Run) -> None:
    (folder / "elsewhere").write_bytes(b"precious")
    (folder / "album_x2").mkdir()
    for make in (Path.mkdir, os.mkfifo, lambda path: path.symlink_to(folder / "elsewhere")):
        path = folder / "album_x2" / MANIFEST_NAME
        make(path)
        status, records, said = upscale("album", "--overwrite")
        assert (status, records) == (0, ["ok", "ok"])
        assert said.count("dmsr: warning: ") == 1
        path.rmdir() if path.is_dir() else path.unlink()
    assert (folder / "elsewhere").read_bytes() == b"precious"


def test_a_manifest_that_cannot_be_written(
    folder: Path, upscale: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(handle: int, line: bytes) -> int:
        return write(handle, line[:20])

    with monkeypatch.context() as patch:
        patch.setattr(manifest_module.os, "write", full)
        status, records, said = upscale("album")
    assert (status, records) == (0, ["ok", "ok"])
    assert said.count("dmsr: warning: ") == 1
    assert "the disk is full" in said
    # The line that was cut short spoils none after it.
    assert upscale("album", "--overwrite")[1] == ["ok", "ok"]
    assert upscale("album", "--skip-existing", "--denoise", "0.5")[1] == ["ok", "ok"]


def test_torn_and_odd_lines_are_passed_over(tmp_path: Path) -> None:
    troubles: list[str] = []
    path = tmp_path / MANIFEST_NAME
    good = ENTRY.line()
    odd = [b"[" * 10_000, b"3", b"", b"{}", b'{"name": 3}', b"\xff\0", good[:40]]
    odd.append(json.dumps({**json.loads(good), "size": "10"}).encode())
    path.write_bytes(b"\n".join([good, *odd]) + b"\n" + good[:-20])
    manifest = Manifest(tmp_path, troubles.append)
    assert list(manifest.entries("a_x2.png")) == [ENTRY]
    newer = dataclasses.replace(ENTRY, sha256="ef" * 32)
    manifest.append(newer)
    assert list(manifest.entries("a_x2.png")) == [newer, ENTRY]
    assert list(Manifest(tmp_path, troubles.append).entries("a_x2.png")) == [newer, ENTRY]
    assert troubles == []


def test_two_runs_add_to_one_manifest(tmp_path: Path) -> None:
    one, other = (Manifest(tmp_path, pytest.fail) for _ in range(2))
    for number in range(3):
        one.append(dataclasses.replace(ENTRY, size=number))
        other.append(dataclasses.replace(ENTRY, size=10 + number))
    sizes = [12, 2, 11, 1, 10, 0]
    for manifest in (one, other):
        assert [entry.size for entry in manifest.entries("a_x2.png")] == sizes
    (tmp_path / "other").write_bytes(ENTRY.line() + b"\n")
    (tmp_path / "other").replace(tmp_path / MANIFEST_NAME)
    assert list(one.entries("a_x2.png")) == [ENTRY]
    (tmp_path / MANIFEST_NAME).unlink()
    assert list(one.entries("a_x2.png")) == []


def test_an_entry_holds_any_name() -> None:
    name = os.fsdecode(b"two\nlines \xff \xe2\x98\x82.png")
    entry = dataclasses.replace(ENTRY, name=name, source=name)
    assert b"\n" not in entry.line()
    assert parse_entry(entry.line()) == entry


def test_a_huge_manifest_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    troubles: list[str] = []
    (tmp_path / MANIFEST_NAME).write_bytes(ENTRY.line() + b"\n")
    monkeypatch.setattr(manifest_module, "MAX_MANIFEST_BYTES", 10)
    manifest = Manifest(tmp_path, troubles.append)
    assert list(manifest.entries("a_x2.png")) == list(manifest.entries("b")) == []
    assert len(troubles) == 1


def test_nothing_to_do_needs_no_torch(folder: Path, upscale: Run) -> None:
    upscale("album", "--compare")
    code = (
        "import sys; from dmsr_cli.cli.main import main; "
        "status = main(sys.argv[1:]); assert 'torch' not in sys.modules; sys.exit(status)"
    )
    arguments = ["upscale", "album", "--compare", "--skip-existing", "--model", "tiny.safetensors"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "0 done, 2 skipped, 0 failed" in done.stderr


def test_a_list_from_standard_input(
    folder: Path, upscale: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(b"album/b.png\nalbum/a.png\nmissing.png\n"))
    monkeypatch.setattr(sys, "stdin", stream)
    status, records, _ = upscale("--files-from", "-", "--suffix", "-big")
    assert (status, records) == (1, ["ok", "ok", "failed"])
    assert {entry["name"] for entry in lines(folder / "album")} == {"a-big.png", "b-big.png"}
