"""The pictures of a folder."""

from __future__ import annotations

import os
from pathlib import Path

from dmsr_cli.errors import ImageError
from dmsr_cli.files import display_name, reason_of
from dmsr_cli.images.formats import READABLE_SUFFIXES


def find_images(folder: str | Path, recursive: bool = False) -> list[Path]:
    """The pictures of a folder, by suffix, sorted; hidden files and folders are left out.

    Raises:
        ImageError: the folder, or one inside it, cannot be listed.
    """
    found: list[Path] = []
    try:
        for parent, folders, files in os.walk(folder, onerror=_raise):
            found += [
                Path(parent, name)
                for name in files
                if not name.startswith(".") and Path(name).suffix.lower() in READABLE_SUFFIXES
            ]
            folders[:] = [name for name in folders if recursive and not name.startswith(".")]
    except OSError as error:
        name = display_name(error.filename or folder)
        raise ImageError(f"cannot list the folder {name}: {reason_of(error)}") from error
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error
