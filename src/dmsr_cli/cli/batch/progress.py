"""Progress bars that show themselves only when it takes long, and only on a terminal."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from dmsr_cli.cli.batch.tally import duration_text, speed_text

PATIENCE = 2.0
"""Seconds before a progress bar appears: what is done sooner needs none."""
NAME_WIDTH = 30
"""Characters of a picture's name."""


class PatientProgress:
    """A progress bar on standard error that shows itself only when it takes long."""

    def __init__(self, console: Console, text: str, patience: float = PATIENCE) -> None:
        self.bar = Progress(*self._columns(), console=console, transient=True)
        self.task = self.bar.add_task(text, total=1.0, counted="", speed="", left="")
        self.timer = threading.Timer(patience, self.bar.start)
        self.timer.daemon = True
        self.visible = console.is_terminal  # a pipe gets no bar

    def update(self, done: float, text: str | None = None) -> None:
        """Set the share that is done, 0 to 1."""
        self.bar.update(self.task, completed=done, description=text)

    def rename(self, text: str) -> None:
        """Say what is worked on."""
        self.bar.update(self.task, description=text)

    def _columns(self) -> tuple[ProgressColumn, ...]:
        return _name(), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()

    def __enter__(self) -> PatientProgress:
        """Start waiting."""
        if self.visible:
            self.timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        if self.visible:
            self.timer.cancel()
            self.timer.join()
            self.bar.stop()


class BatchProgress(PatientProgress):
    """The bar of several pictures: how many, how fast, how long yet.

    How many pixels a picture has is known once it is opened. Until then its file's bytes stand for
    its part of the work: skipped pictures take none.
    """

    def __init__(
        self, console: Console, text: str, sizes: Sequence[int], patience: float = PATIENCE
    ) -> None:
        """`sizes` are the bytes of all inputs, in their order."""
        super().__init__(console, text, patience)
        self._sizes = sizes
        self._told = 0
        self._pixels = 0
        self._bytes_left = float(sum(sizes))
        self._bytes_done = 0.0
        self._began = monotonic()
        self._show()

    def told(self, record: dict[str, Any]) -> None:
        """The next picture, in their order, has ended."""
        size = self._sizes[self._told] if self._told < len(self._sizes) else 0
        self._told += 1
        self._bytes_left -= size
        if record["status"] != "skipped":
            self._bytes_done += size
            self._pixels += record.get("input_pixels") or 0
        self._show()

    def seconds_left(self) -> float | None:
        """An estimate; None as long as nothing is done."""
        if self._bytes_done <= 0:
            return None
        return (monotonic() - self._began) / self._bytes_done * max(self._bytes_left, 0)

    def _show(self) -> None:
        left = self.seconds_left()
        speed = speed_text(self._pixels, monotonic() - self._began) if self._pixels else ""
        self.bar.update(
            self.task,
            counted=f"{self._told:,}/{len(self._sizes):,}",
            speed=speed,
            left="" if left is None else f"{duration_text(left)} left",
        )

    def _columns(self) -> tuple[ProgressColumn, ...]:
        fields = [TextColumn(f"{{task.fields[{name}]}}") for name in ("counted", "speed", "left")]
        return _name(), BarColumn(), *fields


def _name() -> ProgressColumn:
    column = Column(no_wrap=True, overflow="ellipsis", max_width=NAME_WIDTH)
    return TextColumn("{task.description}", markup=False, table_column=column)
