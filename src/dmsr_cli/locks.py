"""Files that belong to a living process, and are known as left behind once it is dead."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ABANDONED_AFTER = 24 * 3600.0
"""Seconds without a change after which a file is nobody's, on a disk that has no locks."""
SETTLED_AFTER = 5.0 if os.name == "nt" else 0.0
"""Seconds for which a file without a lock is left alone: Windows renames none that is open."""
_ROUNDS = 3
"""Of removing: a thread may be about to open its file, which makes it anew, or to hold another."""
_NOT_THROUGH_LINKS = getattr(os, "O_NOFOLLOW", 0)
_BYTE_FOR_BYTE = getattr(os, "O_BINARY", 0)  # without it, Windows writes two bytes for a line end

if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes import wintypes

    _UPPER_HALF = 2**8
    """Of the 64 bits of the place that is locked, a tebibyte behind the beginning of the file: what
    is locked can be neither read nor written, so no result may reach it."""
    _HELD_BY_ANOTHER = (5, 32, 33)
    """ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION."""
    _lock_file = ctypes.WinDLL("kernel32", use_last_error=True).LockFile
    _lock_file.argtypes = (wintypes.HANDLE, *[wintypes.DWORD] * 4)

    def try_lock(descriptor: int) -> bool | None:
        """Lock an open file until it is closed; False: another holds it, None: no locks here."""
        # Not msvcrt.locking: it locks at the position where the file is written next, so that this
        # has to be moved there and back, and reaches no farther than 2 GiB.
        if _lock_file(msvcrt.get_osfhandle(descriptor), 0, _UPPER_HALF, 1, 0):
            return True
        return False if ctypes.get_last_error() in _HELD_BY_ANOTHER else None

else:
    import fcntl

    def try_lock(descriptor: int) -> bool | None:
        """Lock an open file until it is closed; False: another holds it, None: no locks here."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            return None
        return True


class HeldFile:
    """A file that this process has locked: nobody takes it for left behind."""

    def __init__(self, path: Path, descriptor: int, is_locked: bool) -> None:
        self.path = path
        self.is_locked = is_locked
        """False where the disk has no locks."""
        status = os.fstat(descriptor)
        self.place = status.st_dev, status.st_ino
        self._descriptor: int | None = descriptor
        _held.add(self)

    def write(self, text: bytes) -> None:
        """Put something into it."""
        assert self._descriptor is not None, "it is held"
        os.write(self._descriptor, text)

    def unlock(self) -> None:
        """Give up the lock; the file stays."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def release(self) -> None:
        """Remove the file, if it is still there under its name, and give up the lock."""
        _stop_at_the_end()
        _held.discard(self)
        if os.name == "nt":  # where nothing that is open can be removed
            self.unlock()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.unlock()


_held: set[HeldFile] = set()
_is_over = threading.Event()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.clear)  # they are the parent's


def hold(path: Path, is_new: bool) -> HeldFile | None:
    """Make a file, or take one that was left behind, and lock it; None if another has it.

    Args:
        path: its place.
        is_new: take none that is there.

    Raises:
        OSError: the file cannot be made; FileExistsError: it is there and should not be.
    """
    flags = os.O_CREAT | os.O_RDWR | _NOT_THROUGH_LINKS | _BYTE_FOR_BYTE
    if is_new:
        flags |= os.O_EXCL
    while True:
        _stop_at_the_end()
        # Not tempfile.mkstemp: that makes 0600 files, these get the mode that umask gives.
        descriptor = os.open(path, flags, 0o666)
        is_locked = try_lock(descriptor)
        # Between opening and locking, another may have taken it for left behind.
        if is_locked is not False and _is_at(path, descriptor):
            return HeldFile(path, descriptor, bool(is_locked))
        os.close(descriptor)
        if is_locked is False or is_new:
            return None


def remove_if_left_behind(path: Path) -> bool:
    """Remove a file that no living process holds; whether it was removed."""
    try:
        status = path.lstat()
        # Before it is opened: NFS gives a process its own lock twice, and takes it back on closing.
        if not stat.S_ISREG(status.st_mode) or _is_held_here(status):
            return False
        descriptor = os.open(path, os.O_RDWR | _NOT_THROUGH_LINKS)
    except OSError:
        return False
    try:
        is_locked = try_lock(descriptor)
        age = time.time() - os.fstat(descriptor).st_mtime
        least = ABANDONED_AFTER if is_locked is None else SETTLED_AFTER
        if is_locked is False or age < least or not _is_at(path, descriptor):
            return False
        if os.name != "nt":
            path.unlink()  # while it is locked: nobody can have taken it meanwhile
    except OSError:
        return False
    finally:
        os.close(descriptor)
    if os.name == "nt":
        with contextlib.suppress(OSError):
            path.unlink()
    return not path.exists()


@contextlib.contextmanager
def released_at_the_end() -> Iterator[None]:
    """Release what the block has begun to hold, and not released, as it was interrupted."""
    before = set(_held)
    try:
        yield
    finally:
        for held in set(_held) - before:
            held.release()


def remove_all_for_the_end() -> None:
    """Remove all files that this process holds, though its threads still run.

    None of them makes another one, or gets to tell of an error. What comes afterwards can only be
    `os._exit`.
    """
    _is_over.set()
    for _ in range(_ROUNDS):
        for held in list(_held):
            with contextlib.suppress(OSError):
                held.path.unlink()
        time.sleep(0.01)


def _stop_at_the_end() -> None:
    """Do not come back from here when the process is being ended, not even with an error."""
    if _is_over.is_set():
        threading.Event().wait()


def _is_held_here(status: os.stat_result) -> bool:
    return (status.st_dev, status.st_ino) in {held.place for held in list(_held)}


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False
