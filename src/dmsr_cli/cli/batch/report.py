"""What a batch says while it runs and when it ends: messages, JSON Lines, exit status."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from dmsr_cli.cli.batch.journal import Journal, check_is_apart
from dmsr_cli.cli.batch.page_files import PageFile, comparison_file, is_page, report_file
from dmsr_cli.cli.batch.tally import Tally
from dmsr_cli.errors import DmsrError
from dmsr_cli.files import display_name

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.jobs import Job
    from dmsr_cli.interruption import Interruption
    from dmsr_cli.pages import Exhibit


class BatchReport:
    """Tells of each input when it has ended, in the order of the inputs, and of all at the end.

    For people, or as JSON Lines on standard output; what people read goes to standard error,
    unless it is itself the result (`text_to_stdout`). Several threads may use it. What is said of
    a picture waits for the line about the one before.
    """

    def __init__(self, as_json: bool, text_to_stdout: bool = False) -> None:
        self.as_json = as_json
        self.text_to_stdout = text_to_stdout
        self.tally = Tally()
        self.running: str | None = None
        """The name of the picture that is worked on."""
        self.on_told: Callable[[dict[str, Any]], None] | None = None
        """Called with each record when it has been told."""
        self.is_shown: Callable[[dict[str, Any]], bool] = lambda record: True
        """Whether a record that has not failed is told at all; it is counted in any case."""
        self.echo: Callable[[str], object] = click.echo
        """Prints on standard output what a person reads, where that is the result."""
        self.console = _console()
        self._journal: Journal | None = None
        self._pages: list[PageFile[Any]] = []
        self._lock = threading.RLock()
        self._turn = 0
        self._ended: dict[int, tuple[dict[str, Any], str]] = {}
        self._notes: dict[int, list[tuple[str, str]]] = {}

    def write_to(self, path: Path, jobs: Iterable[Job], resume: bool | None, replace: bool) -> None:
        """Write the records into a file, too: at the end of what is there, or in its place.

        A page (.html) is written when all has ended, and never appended to. `resume` is as for
        `Journal`.

        Raises:
            SettingsError: it cannot be written, or must not be.
        """
        check_is_apart(path, jobs)
        if is_page(path):
            self._pages.append(report_file(path, self.alert, replace=replace))
        else:
            self._journal = Journal(path, self.alert, resume=resume, replace=replace)

    def compare_in(self, path: Path, jobs: Iterable[Job], replace: bool) -> None:
        """Write a page that shows the pictures before and after, when all has ended.

        Raises:
            SettingsError: it cannot be written, or must not be.
        """
        check_is_apart(path, jobs)
        self._pages.append(comparison_file(path, self.alert, replace=replace))

    @property
    def takes_pictures(self) -> bool:
        """Whether `show` has a use."""
        return bool(self._pages)

    def show(self, record: dict[str, Any], exhibit: Exhibit) -> None:
        """Give the pages what they show beside a record, before that is told."""
        for page in self._pages:
            page.keep(record, exhibit)

    def run(
        self,
        record: dict[str, Any],
        work: Callable[[dict[str, Any]], str],
        debug: bool,
        number: int | None = None,
    ) -> None:
        """Do the work for one input and report it; whatever fails, the next one gets its turn.

        Args:
            record: what is known beforehand; `work` fills in the rest.
            work: sets `status` in the record to "ok" or "skipped"; returns what a person reads.
            debug: let errors through, to show where they come from.
            number: of the input, from 0; the next one if not given.
        """
        self.tell(record, self.attempt(record, work, debug), number)

    def attempt(
        self, record: dict[str, Any], work: Callable[[dict[str, Any]], str], debug: bool
    ) -> str:
        """As `run`, but tell nothing; returns what is to be told with the record."""
        try:
            text = work(record)
        except Exception as error:
            if debug:
                raise
            text = str(error)
            if not isinstance(error, DmsrError):
                text = f"{display_name(record['input'])}: internal error: {describe(error)}"
            record.update(status="failed", error=text)
        record["finished"] = now()
        return text

    def tell(self, record: dict[str, Any], text: str, number: int | None = None) -> None:
        """Report an input that has ended, when it is its turn."""
        with self._lock:
            self._ended[self._turn if number is None else number] = record, text
            self._go_on()

    def untold(self, count: int) -> list[int]:
        """The numbers of those, of so many inputs, of which nothing is known to have ended."""
        with self._lock:
            return [number for number in range(self._turn, count) if number not in self._ended]

    def tell_the_rest(self) -> None:
        """Report all that have ended; nobody waits any more for those before them."""
        with self._lock:
            while self._ended:
                self._turn = min(self._ended)
                self._go_on()

    def say(self, text: str, style: str = "", number: int | None = None) -> None:
        """Print one line on standard error; if it is about an input, when it is its turn."""
        with self._lock:
            if number is not None and number > self._turn:
                self._notes.setdefault(number, []).append((text, style))
            else:
                try:
                    self.console.print(text, style=style, markup=False)
                except (OSError, ValueError):
                    # A log on a full disk is no reason to end a batch. The old one would keep
                    # the line, and all that follow.
                    self.console = _console()

    def warn(self, name: str, text: str, number: int | None = None) -> None:
        """Say that something of a picture could not be used, or kept; JSON has it in the record."""
        if not self.as_json:
            self.say(f"dmsr: warning: {name}: {text}", "yellow", number)

    def alert(self, text: str) -> None:
        """Say that something is wrong that concerns no single picture."""
        self.say(f"dmsr: warning: {text}", "yellow")

    def announce_the_end(self) -> None:
        """Say what happens after the first Ctrl-C."""
        if self.running:
            self.say(f"finishing {self.running}; Ctrl-C again stops at once")

    def finish(self, interruption: Interruption, count: int, *, is_endless: bool = False) -> int:
        """Print the summary; returns the exit status.

        Args:
            interruption: whether somebody ended the batch.
            count: how many jobs there were.
            is_endless: an interruption is the normal end, if no job was left undone.
        """
        left = count - self.tally.total
        is_cut = interruption.requested and (left > 0 or not is_endless)
        status = 1 if self.tally.counts["failed"] else 0
        if is_cut:
            status = interruption.status
        if self.tally.total > 1 or is_cut or is_endless:
            for line in self.tally.lines(left if is_cut else None):
                self.say(line)
        if self._journal is not None:
            self._journal.write({"summary": self._summary(left, status)})
            self._journal.close()
        for page in self._pages:
            page.finish(left)
        return status

    def _summary(self, not_begun: int, status: int) -> dict[str, Any]:
        tally = self.tally
        return {
            **tally.counts,
            "not_begun": not_begun,
            "left_alone": tally.inputs.left_alone,
            "own_results": tally.inputs.own_results,
            "named_twice": tally.inputs.named_twice,
            "input_pixels": tally.pixels,
            "seconds": round(tally.stopwatch.seconds, 3),
            "finished": now(),
            "exit_status": status,
        }

    def _go_on(self) -> None:
        """Tell everything whose turn it is."""
        while True:
            for text, style in self._notes.pop(self._turn, ()):
                self.say(text, style)
            if self._turn not in self._ended:
                return
            record, text = self._ended.pop(self._turn)
            self._turn += 1
            self._tell(record, text)

    def _tell(self, record: dict[str, Any], text: str) -> None:
        self.tally.add(record)
        shown = self.is_shown(record)
        if self._journal is not None and (shown or record["status"] == "failed"):
            self._journal.write(record)
        if shown or record["status"] == "failed":
            for page in self._pages:
                page.write(record)
        if self.as_json and shown:
            click.echo(json.dumps(record, allow_nan=False))  # escapes what is not ASCII
        if record["status"] == "failed":
            self.say(f"dmsr: error: {text}", style="red")
        elif not shown:
            pass
        elif not self.as_json and self.text_to_stdout:
            self.echo(text)
        elif not self.as_json:
            self.say(text)
        if self.on_told is not None:
            self.on_told(record)


def _console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def now() -> str:
    """The time as ISO 8601 has it, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def describe(error: BaseException) -> str:
    """An exception that nobody foresaw, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
