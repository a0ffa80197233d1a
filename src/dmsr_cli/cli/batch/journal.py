"""The file of --report: JSON Lines, one for each picture as it ends, and one for the batch."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsr_cli.errors import SettingsError
from dmsr_cli.files import display_name, reason_of

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.jobs import Job

BEGINNING = b'{"'
"""Of every report, and of no picture."""


class Journal:
    """Writes records into a file, each at once; when that fails, it says so and gives up."""

    def __init__(
        self, path: Path, on_failure: Callable[[str], None], *, resume: bool | None, replace: bool
    ) -> None:
        """Open the file.

        Args:
            path: where to; pipes and devices are allowed.
            on_failure: called once, with a line, if a record cannot be written.
            resume: append to a report that is there; None where that cannot be asked for.
            replace: begin a report that is there anew, unless `resume`.

        Raises:
            SettingsError: it cannot be written, or is there and is not a report, or neither is
                wanted.
        """
        self._name = display_name(path)
        self._on_failure = on_failure
        try:
            self._descriptor: int | None = self._open(path, resume, replace)
        except OSError as error:
            raise SettingsError(
                f"cannot write the report {self._name}: {reason_of(error)}"
            ) from error

    def write(self, record: dict[str, Any]) -> None:
        """Append one line."""
        if self._descriptor is None:
            return
        try:
            _write_all(
                self._descriptor, json.dumps(record, allow_nan=False).encode("ascii") + b"\n"
            )
        except OSError as error:
            self.close()
            self._on_failure(
                f"cannot write the report {self._name}: {reason_of(error)}; "
                "the batch goes on without it"
            )

    def close(self) -> None:
        """Write no more."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = None

    def _open(self, path: Path, resume: bool | None, replace: bool) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(path.stat().st_mode):
                return os.open(path, os.O_WRONLY | os.O_APPEND)
            self._check(path, resume, replace)
        descriptor = os.open(path, flags, 0o666)
        if replace and not resume:
            os.ftruncate(descriptor, 0)
        elif (size := os.fstat(descriptor).st_size) > 0:
            os.lseek(descriptor, size - 1, os.SEEK_SET)
            if os.read(descriptor, 1) != b"\n":  # the last run was killed as it wrote
                _write_all(descriptor, b"\n")
        return descriptor

    def _check(self, path: Path, resume: bool | None, replace: bool) -> None:
        with path.open("rb") as file:
            beginning = file.read(len(BEGINNING))
        if not BEGINNING.startswith(beginning):
            raise SettingsError(f"{self._name} exists and is not a report: choose another name")
        if not resume and not replace:
            appending = "" if resume is None else "--skip-existing to append to it, "
            raise SettingsError(
                f"the report {self._name} exists already: use {appending}--overwrite, "
                "or another name"
            )


def check_is_apart(path: Path, jobs: Iterable[Job]) -> None:
    """Raise SettingsError if the report would be written over an input or a result."""
    place = os.path.realpath(path)
    for job in jobs:
        # Asking the system about thousands of names takes long; few are alike.
        alike = [one for one in (job.source, job.target) if one.name == path.name]
        if place in map(os.path.realpath, alike):
            raise SettingsError(
                f"the report {display_name(path)} is an input, or a result: choose another name"
            )


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
