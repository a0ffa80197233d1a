"""From arguments, patterns and lists of names to the files that are to be restored."""

from __future__ import annotations

import codecs
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from dmsr_cli.errors import DmsrError, ImageError
from dmsr_cli.files import display_name, reason_of
from dmsr_cli.images import READABLE_SUFFIXES, search_folder
from dmsr_cli.video import is_video

PIPE = "-"
"""What stands for standard input or output; a file of this name is given as ./-"""
MAX_LIST_BYTES = 2**26
"""Largest list of names: a million of 64 bytes each."""
_MAX_NAME_BYTES = 4096
"""Longest path that systems take."""
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Input:
    """A file to restore; `error` says at once why there is nothing to do for it."""

    path: Path
    folder: Path | None = None
    """The folder that it was found in, whose tree its result mirrors; None if it was named."""
    error: DmsrError | None = None


@dataclass
class Inputs:
    """All files to restore, each once, in the order of their naming."""

    files: list[Input] = field(default_factory=list)
    named: int = 0
    """How many files were named, or matched a pattern, those named twice included."""
    is_batch: bool = False
    """Not just one name of one file."""
    left_alone: int = 0
    """Files of folders, and matches of patterns, that are no pictures."""
    own_results: int = 0
    """Files of folders that are results of earlier runs, and named ones of inputs named, too."""
    named_twice: int = 0
    """Files that came again, also under another spelling or through a link."""


def find_inputs(
    arguments: Sequence[str],
    listed: Sequence[str] | None = None,
    recursive: bool = False,
    output: Path | None = None,
    is_own_result: Callable[[Path], bool] = lambda path: False,
    owner_of: Callable[[Path], Path | None] = lambda path: None,
) -> Inputs:
    """Find the files that arguments and lists mean.

    Args:
        arguments: files, folders, and patterns (* ? [ab] **), where no file has just that name.
        listed: files and folders of a list, to the letter; None if there is no list.
        recursive: look into the folders inside folders, too.
        output: the folder of the results, which is not searched if it lies inside another.
        is_own_result: asked for each picture that is found in a folder; a result is no input.
        owner_of: asked for each file that is named, or matches: if it is the result of another
            input, which is there, too, it is no input. A shell makes such names of *.png.
    """
    search = _Search(recursive, output, is_own_result)
    search.found.is_batch = len(arguments) != 1 or listed is not None
    for text in arguments:
        if _is_pattern(text):
            search.take_matches(text)
        else:
            search.take(Path(text))
    for text in listed or ():
        search.take(Path(text))
    search.leave_out_results(owner_of)
    return search.found


def read_list(name: str) -> list[str]:
    """The names in a file, or on standard input ("-").

    One on each line, or, if there is a NUL in it, separated by NULs. Empty ones are left out; a
    byte order mark and line ends of Windows are no part of a name. It is in UTF-8, in UTF-16 with a
    mark, or, as systems but Windows allow any bytes in a name, to the byte as the files are called.

    Raises:
        DmsrError: it cannot be read, is too long, is no list of names, or in another encoding.
    """
    try:
        if name == PIPE:
            content = _all_of(sys.stdin.buffer) if sys.stdin is not None else b""
        else:
            with Path(name).open("rb") as file:
                content = _all_of(file)
        return _decoded(_names_in(content))
    except (OSError, ValueError) as error:
        raise DmsrError(
            f"cannot read the list of files {shown_list(name)}: {reason_of(error)}"
        ) from None


def shown_list(name: str) -> str:
    """A list of names as messages show it."""
    return "on standard input" if name == PIPE else display_name(name)


def _all_of(file: BinaryIO) -> bytes:
    content = file.read(MAX_LIST_BYTES + 1)
    if len(content) > MAX_LIST_BYTES:
        raise ValueError(f"it has more than {MAX_LIST_BYTES} bytes; split it")
    return content


def _names_in(content: bytes) -> list[bytes]:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # PowerShell's ">"
        try:
            content = content.decode("utf-16").encode()
        except UnicodeDecodeError:
            raise ValueError("it is damaged UTF-16; save it as UTF-8") from None
    content = content.removeprefix(codecs.BOM_UTF8)
    if b"\0" in content:
        names = [name for name in content.split(b"\0") if name]
        if b"\n" in names:  # every other byte is a NUL
            raise ValueError("it seems to be UTF-16 without a byte order mark; save it as UTF-8")
    else:
        lines = (line.removesuffix(b"\r") for line in content.split(b"\n"))
        names = [line for line in lines if line.strip()]
    strange = sum(_CONTROL.search(name) is not None for name in names)
    if 2 * strange > len(names) or any(len(name) > _MAX_NAME_BYTES for name in names):
        raise ValueError("it is no list of names; write one name on each line")
    return names


