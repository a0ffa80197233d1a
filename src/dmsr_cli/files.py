"""Files that appear whole or not at all, and file names that are safe to print on one line."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from dmsr_cli.errors import DmsrError, ImageError


@contextlib.contextmanager
def atomic_write(
    path: str | Path, *, before_rename: Callable[[Path], None] | None = None
) -> Iterator[Path]:
    """Give a temporary path to write to; it takes the place of `path` when the block ends well.

    The temporary file exists, empty, when the block starts. It lies in the folder of `path`, is
    hidden, and has the suffix of `path`, because `numpy.save` adds one to a name without it. On
    any exception, KeyboardInterrupt included, it is removed and `path` stays as it was.

    Args:
        path: the file to write.
        before_rename: called with the temporary path when all is in it.

    Raises:
        DmsrError: the folder is missing or read-only, the disk is full, `path` is there and is
            not a regular file, or the block raised an OSError.
    """
    path = Path(path)
    temporary = path.parent / f".dmsr-{secrets.token_hex(8)}.tmp{path.suffix}"
    try:
        _check_target(path)
        # Not tempfile.mkstemp: that makes 0600 files, these get the mode that umask gives.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        if before_rename is not None:
            before_rename(temporary)
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise DmsrError(f"cannot write {display_name(path)}: {reason_of(error)}") from error
        raise


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


def _check_target(path: Path) -> None:
    if not path.parent.is_dir():
        raise OSError(f"there is no folder {display_name(path.parent)}; create it first")
    # Renaming over /dev/null or a pipe would replace the device itself.
    if path.exists() and not path.is_file():
        raise OSError("it exists and is not a regular file; choose another name")
