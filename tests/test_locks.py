"""Files that are held by a living process, and those that a dead one has left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dmsr_cli import locks
from dmsr_cli.files import atomic_write, remove_stray_temporaries

HOLDS_A_TEMPORARY = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from dmsr_cli.files import atomic_write\n"
    "with atomic_write(Path(sys.argv[1]) / 'result.png') as temporary:\n"
    "    temporary.write_bytes(b'half of it')\n"
    "    print('writing', flush=True)\n"
    "    time.sleep(60)\n"
)


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def start_writing(folder: Path) -> subprocess.Popen[str]:
    """A process that is in the middle of a write."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS_A_TEMPORARY, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_a_lock_is_had_once_and_ends_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    first = locks.hold(path, is_new=True)
    assert first is not None
    assert first.is_locked
    assert locks.hold(path, is_new=False) is None
    first.unlock()
    second = locks.hold(path, is_new=False)
    assert second is not None
    second.release()
    assert names_in(tmp_path) == []


def test_a_new_file_takes_none_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        locks.hold(tmp_path / "file", is_new=True)


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "link").symlink_to("precious")
    with pytest.raises(OSError, match="symbolic links"):
        locks.hold(tmp_path / "link", is_new=False)
    assert not locks.remove_if_left_behind(tmp_path / "link")
    assert names_in(tmp_path) == ["link", "precious"]


def test_what_is_taken_away_between_making_and_locking_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, path = locks.try_lock, tmp_path / "file"
    removed = []

    def lock_too_late(descriptor: int) -> bool | None:
        if not removed:
            removed.append(locks.os.unlink(path))
        return lock(descriptor)

    monkeypatch.setattr(locks, "try_lock", lock_too_late)
    held = locks.hold(path, is_new=False)
    assert held is not None
    assert path.exists()
    removed.clear()
    assert locks.hold(tmp_path / "file", is_new=False) is None  # of which one more is not made
    held.release()
    removed.clear()
    assert locks.hold(path, is_new=True) is None


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_only_what_the_dead_have_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".dmsr-notes.tmp.txt").touch()  # not a name of ours
    dead, living = start_writing(tmp_path), start_writing(tmp_path)
    try:
        dead.kill()
        dead.communicate()
        assert len(names_in(tmp_path)) == 3
        with atomic_write(tmp_path / "mine.png") as temporary:
            assert remove_stray_temporaries(tmp_path) == 1
            assert temporary.exists()
            assert len(names_in(tmp_path)) == 3
        assert remove_stray_temporaries(tmp_path) == 0
    finally:
        living.kill()
        living.communicate()
    assert remove_stray_temporaries(tmp_path) == 1
    assert names_in(tmp_path) == [".dmsr-notes.tmp.txt", "mine.png"]
    assert remove_stray_temporaries(tmp_path / "missing") == 0


def test_without_locks_age_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int) -> None:
        return None

    monkeypatch.setattr(locks, "try_lock", no_locks)
    young, old = (tmp_path / f".dmsr-{digit * 16}.tmp.png" for digit in "01")
    for path in (young, old):
        path.touch()
    a_day_ago = old.stat().st_mtime - locks.ABANDONED_AFTER - 1
    os.utime(old, (a_day_ago, a_day_ago))
    with atomic_write(tmp_path / "result.png") as temporary:
        os.utime(temporary, (a_day_ago, a_day_ago))  # but this process knows that it is its own
        assert remove_stray_temporaries(tmp_path) == 1
        assert temporary.exists()
    assert names_in(tmp_path) == [young.name, "result.png"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_holds_nothing(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "result.png") as temporary:
        child = os.fork()
        if child == 0:
            assert not locks._held
            locks.remove_all_for_the_end()
            os.kill(os.getpid(), signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert temporary.exists()


def test_what_was_interrupted_is_released(tmp_path: Path) -> None:
    before = locks.hold(tmp_path / "before", is_new=True)
    assert before is not None

    def be_interrupted() -> None:
        locks.hold(tmp_path / "within", is_new=True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), locks.released_at_the_end():
        be_interrupted()
    assert names_in(tmp_path) == ["before"]
    before.release()