def _decoded(names: list[bytes]) -> list[str]:
    """Names as the system takes them; ValueError if they are in an encoding that no file has."""
    strange = [name for name in names if not _is_utf8(name)]
    if strange and (os.name == "nt" or not any(map(os.path.lexists, strange))):
        raise ValueError("it has names that are not in UTF-8, nor those of files; save it as UTF-8")
    return [os.fsdecode(name) for name in names]


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[") and not os.path.lexists(text)


def _matches(pattern: str) -> list[Path]:
    """What a pattern means, sorted, hidden files left out unless it asks for them.

    pathlib's search, unlike that of `glob`, follows no link to a folder, which may go in circles.
    """
    parts = Path(pattern).parts
    start = next(number for number, part in enumerate(parts) if _has_signs(part))
    base, rest = Path(*parts[:start]), parts[start:]
    found = base.glob(str(Path(*rest)))
    if any(part.startswith(".") for part in rest):
        return sorted(found)
    return sorted(path for path in found if not _is_hidden(path.relative_to(base)))


def _has_signs(part: str) -> bool:
    return any(sign in part for sign in "*?[")


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


class _Search:
    """Collects inputs, each file once."""

    def __init__(
        self, recursive: bool, output: Path | None, is_own_result: Callable[[Path], bool]
    ) -> None:
        self.found = Inputs()
        self._recursive = recursive
        self._output = None if output is None else os.path.realpath(output)
        self._is_own_result = is_own_result
        self._seen: set[tuple[object, ...]] = set()

    def take(self, path: Path) -> None:
        """A name: of a folder, or of a file, whatever its suffix is."""
        if is_folder(path):
            self._take_folder(path)
        else:
            self._take_file(Input(path))

    def take_matches(self, pattern: str) -> None:
        """Pictures and clips that match, and folders, unless the pattern goes into them itself."""
        self.found.is_batch = True
        try:
            matches = _matches(pattern)
        except (OSError, ValueError, RecursionError) as error:  # "a**b" was no pattern once
            text = f"cannot look for {display_name(pattern)}: {reason_of(error)}"
            self._fail(Path(pattern), text)
            return
        before = len(self.found.files), self.found.named_twice
        for path in matches:
            if is_folder(path):
                if "**" not in pattern:
                    self._take_folder(path)
            elif path.suffix.lower() in READABLE_SUFFIXES or is_video(path):
                self._take_file(Input(path))
            else:
                self.found.left_alone += 1
        if before == (len(self.found.files), self.found.named_twice):
            self._fail(Path(pattern), f"no pictures match {display_name(pattern)}")

    def leave_out_results(self, owner_of: Callable[[Path], Path | None]) -> None:
        """Of the files that were named, those that were made from others of them."""
        files = [file for file in self.found.files if not self._is_made_here(file, owner_of)]
        self.found.own_results += len(self.found.files) - len(files)
        self.found.files = files

    def _is_made_here(self, file: Input, owner_of: Callable[[Path], Path | None]) -> bool:
        if file.folder is not None or file.error is not None:
            return False
        owner = owner_of(file.path)
        if owner is None:
            return False
        identity = _identity(owner)
        return identity in self._seen and identity != _identity(file.path)

    def _fail(self, path: Path, text: str) -> None:
        self.found.files.append(Input(path, error=ImageError(text)))

    def _take_file(self, wanted: Input) -> None:
        if wanted.folder is None:
            self.found.named += 1
        identity = _identity(wanted.path)
        if identity in self._seen:
            self.found.named_twice += 1
            return
        self._seen.add(identity)
        self.found.files.append(wanted)

    def _take_folder(self, folder: Path) -> None:
        self.found.is_batch = True
        search = search_folder(folder, self._recursive, self._may_enter)
        self.found.left_alone += search.others
        pictures = [path for path in search.pictures if not self._is_own_result(path)]
        results = len(search.pictures) - len(pictures)
        self.found.own_results += results
        for path in pictures:
            self._take_file(Input(path, folder))
        for error in search.errors:
            self.found.files.append(Input(folder, folder, error))
        if not pictures and not search.errors:
            self.found.files.append(Input(folder, folder, _nothing_in(folder, results, self._hint)))

    def _may_enter(self, folder: Path) -> bool:
        return self._output is None or os.path.realpath(folder) != self._output

    @property
    def _hint(self) -> str:
        return "" if self._recursive else " (-r looks into the folders inside it)"


def _nothing_in(folder: Path, results: int, hint: str) -> ImageError:
    own = f" but {results} results of earlier runs: name those to restore again" if results else ""
    return ImageError(f"no pictures in the folder {display_name(folder)}{own or hint}")


def _identity(path: Path) -> tuple[object, ...]:
    """The same for all names of a file; hard links are files of their own, with own results."""
    name = os.path.realpath(path)
    try:
        status = path.stat()
    except (OSError, ValueError):
        return (name,)
    return status.st_dev, status.st_ino, same_name(name)


def is_folder(path: Path) -> bool:
    """It is a folder, or a link to one; also False of what can be no path."""
    return os.path.isdir(path)  # noqa: PTH112 - pathlib raises for a name that is too long


def same_name(text: str) -> str:
    """The same for all spellings that some disk takes for one name: of case, and of accents."""
    return unicodedata.normalize("NFC", text).casefold()


def remarks(inputs: Inputs) -> Iterator[str]:
    """What a summary says of the files that were not taken."""
    for count, one, several in (
        (inputs.left_alone, "other file left alone", "other files left alone"),
        (
            inputs.own_results,
            "result of an earlier run left out",
            "results of earlier runs left out",
        ),
        (inputs.named_twice, "file named twice", "files named twice"),
    ):
        if count:
            yield f"{count:,} {one if count == 1 else several}"
