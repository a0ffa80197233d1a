"""What a batch says while it runs and when it ends: messages, JSON Lines, exit status."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from dmsr_cli.errors import DmsrError
from dmsr_cli.files import display_name
from dmsr_cli.processes import launched_rank

if TYPE_CHECKING:
    from dmsr_cli.training.interruption import Interruption

INTERRUPTED_BY = 128
"""Exit status after a signal, less the signal's number, as shells have it."""
PATIENCE = 2.0
"""Seconds before a progress bar appears: what is done sooner needs none."""


class Report(Protocol):
    """Where the work on a picture says what it has to."""

    @property
    def running(self) -> str | None:
        """The picture that is worked on."""

    @running.setter
    def running(self, name: str | None) -> None: ...

    def run(
        self, record: dict[str, Any], work: Callable[[dict[str, Any]], str], debug: bool
    ) -> None:
        """Do the work for one input and report it."""

    def say(self, text: str, style: str = "") -> None:
        """Print one line."""

    def warn(self, name: str, text: str) -> None:
        """Say that something of a picture could not be used, or kept."""


class BatchReport:
    """Counts results, and prints each: for people, or as JSON Lines on standard output.

    What people read goes to standard error, unless it is itself the result (`text_to_stdout`).
    Several threads may use it.
    """

    def __init__(self, as_json: bool, text_to_stdout: bool = False) -> None:
        self.as_json = as_json
        self.text_to_stdout = text_to_stdout
        self.counts = {"ok": 0, "skipped": 0, "failed": 0}
        self.running: str | None = None
        # Of several processes the first one speaks.
        quiet = launched_rank() > 0
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
        # A note about one picture waits for the line about the one before, which is being written.
        self._turn = threading.RLock()

    def run(
        self, record: dict[str, Any], work: Callable[[dict[str, Any]], str], debug: bool
    ) -> None:
        """Do the work for one input and report it; whatever fails, the next one gets its turn.

        Args:
            record: what is known beforehand; `work` fills in the rest.
            work: sets `status` in the record to "ok" or "skipped"; returns what a person reads.
            debug: let errors through, to show where they come from.
        """
        with self._turn:
            self.tell(record, complete(record, work, debug))

    def tell(self, record: dict[str, Any], text: str) -> None:
        """Count one input, and print its line."""
        with self._turn:
            self.counts[record["status"]] += 1
            if self.as_json:
                click.echo(json.dumps(record))  # escapes what is not ASCII
            if record["status"] == "failed":
                self.say(f"dmsr: error: {text}", style="red")
            elif not self.as_json and self.text_to_stdout:
                click.echo(text)
            elif not self.as_json:
                self.say(text)

    def say(self, text: str, style: str = "") -> None:
        """Print one line on standard error."""
        with self._turn:
            self.console.print(text, style=style, markup=False)

    def warn(self, name: str, text: str) -> None:
        """Say that something of a picture could not be used, or kept; JSON has it in the record."""
        if not self.as_json:
            self.say(*warning(name, text))

    def announce_the_end(self) -> None:
        """Say what happens after the first Ctrl-C."""
        running = f"finishing {self.running}; " if self.running else ""
        self.say(f"{running}Ctrl-C again stops at once")

    def finish(self, interruption: Interruption, count: int) -> int:
        """Print the summary of a batch of so many; returns the exit status."""
        done, skipped, failed = self.counts.values()
        begun = sum(self.counts.values())
        if interruption.requested:
            self.say(
                f"interrupted: {done} done, {skipped} skipped, {failed} failed, "
                f"{count - begun} not begun"
            )
            return INTERRUPTED_BY + interruption.number
        if begun > 1:
            self.say(f"{done} done, {skipped} skipped, {failed} failed")
        return 1 if failed else 0


def complete(record: dict[str, Any], work: Callable[[dict[str, Any]], str], debug: bool) -> str:
    """Do the work for one input, as `BatchReport.run` has it; returns what a person reads."""
    try:
        return work(record)
    except DmsrError as error:
        if debug:
            raise
        text = str(error)
    except Exception as error:
        if debug:
            raise
        text = f"{display_name(record['input'])}: internal error: {describe(error)}"
    record.update(status="failed", error=text)
    return text


def warning(name: str, text: str) -> tuple[str, str]:
    """The line of a warning, and its style."""
    return f"dmsr: warning: {name}: {text}", "yellow"


class PatientProgress:
    """A progress bar on standard error that shows itself only when it takes long."""

    def __init__(self, console: Console, text: str, patience: float = PATIENCE) -> None:
        columns = (
            *(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=console, transient=True)
        self.task = self.bar.add_task(text, total=1.0)
        self.timer = threading.Timer(patience, self.bar.start)
        self.timer.daemon = True
        self.visible = console.is_terminal  # a pipe gets no bar

    def update(self, done: float, text: str | None = None) -> None:
        """Set the share that is done, 0 to 1."""
        self.bar.update(self.task, completed=done, description=text)

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


def describe(error: BaseException) -> str:
    """An exception that nobody foresaw, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
