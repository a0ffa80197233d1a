"""Keeping folders served: which pictures are new since the last look."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dmsr_cli.files import display_name

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.jobs import Job

LOOK_EVERY = 1.0
"""Seconds between two looks."""
REST = 5
"""Looking at a very large folder takes long: so many times that, at least, nobody looks."""
NAP = 0.1
"""Seconds after which an end is noticed."""

Stamp = tuple[int, int, int]


class Watch:
    """Finds what is new, or has changed, and stands still."""

    def __init__(
        self,
        inputs: Sequence[str],
        plan: Callable[[Sequence[str]], Sequence[Job]],
        warn: Callable[[str], None],
    ) -> None:
        """Watch what `inputs` name.

        Args:
            inputs: files, folders and patterns.
            plan: makes jobs of inputs.
            warn: called once for what cannot be looked at, until it can be, and then cannot again.
        """
        self._inputs = inputs
        self._folders = {text for text in inputs if Path(text).is_dir()}
        self._plan = plan
        self._warn = warn
        self._warned: set[str] = set()
        self._last: dict[Path, Stamp] = {}
        self._tried: dict[Path, Stamp] = {}
        self._results: set[Path] = set()

    def begin(self) -> list[Job]:
        """The first jobs: what is there, whole or not."""
        jobs = self._look()
        for job in jobs:
            self._take(job, stamp_of(job.source))
        return jobs

    def due(self) -> list[Job]:
        """The jobs whose file has not been tried as it is, and has not changed since last time.

        What this watch has made is none of them.
        """
        jobs = [job for job in self._look() if job.source not in self._results]
        stamps = {job.source: stamp_of(job.source) for job in jobs}
        due = []
        for job in jobs:
            stamp = stamps[job.source]
            new = stamp is not None and stamp != self._tried.get(job.source)
            if new and stamp == self._last.get(job.source):
                self._take(job, stamp)
                due.append(job)
        self._last = {source: stamp for source, stamp in stamps.items() if stamp is not None}
        return due

    def _take(self, job: Job, stamp: Stamp | None) -> None:
        self._results.add(job.target)
        if stamp is not None:
            self._tried[job.source] = stamp

    def _look(self) -> list[Job]:
        """All jobs that there are now, without what is no job: that is told once."""
        gone = {text for text in self._folders if not Path(text).is_dir()}
        present = [text for text in self._inputs if text not in gone]
        jobs = self._plan(present) if present else []
        trouble = {f"{display_name(text)} is not there; waiting for it" for text in sorted(gone)}
        trouble |= {str(job.error) for job in jobs if job.error is not None}
        for text in sorted(trouble - self._warned):
            self._warn(text)
        self._warned = trouble
        return [job for job in jobs if job.error is None]


def looks(watch: Watch, should_stop: Callable[[], bool]) -> Iterator[list[Job]]:
    """What is due, look after look, until it should stop; nothing empty."""
    rest = LOOK_EVERY
    while _nap(rest, should_stop):
        started = time.monotonic()
        due = watch.due()
        rest = max(LOOK_EVERY, REST * (time.monotonic() - started))
        if due:
            yield due


def stamp_of(path: Path) -> Stamp | None:
    """What changes when a file does; None if it is not there."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _nap(seconds: float, should_stop: Callable[[], bool]) -> bool:
    """Wait; False as soon as it should stop."""
    until = time.monotonic() + seconds
    while not should_stop():
        left = until - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(NAP, left))
    return False
