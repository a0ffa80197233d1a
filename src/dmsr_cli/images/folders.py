"""The pictures of a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dmsr_cli.errors import ImageError
from dmsr_cli.files import display_name, reason_of
from dmsr_cli.images.formats import READABLE_SUFFIXES


@dataclass
class Search:
    """What a folder holds. Hidden files and folders are left out, and no link to a folder followed.

    A link may lead to a folder above it, and so on without an end.
    """

    pictures: list[Path] = field(default_factory=list)
    """By suffix, sorted."""
    others: int = 0
    """How many files are no pictures."""
    errors: list[ImageError] = field(default_factory=list)
    """One for each folder that cannot be listed."""


def search_folder(
    folder: str | Path,
    recursive: bool = False,
    may_enter: Callable[[Path], bool] = lambda folder: True,
) -> Search:
    """Look for the pictures of a folder; with `recursive`, in the folders inside it, too.

    Args:
        folder: where to look.
        recursive: look into the folders inside it.
        may_enter: asked for each of those.
    """
    found = Search()
    waiting = [Path(folder)]
    while waiting:
        parent = waiting.pop()
        try:
            with os.scandir(parent) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            name = display_name(parent)
            found.errors.append(ImageError(f"cannot list the folder {name}: {reason_of(error)}"))
            continue
        for entry in visible:
            path = Path(entry.path)
            if _is_folder(entry):
                if recursive and not entry.is_symlink() and may_enter(path):
                    waiting.append(path)
            elif path.suffix.lower() in READABLE_SUFFIXES:
                found.pictures.append(path)
            else:
                found.others += 1
    found.pictures.sort()
    return found


def find_images(folder: str | Path, recursive: bool = False) -> list[Path]:
    """The pictures of a folder, by suffix, sorted; hidden files and folders are left out.

    Raises:
        ImageError: the folder, or one inside it, cannot be listed.
    """
    found = search_folder(folder, recursive)
    if found.errors:
        raise found.errors[0]
    return found.pictures


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Also a link to one; a link that leads nowhere, or to itself, counts as a file."""
    try:
        return entry.is_dir()
    except OSError:
        return False
