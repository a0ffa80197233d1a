"""Files that appear whole or not at all, and file names that are safe to print on one line."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from dmsr_cli.errors import DmsrError, ExistsError, ImageError
from dmsr_cli.locks import HeldFile, hold, remove_if_left_behind

CLAIM_SUFFIX = ".claim"
"""Of the hidden file that says that a result is being made."""
Look = tuple[int, int]
"""Size and time of the last change, in nanoseconds."""
_OURS = re.compile(rf"\.dmsr-[0-9a-f]{{16}}(\.tmp.*|{re.escape(CLAIM_SUFFIX)})", re.DOTALL)


@contextlib.contextmanager
def atomic_write(
    path: str | Path,
    *,
    replace: bool = True,
    before_rename: Callable[[Path], None] | None = None,
) -> Iterator[Path]:
    """Give a temporary path to write to; it takes the place of `path` when the block ends well.

    The temporary file exists, empty, when the block starts. It lies in the folder of `path`, is
    hidden, and has the suffix of `path`, because `numpy.save` adds one to a name without it. It is
    on the disk, not in its cache, before it gets its name. On any exception, KeyboardInterrupt
    included, it is removed and `path` stays as it was. Where `path` is a link, the file takes the
    place of the link; what that led to stays.

    Args:
        path: the file to write.
        replace: a file that is there may be replaced; if not, it is kept, even if it appears in
            the moment of the renaming.
        before_rename: called with the temporary path when all is in it.

    Raises:
        ExistsError: `path` is there, and must not be replaced.
        DmsrError: the folder is missing or read-only, the disk is full, `path` is there and is
            not a regular file, or the block raised an OSError.
    """
    path = Path(path)
    temporary: HeldFile | None = None
    try:
        _check_target(path, replace)
        temporary = _new_temporary(path)
        yield temporary.path
        _sync(temporary.path, os.O_RDWR)
        if before_rename is not None:
            before_rename(temporary.path)
        if os.name == "nt":  # where nothing that is open can be renamed
            temporary.unlock()
        _rename(temporary.path, path, replace)
        with contextlib.suppress(OSError):  # not every system can do that with a folder
            _sync(path.parent, os.O_RDONLY)
    except OSError as error:
        raise DmsrError(f"cannot write {display_name(path)}: {reason_of(error)}") from error
    finally:
        if temporary is not None:
            temporary.release()


def remove_stray_temporaries(folder: str | Path) -> int:
    """Remove what processes that were killed have left in a folder; returns how many files.

    What a living process works with, this one or another, stays.
    """
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry in entries if _OURS.fullmatch(entry.name)]
    except OSError:
        return 0
    return sum(map(remove_if_left_behind, found))


def is_there(path: Path) -> bool:
    """Whether something has this name: a link that leads nowhere, too.

    Raises:
        DmsrError: nothing can have it: it is too long, or leads in a circle.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # ValueError: a name with a zero in it
        raise DmsrError(f"cannot write {display_name(path)}: {reason_of(error)}") from error
    return True


def look_of(path: Path) -> Look | None:
    """What tells whether a file has changed; None if it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def refuse_changed(path: Path, before: Look | None, cause: Exception | None = None) -> None:
    """Raise ImageError if a file does not look as before; one that is gone has been read."""
    now = look_of(path)
    if now is not None and before is not None and now != before:
        name = display_name(path)
        raise ImageError(f"{name} has changed while it was read; try again") from cause


@contextlib.contextmanager
def unchanged(path: Path, before: Look | None) -> Iterator[None]:
    """Raise ImageError if a file has changed by the end of the block, in which it is read.

    Args:
        path: the file.
        before: its `look_of` when it was looked at first.
    """
    try:
        yield
    except Exception as error:
        refuse_changed(path, before, error)
        raise
    refuse_changed(path, before)


def sha256_of(file: BinaryIO) -> str:
    """The SHA-256 of what is left to read in an open file, 64 lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def check_is_file(path: Path, kind: str) -> None:
    """Refuse what can only end badly: folders, pipes and devices, empty files.

    Args:
        path: what is about to be read.
        kind: what it should be, for the message: "picture".

    Raises:
        ImageError: that is so; the caller puts the name before it.
        OSError: there is no such file, or the system forbids to look.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"it is a folder, not a {kind}")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("it is not a regular file")
    if status.st_size == 0:
        raise ImageError("the file is empty")


def display_name(path: str | Path) -> str:
    """The path as messages show it: one printable line, whatever characters it has."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def reason_of(error: BaseException) -> str:
    """What went wrong, on one line: the system's words for an OSError, else the message."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def _check_target(path: Path, replace: bool) -> None:
    if not path.parent.is_dir():
        raise OSError(f"there is no folder {display_name(path.parent)}; create it first")
    # Renaming over /dev/null or a pipe would replace the device itself.
    if path.exists() and not path.is_file():
        raise OSError("it exists and is not a regular file; choose another name")
    if not replace and is_there(path):
        raise ExistsError(f"{display_name(path)} exists already")


def _new_temporary(path: Path) -> HeldFile:
    while True:
        name = f".dmsr-{secrets.token_hex(8)}.tmp{path.suffix}"
        temporary = hold(path.parent / name, is_new=True)
        if temporary is not None:
            return temporary


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(temporary: Path, path: Path, replace: bool) -> None:
    if replace:
        temporary.replace(path)
        return
    try:
        if os.name == "nt":
            temporary.rename(path)  # refuses what is there
        else:
            _link(temporary, path)
    except FileExistsError:
        raise ExistsError(
            f"{display_name(path)} exists already: it appeared while this one was made, and was "
            "kept"
        ) from None


def _link(temporary: Path, path: Path) -> None:
    """Give the file its name, unless that is taken; its temporary name goes afterwards."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # sticks and some network disks have no links: there this must do
        if is_there(path):
            raise FileExistsError from None
        temporary.rename(path)
