"""What a run shows of itself: a log, curves, a picture of each validation, TensorBoard."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dmsr_cli.errors import DmsrError
from dmsr_cli.files import display_name, reason_of
from dmsr_cli.images import write_image
from dmsr_cli.training.board import Board
from dmsr_cli.training.curves import curves_available, write_curves
from dmsr_cli.training.losses import Losses
from dmsr_cli.training.validation import Validation
from dmsr_cli.visual import validation_strip

STRIPS = "validation"
"""Folder of the run with one picture for each validation."""


class Progress(NamedTuple):
    """What a run says of itself while it goes on."""

    iteration: int
    done: float
    """Share of the budget that is used, 0 to 1."""
    seconds: float
    rate: float
    """Learning rate of the last step."""
    patches_per_second: float
    """Of all processes together."""
    losses: dict[str, float]
    psnr: float | None
    """Validation PSNR in dB, when this report follows a validation."""


class Record:
    """Writes what a person looks at; none of it is needed to go on with the run.

    So nothing here ends a run: what cannot be written is told, once, and left out.
    """

    def __init__(
        self, folder: Path, keep: bool, board: Board | None, on_message: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.log = folder / "log.csv"
        self.board = board
        self.on_message = on_message
        self.told: set[str] = set()
        if not (keep and self.log.exists()):
            names = [name for name in Progress._fields if name not in ("done", "losses", "psnr")]
            self._append([*names, *Losses._fields, "psnr"], mode="w")

    def write(self, progress: Progress) -> None:
        """One line of the log, and one point of each curve."""
        values: list[Any] = [progress.iteration, f"{progress.seconds:.1f}"]
        values += [f"{progress.rate:.3e}", f"{progress.patches_per_second:.1f}"]
        values += [f"{value:.6f}" for value in progress.losses.values()]
        values += ["" if progress.psnr is None else f"{progress.psnr:.3f}"]
        self._append(values, mode="a")
        if self.board:
            scalars = {f"loss/{name}": value for name, value in progress.losses.items()}
            scalars["learning rate"] = progress.rate
            scalars["patches per second"] = progress.patches_per_second
            if progress.psnr is not None:
                scalars["validation PSNR"] = progress.psnr
            with self._told("TensorBoard"):
                self.board.scalars(scalars, progress.iteration)

    def show(self, validation: Validation, iteration: int) -> None:
        """The picture of a validation."""
        with self._told("validation picture"):
            strip = validation_strip(validation.rows)
            if self.board:
                with self._told("TensorBoard"):
                    self.board.picture("validation", strip, iteration)
            (self.folder / STRIPS).mkdir(exist_ok=True)
            write_image(strip, self.folder / STRIPS / f"iteration_{iteration:07}.png")

    def draw(self) -> None:
        """The log as curves."""
        if not curves_available():
            self._tell("curves", 'for curves.png: pip install "dmsr-cli[plots]"')
            return
        with self._told("curves"):
            write_curves(self.log, self.folder / "curves.png")

    def close(self) -> None:
        """Finish what is open."""
        if self.board:
            with self._told("TensorBoard"):
                self.board.close()

    def _append(self, values: list[Any], mode: str) -> None:
        with self._told("log"), self.log.open(mode, newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(values)

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except DmsrError as error:
            self._tell(what, str(error))
        except Exception as error:  # whatever a library raises, the training is worth more
            self._tell(what, f"no {what} in {display_name(self.folder)}: {reason_of(error)}")

    def _tell(self, what: str, text: str) -> None:
        if what not in self.told:
            self.told.add(what)
            self.on_message(text)
