"""The manifest of a folder: which results it holds, and from what and how each was made.

A hidden file of JSON Lines. A line is appended, in one write, before its result takes its place:
whenever a run is killed, a result that is there is in the manifest, too. The lines of a name are
alternatives; the one that the file agrees with counts. Nothing is ever removed from it.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dmsr_cli.files import display_name, reason_of

MANIFEST_NAME = ".dmsr-results.jsonl"
VERSION = 1
"""Of the form of a line. A manifest with a line of a later one is left alone."""
MAX_MANIFEST_BYTES = 2**28
"""Larger than this, with some 300,000 results, a manifest is not read."""


@dataclass(frozen=True)
class Entry:
    """A result, or a file that was written beside it, and what it was made from."""

    name: str
    """In the folder of the manifest."""
    size: int
    mtime_ns: int
    sha256: str
    source: str
    """The input's path, relative to the folder where there is such a path."""
    source_size: int
    source_mtime_ns: int
    source_sha256: str
    settings: dict[str, Any]
    """As `fingerprint.settings_of` has them."""

    def line(self) -> bytes:
        """One line of ASCII, whatever characters the names have."""
        return json.dumps({"version": VERSION, **asdict(self)}, separators=(",", ":")).encode()


_KINDS: dict[str, type] = {"str": str, "int": int, "dict[str, Any]": dict}


def parse_entry(line: bytes) -> Entry | None:
    """The entry in a line; None if it has none of a known form."""
    values = _values(line)
    found = {field.name: values.get(field.name) for field in fields(Entry)}
    for field in fields(Entry):
        if type(found[field.name]) is not _KINDS[str(field.type)]:
            return None
    return Entry(**found)  # type: ignore[arg-type]  # the types were just checked


def _values(line: bytes) -> dict[str, Any]:
    """The JSON object in a line; an empty one if there is none, as in a line that was cut short."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


class Manifest:
    """The manifest of one folder. Other processes may add to it meanwhile; threads may share it."""

    def __init__(self, folder: Path, on_trouble: Callable[[str], None]) -> None:
        """Nothing is read yet.

        Args:
            folder: of the results.
            on_trouble: called, once, with one line if it cannot be read or written. From then on,
                it has no entries and takes none.
        """
        self.path = folder / MANIFEST_NAME
        self._on_trouble = on_trouble
        self._has_trouble = False
        self._lock = threading.Lock()
        self._lines: dict[str, list[bytes]] = {}
        self._read_to = 0
        self._identity: tuple[int, int] | None = None

    def entries(self, name: str) -> Iterator[Entry]:
        """What was written under a name, the latest first."""
        with self._lock:
            self._read_on()
            lines = [] if self._has_trouble else list(self._lines.get(name, ()))
        for line in reversed(lines):
            entry = parse_entry(line)
            if entry is not None:
                yield entry

    def append(self, entry: Entry) -> None:
        """Add an entry; it is on the disk when this returns."""
        with self._lock:
            self._read_on()
            if self._has_trouble:
                return
            try:
                self._append(entry.line() + b"\n")
            except OSError as error:
                self._give_up(f"cannot write {display_name(self.path)}: {reason_of(error)}")

    def _append(self, line: bytes) -> None:
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _SAFELY, 0o666)
        try:
            size = os.fstat(handle).st_size
            if size:
                os.lseek(handle, size - 1, os.SEEK_SET)
                if os.read(handle, 1) != b"\n":  # a write was cut short: it is a line of its own
                    line = b"\n" + line
            if os.write(handle, line) != len(line):
                raise OSError("the disk is full")
            os.fsync(handle)
        finally:
            os.close(handle)

    def _read_on(self) -> None:
        """Take in what was added since the last time."""
        if self._has_trouble:
            return
        try:
            status = self.path.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                raise OSError("it is not a regular file")
            if status.st_size > MAX_MANIFEST_BYTES:
                raise OSError(f"it has more than {MAX_MANIFEST_BYTES} bytes")
            identity = status.st_dev, status.st_ino
            if identity != self._identity or status.st_size < self._read_to:
                self._forget()
                self._identity = identity
            if status.st_size > self._read_to:
                self._read_lines()
        except (FileNotFoundError, NotADirectoryError):  # the second is told when it is written
            self._forget()
        except OSError as error:
            self._give_up(f"cannot read {display_name(self.path)}: {reason_of(error)}")

    def _read_lines(self) -> None:
        with open(os.open(self.path, os.O_RDONLY | _SAFELY), "rb") as file:  # noqa: PTH123 - pathlib takes no flags
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # it may be about to be written
                self._read_to += len(line)
                values = _values(line)
                version, name = values.get("version"), values.get("name")
                if isinstance(version, int) and version > VERSION:
                    raise OSError("a newer dmsr wrote it")
                if isinstance(name, str):
                    self._lines.setdefault(name, []).append(line)
        if self._read_to and not self._lines:
            raise OSError("it is damaged: remove it")

    def _forget(self) -> None:
        self._lines.clear()
        self._read_to, self._identity = 0, None

    def _give_up(self, what: str) -> None:
        self._has_trouble = True
        self._forget()
        self._on_trouble(f"{what}; it is not known which results there are up to date")


_SAFELY = sum(
    getattr(os, name, 0) for name in ("O_BINARY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")
)
"""Follow no link, wait for no pipe, translate no line ends, where the system has such flags."""
