"""Several runs at once into one folder: a result that is being made is nobody else's to make."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from dmsr_cli.cli.batch.outputs import make_folder
from dmsr_cli.errors import ImageError
from dmsr_cli.files import CLAIM_SUFFIX, display_name, reason_of, remove_stray_temporaries
from dmsr_cli.locks import HeldFile, hold

_ATTEMPTS = 5
"""At making a file in a folder that another run, which failed, takes away again."""


class Claim:
    """The right to make a result: until it is released, other runs leave the result alone.

    It ends with the process, too, however that ends. On a disk without locks it is nothing.
    """

    def __init__(self, file: HeldFile | None, folders: list[Path]) -> None:
        self._file = file
        self._folders = folders

    def release(self) -> None:
        """The result is there, or will not be; folders that were made for it and are empty go."""
        if self._file is not None:
            self._file.release()
            self._file = None
        for folder in reversed(self._folders):
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
        self._folders = []


def claim(target: Path, swept: set[Path]) -> Claim | None:
    """Claim a result, before any work is done for it; None if another run is making it.

    Makes the folder, and shows whether it can be written to. The first time in a folder, it removes
    what runs that were killed have left there.

    Args:
        target: the result.
        swept: folders in which that is done; this one is added.

    Raises:
        ImageError: the folder cannot be made or written to, or the disk is full.
    """
    folder = target.parent
    made = _missing(folder)
    file = _hold(folder / _name_of(target), folder)
    if file is None:
        return None
    if folder not in swept:
        swept.add(folder)
        remove_stray_temporaries(folder)
    try:
        file.write(b"%d\n" % os.getpid())  # a full disk takes an empty file
    except OSError as error:
        file.release()
        raise _failure(target, error) from error
    if not file.is_locked:  # nobody could tell that it is held
        file.release()
        file = None
    return Claim(file, made)


def _hold(path: Path, folder: Path) -> HeldFile | None:
    for left in reversed(range(_ATTEMPTS)):
        make_folder(folder)
        try:
            return hold(path, is_new=False)
        except OSError as error:
            if not (left and isinstance(error, FileNotFoundError)):
                raise _failure(path, error) from error
    raise AssertionError("the last attempt returns or raises")


def _failure(path: Path, error: OSError) -> ImageError:
    folder = display_name(path.parent)
    return ImageError(f"cannot write into {folder}: {reason_of(error)}; use another -o")


def _name_of(target: Path) -> str:
    """Hidden, and of a length that every disk has."""
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()
    return f".dmsr-{digest[:16]}{CLAIM_SUFFIX}"


def _missing(folder: Path) -> list[Path]:
    """The folder and those above it that are not there, from the top."""
    missing: list[Path] = []
    while not os.path.lexists(folder) and folder != folder.parent:
        missing.insert(0, folder)
        folder = folder.parent
    return missing
