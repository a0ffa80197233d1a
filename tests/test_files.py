"""Atomic writing and printable names."""

import os
import re
import sys
from pathlib import Path

import pytest

from dmsr_cli.errors import DmsrError, ExistsError, ImageError
from dmsr_cli.files import atomic_write, display_name, is_there, look_of, reason_of, unchanged


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def write(path: Path, content: bytes = b"new", failure: BaseException | None = None) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
        if failure is not None:
            raise failure


def failure_of(path: Path, **arguments) -> str:
    """The message that `write` fails with, without the part that is the same in all."""
    with pytest.raises(DmsrError) as caught:
        write(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"cannot write {path}: ")
    return message.removeprefix(f"cannot write {path}: ")


def test_content_appears_only_at_the_end(tmp_path):
    path = tmp_path / "result.npy"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
        assert re.fullmatch(r"\.dmsr-[0-9a-f]{16}\.tmp\.npy", temporary.name)
    assert path.read_text() == "new"
    assert names_in(tmp_path) == ["result.npy"]


def test_two_writers_of_one_file_have_two_temporaries(tmp_path):
    path = tmp_path / "result"
    with atomic_write(path) as first, atomic_write(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert names_in(tmp_path) == ["result"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError, DmsrError, SystemExit])
def test_any_exception_removes_the_temporary_and_keeps_the_old_file(tmp_path, kind):
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(kind, match="stop"):
        write(path, failure=kind("stop"))
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["result.json"]


def test_an_os_error_in_the_block_becomes_one_line(tmp_path):
    full = OSError(28, "No space left on device")
    assert failure_of(tmp_path / "result.json", failure=full) == "No space left on device"
    assert names_in(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX resource limits")
def test_a_write_that_hits_a_real_limit_leaves_nothing(tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        message = failure_of(tmp_path / "result.bin", content=bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert message == "File too large"
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("step", ["os.open", "os.fsync", "pathlib.Path.replace"])
def test_a_refusal_at_any_step_leaves_nothing(tmp_path, monkeypatch, step):
    # os.open stands for a read-only folder: root, whom no mode stops, may run the tests.
    def refuse(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(step, refuse)
    assert failure_of(tmp_path / "result.json") == "Permission denied"
    assert names_in(tmp_path) == []


def test_a_removed_temporary_is_an_error(tmp_path):
    with (
        pytest.raises(DmsrError, match=r"result\.json: "),
        atomic_write(tmp_path / "result.json") as temporary,
    ):
        temporary.unlink()


def test_missing_folder(tmp_path):
    message = failure_of(tmp_path / "missing" / "result.json")
    assert message == f"there is no folder {tmp_path / 'missing'}; create it first"
    assert names_in(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
@pytest.mark.parametrize("make", [os.mkdir, getattr(os, "mkfifo", os.mkdir)])
def test_a_folder_or_pipe_is_not_replaced(tmp_path, make):
    path = tmp_path / "result"
    make(path)
    assert failure_of(path) == "it exists and is not a regular file; choose another name"
    assert names_in(tmp_path) == ["result"]
    assert not path.is_file()


def test_a_name_without_a_file_part(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "not a regular file" in failure_of(Path())


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX modes")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_mode_follows_umask(tmp_path, mask):
    previous = os.umask(mask)
    try:
        write(tmp_path / "result")
    finally:
        os.umask(previous)
    assert (tmp_path / "result").stat().st_mode & 0o777 == 0o666 & ~mask


def test_names_and_reasons_are_one_printable_line():
    assert display_name(Path("photo ö.png")) == "photo ö.png"
    assert display_name("two\nlines.png") == r"'two\nlines.png'"
    assert display_name("bad\udcff.png").isascii()
    assert reason_of(ValueError("one\n  two")) == "one two"
    assert reason_of(OSError(2, "No such file or directory")) == "No such file or directory"
    assert reason_of(EOFError()) == "EOFError"


def test_what_is_there_is_kept(tmp_path):
    path = tmp_path / "result"
    path.write_text("precious")
    with (
        pytest.raises(ExistsError, match=r"result exists already$"),
        atomic_write(path, replace=False),
    ):
        raise AssertionError("the block is not run")
    assert path.read_text() == "precious"
    assert names_in(tmp_path) == ["result"]


@pytest.mark.parametrize("has_links", [True, False])
def test_what_appears_meanwhile_is_kept(tmp_path, monkeypatch, has_links):
    def refuse(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "result"
    with atomic_write(path, replace=False) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    path.unlink()

    def appear(temporary: Path) -> None:
        path.write_text("precious")

    writing = atomic_write(path, replace=False, before_rename=appear)
    with (
        pytest.raises(ExistsError, match="appeared while this one was made, and was kept"),
        writing,
    ):
        pass
    assert path.read_text() == "precious"
    assert names_in(tmp_path) == ["result"]


def test_the_call_before_the_rename_sees_all_and_may_refuse(tmp_path):
    path = tmp_path / "result"
    seen = []

    def look(temporary: Path) -> None:
        seen.append((temporary.read_text(), path.exists()))

    with atomic_write(path, before_rename=look) as temporary:
        temporary.write_text("new")
    assert seen == [("new", False)]

    def refuse(temporary: Path) -> None:
        raise ImageError("no")

    with pytest.raises(ImageError, match="no"), atomic_write(path, before_rename=refuse):
        pass
    assert path.read_text() == "new"
    assert names_in(tmp_path) == ["result"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
@pytest.mark.parametrize("leads_to", ["precious", "nowhere"])
def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path, leads_to):
    (tmp_path / "precious").write_text("precious")
    path = tmp_path / "result"
    path.symlink_to(leads_to)
    with pytest.raises(ExistsError), atomic_write(path, replace=False):
        pass
    write(path)
    assert not path.is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"
    assert names_in(tmp_path) == ["precious", "result"]


def test_names_that_nothing_can_have(tmp_path):
    assert failure_of(tmp_path / ("x" * 300)) == "File name too long"
    with pytest.raises(DmsrError, match="File name too long"):
        is_there(tmp_path / ("x" * 300))
    with pytest.raises(DmsrError, match="embedded null byte"):
        is_there(tmp_path / "x\0")
    assert not is_there(tmp_path / "missing")
    assert names_in(tmp_path) == []


def test_a_file_that_changes_while_it_is_read(tmp_path):
    path = tmp_path / "photo"
    path.write_text("old")
    with unchanged(path, look_of(path)):
        path.read_text()

    def change(error: Exception | None) -> None:
        path.write_text(path.read_text() + "more")
        if error is not None:
            raise error

    for error in (None, ValueError("cut short")):
        before = look_of(path)
        with pytest.raises(ImageError, match="changed while it was"), unchanged(path, before):
            change(error)
    with pytest.raises(ValueError, match="bad"), unchanged(path, look_of(path)):
        raise ValueError("bad")
    with unchanged(path, look_of(path)):
        path.unlink()  # whoever has it open reads all of it
