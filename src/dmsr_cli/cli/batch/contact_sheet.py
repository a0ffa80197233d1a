"""`dmsr upscale --compare-models`: what several models make of a picture, on a contact sheet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dmsr_cli.cli.batch.jobs import Job, Naming, spare_inputs
from dmsr_cli.cli.batch.moving import first_image
from dmsr_cli.cli.batch.outputs import make_folder, refuse_existing
from dmsr_cli.cli.batch.overlap import Stopwatch
from dmsr_cli.cli.batch.pictures import Share
from dmsr_cli.cli.batch.restoring import plan_picture, restore_image
from dmsr_cli.cli.batch.results import Results, SourceFile
from dmsr_cli.errors import DmsrError, ImageError
from dmsr_cli.images import Image, format_of_suffix, write_image
from dmsr_cli.visual.contact_sheet import SheetCell, contact_sheet
from dmsr_cli.visual.painting import Window, paint_enlarged, paint_result, white_canvas
from dmsr_cli.visual.telling import telling_window

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.lineup import Entrant, Lineup
    from dmsr_cli.cli.batch.report import BatchReport
    from dmsr_cli.interruption import Interruption

LARGEST_SHOWN = 1024
"""Results that are longer are shown in part, so that one sees what the models do."""
CROP_SIDE = 512
"""Of that part, in pixels of the result."""


def sheet_naming(lineup: Lineup) -> Naming:
    """How sheets are called: NAME_x4_models.png."""
    return Naming(f"_x{lineup.scale}_models", lineup.options.suffix, ".png", keeps_stem=True)


@dataclasses.dataclass(frozen=True)
class SheetMaker:
    """Makes the sheets of a batch."""

    lineup: Lineup
    crop: tuple[int, int, int, int] | None
    """Left, top, width and height of the part to show, in pixels of the input; None to choose it
    for each picture."""
    results: Results | None
    """Remembers the sheets, so that they are no inputs of the next run; None to remember none."""

    def make_all(self, jobs: Sequence[Job], report: BatchReport, stop: Interruption) -> None:
        """Make the sheet of each picture, and report it; whatever fails, the next gets its turn."""
        from dmsr_cli.cli.batch.progress import PatientProgress

        options = self.lineup.options
        if any(job.is_piped_out for job in jobs):
            raise click.UsageError("--compare-models needs a sheet in a file: use -o FILE")
        jobs = list(map(_of_picture, jobs))
        if options.overwrite:
            jobs = spare_inputs(jobs)
        with (
            PatientProgress(report.console, "comparing") as progress,
            report.tally.stopwatch.running(),
        ):
            for number, job in enumerate(jobs):
                if stop.requested:
                    break
                share = Share(report, progress, number, len(jobs), job.short_name, number)
                share.begin()
                record = self._record(job)
                report.run(record, partial(self._make, job, share), options.debug)
                for warning in record["warnings"]:
                    report.warn(job.short_name, warning)
        report.running = None

    def _record(self, job: Job) -> dict[str, Any]:
        """What is known of a picture before it is touched."""
        from dmsr_cli.cli.batch.report import now

        return {
            **{"input": "-" if job.is_piped_in else str(job.source), "output": None},
            **{"status": None, "error": None, "scale": self.lineup.scale},
            **{"width": None, "height": None, "crop": None, "models": []},
            **{"warnings": [], "input_pixels": None, "started": now(), "finished": None},
        }

    def _make(self, job: Job, share: Share, record: dict[str, Any]) -> str:
        """Run all models on one picture, write the sheet, and say what was done."""
        if job.error:
            raise job.error
        refuse_existing([job.target], self.lineup.options.overwrite)
        if format_of_suffix(job.target.suffix) is None:
            raise ImageError(f"cannot write {job.target_name}: the sheet is a picture: use .png")
        recorder = self._recorder(job)
        image = first_image(job, self.lineup.decoder)
        record.update(warnings=list(image.warnings), input_pixels=image.width * image.height)
        sheet = _Sheet(image, self.lineup.scale, _checked_crop(self.crop, image, job))
        for number, entrant in enumerate(self.lineup.entrants):
            told = _new_told(entrant)
            record["models"].append(told)
            count = len(self.lineup.entrants)
            try:
                result = _restored(job, image, entrant, _part_of(share, number, count), told)
            except DmsrError as error:
                told["error"] = str(error)
                sheet.add_failure(told)
            else:
                sheet.add(result, told)
        failures = [told for told in record["models"] if told["error"] is not None]
        if len(failures) == len(self.lineup.entrants):
            raise ImageError(f"{job.source_name}: no model made a result: {_why(failures)}")
        picture = sheet.picture()
        make_folder(job.target.parent)
        overwrite = self.lineup.options.overwrite
        quality = self.lineup.options.quality
        write_image(picture, job.target, quality=quality, replace=overwrite, before_rename=recorder)
        record.update(output=str(job.target), width=picture.width, height=picture.height)
        record.update(status="ok", crop=sheet.crop())
        if failures:
            raise ImageError(
                f"{job.source_name}: {job.target_name} lacks a model: {_why(failures)}"
            )
        made = f"{picture.width}x{picture.height}, {len(self.lineup.entrants)} models"
        return f"{job.source_name} -> {job.target_name} ({made} at x{self.lineup.scale})"

    def _recorder(self, job: Job) -> Callable[[Path], None] | None:
        if self.results is None or job.is_piped_in:
            return None
        settings = {"compare_models": self.lineup.text, "scale": self.lineup.scale}
        return self.results.recorder(job.target, SourceFile(job.source), settings)


class _Sheet:
    """The sheet of a picture, as it grows. Of each result it keeps what is shown."""

    def __init__(self, image: Image, scale: int, crop: Window | None) -> None:
        self._image = image
        self._scale = scale
        self._window = None if crop is None else Window(*(scale * side for side in crop))
        self._before: SheetCell | None = None
        self._cells: list[SheetCell] = []

    def add(self, result: Image, told: dict[str, Any]) -> None:
        """Take a result; the first one decides what is shown, if nobody else did."""
        window = self._window = self._window or _window_of(result, self._scale)
        if self._before is None:
            canvas = white_canvas(window.height, window.width, result)
            paint_enlarged(canvas, self._image, window, result.height, result.width)
            facts = f"{self._image.width}x{self._image.height}"
            shown = dataclasses.replace(result, pixels=canvas, alpha=None)
            self._before = SheetCell("input, enlarged plainly", facts, shown)
        canvas = white_canvas(window.height, window.width, result)
        paint_result(canvas, result, window)
        facts = (
            f"{told['seconds']:.1f} s, blur {told['kernel_width']:.2f} px, "
            f"noise {told['noise_level']:.1f}"
        )
        shown = dataclasses.replace(result, pixels=canvas, alpha=None)
        self._cells.append(SheetCell(told["model"], facts, shown))

    def add_failure(self, told: dict[str, Any]) -> None:
        """Say in the place of a result why there is none."""
        self._cells.append(SheetCell(told["model"], told["error"], None))

    def crop(self) -> list[int]:
        """Left, top, width and height of what is shown, in pixels of the input."""
        assert self._window is not None, "a result was added"
        top, left, height, width = (side // self._scale for side in self._window)
        return [left, top, width, height]

    def picture(self) -> Image:
        """The sheet."""
        assert self._before is not None, "a result was added"
        assert self._window is not None, "the same"
        cells = [self._before, *self._cells]
        return contact_sheet(cells, self._window.height, self._window.width)


def _of_picture(job: Job) -> Job:
    """The sheet of a clip is a picture, too."""
    if job.is_named_by_user or job.error is not None:
        return job
    return dataclasses.replace(job, target=job.target.with_suffix(".png"))


def _checked_crop(crop: tuple[int, int, int, int] | None, image: Image, job: Job) -> Window | None:
    if crop is None:
        return None
    left, top, width, height = crop
    if left + width > image.width or top + height > image.height:
        raise ImageError(
            f"{job.source_name}: --compare-crop {left},{top},{width},{height} goes beyond the "
            f"picture, which has {image.width}x{image.height} pixels"
        )
    return Window(top, left, height, width)


def _new_told(entrant: Entrant) -> dict[str, Any]:
    """What the record says of a model."""
    return {
        **{"model": entrant.name, "seconds": None, "kernel_width": None},
        **{"noise_level": None, "error": None},
    }


def _part_of(share: Share, number: int, count: int) -> Share:
    """The share of one of the models in the progress of a picture."""
    return dataclasses.replace(
        share, number=share.number * count + number, count=share.count * count
    )


def _restored(
    job: Job, image: Image, entrant: Entrant, share: Share, told: dict[str, Any]
) -> Image:
    """The result of one model; its time is without that of loading it.

    Raises:
        DmsrError: it cannot be loaded, or fails.
    """
    batch = entrant.batch
    if batch is None:
        assert entrant.error is not None, "there is a batch or an error"
        raise entrant.error
    plan = plan_picture(job, image, batch, ".png")  # loads it
    stopwatch = Stopwatch()
    with stopwatch.running():
        made = restore_image(image, plan, batch, share, share.note, check=False)
    told.update(
        seconds=round(stopwatch.seconds, 3),
        kernel_width=made.degradation.kernel_width,
        noise_level=round(made.degradation.noise_level, 2),
    )
    return made.result


def _window_of(result: Image, scale: int) -> Window:
    """What is shown of a result: all of it, or of a large one the part with most detail.

    Its sides are whole pixels of the input.
    """
    if max(result.height, result.width) <= LARGEST_SHOWN:
        return Window(0, 0, result.height, result.width)
    side = CROP_SIDE // scale * scale
    window = telling_window(result, min(side, result.height), min(side, result.width))
    return Window(*(length // scale * scale for length in window))


def _why(failures: Sequence[dict[str, Any]]) -> str:
    """Of the first model that failed."""
    more = f" (and {len(failures) - 1} more)" if failures[1:] else ""
    return f"{failures[0]['model']}{more}: {failures[0]['error']}"
