"""One picture of `dmsr upscale` on its way from file to file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsr_cli.cli.batch.consistency_fields import NOT_CHECKED
from dmsr_cli.cli.batch.inputs import same_name
from dmsr_cli.cli.batch.jobs import FALLBACK_SUFFIX, Job
from dmsr_cli.cli.batch.reserving import Reserved
from dmsr_cli.cli.batch.settings import Batch, UpscaleOptions
from dmsr_cli.files import unchanged

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.overlap import Stopwatch
    from dmsr_cli.cli.batch.progress import PatientProgress
    from dmsr_cli.cli.batch.report import BatchReport
    from dmsr_cli.cli.batch.results import SourceFile
    from dmsr_cli.pipeline import Model

READ_AHEAD_BYTES = 16 * 2**20
"""Largest file that is read while the picture before it is restored.

What is read ahead takes memory from the restoration. Most formats tell their pixels only once they
are opened, their bytes at once: this is a JPEG of some 30 megapixels, or a PNG of some 8.
"""


@dataclass(frozen=True)
class Share:
    """Maps the progress of one picture into that of the batch."""

    report: BatchReport
    progress: PatientProgress
    number: int
    count: int
    name: str
    turn: int = 0
    """Its place among all that the report tells of, also in the rounds before."""

    def begin(self) -> None:
        """Show that it is this picture's turn."""
        self.report.running = self.name
        self.progress.rename(self.name)

    def __call__(self, done: float) -> None:
        """Show that this share of the picture is done."""
        self.progress.update((self.number + done) / self.count, self.name)

    def note(self, text: str) -> None:
        """Say that something slower is tried with this picture."""
        self.report.say(f"{self.name}: {text}", number=self.turn)


def of_pass(
    share: Callable[[float], None], number: int, models: list[Model]
) -> Callable[[float], None]:
    """The share of one pass over a picture: it grows with the pixels that the pass sees."""
    costs = [1, models[0].scale ** 2][: len(models)]
    before = sum(costs[:number])
    return lambda done: share((before + done * costs[number]) / sum(costs))


def new_record(job: Job, batch: Batch) -> dict[str, Any]:
    """What is known of a picture before it is touched; with --size, not the models."""
    factor = getattr(batch.wanted, "factor", None)
    return {
        "input": "-" if job.is_piped_in else str(job.source),
        "output": "-" if job.is_piped_out else str(job.target),
        **{"status": None, "error": None},
        **{"scale": factor, "width": None, "height": None},
        **{"model": None if factor is None else batch.names_for(factor)},
        **{"kernel_width": None, "noise_level": None, "seconds": None},
        **{"frames": None, "warnings": [], "reason": None, "input_pixels": None},
        **{"started": None, "finished": None},
        "overrides": batch.steering.overrides,
        **{"estimated_kernel_width": None, "estimated_noise_level": None},
        **NOT_CHECKED,
    }


@dataclass(frozen=True)
class Picture:
    """One input of a batch, with its record and its share of the progress."""

    job: Job
    batch: Batch
    record: dict[str, Any]
    stopwatch: Stopwatch
    share: Share
    reserved: Reserved = field(default_factory=Reserved)

    @property
    def compared(self) -> Path:
        """The file of --compare."""
        return compared_file(self.job.target)

    @property
    def keeps_input(self) -> bool:
        """The input is needed beside the result, for something that shows it."""
        options = self.batch.options
        return options.compare or options.save_degradation or self.share.report.takes_pictures

    def beside(self) -> list[Path]:
        """What is written beside the result."""
        return files_beside(self.job.target, self.batch.options)

    @cached_property
    def source_file(self) -> SourceFile:
        """The input's file, as it is when this is first asked for: before it is read."""
        from dmsr_cli.cli.batch.results import SourceFile

        return SourceFile(self.job.source)

    @property
    def source_digest(self) -> str:
        """What the provenance note says of the input; clips are long, and have no such note."""
        from dmsr_cli.video import is_video

        has_none = self.job.is_piped_in or is_video(self.job.source)
        return "" if has_none else self.source_file.sha256

    def recorder(self, path: Path) -> Callable[[Path], None] | None:
        """What notes a file of this picture in the manifest; None where nothing is noted."""
        from dmsr_cli.cli.batch.fingerprint import settings_of

        results = self.batch.results
        if results is None or self.job.is_piped_in or self.job.is_piped_out:
            return None
        return results.recorder(
            path, self.source_file, settings_of(self.batch, self.job.target.suffix)
        )

    def result_suffix(self, source_format: str) -> str:
        """What says in which format the result is; that of the input where nothing is said."""
        from dmsr_cli.images import FORMATS

        if not self.job.is_piped_out:
            return self.job.target.suffix
        known = FORMATS.get(source_format)
        own = known.suffixes[0] if known is not None else FALLBACK_SUFFIX
        return self.batch.options.format_suffix or own

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Refuse an input that is no file, or changes in the block, in which it is read."""
        if self.job.is_piped_in:
            yield
            return
        with unchanged(self.source_file.path, self.source_file.look):
            yield

    def before_rename_of_frames(self, temporary: Path) -> None:
        """Refuse an input that has changed up to now, when its frames are read one by one."""
        if not self.job.is_piped_in:
            self.source_file.refuse_changed()
        record = self.recorder(self.job.target)
        if record is not None:
            record(temporary)

    def may_replace(self, path: Path) -> bool:
        """A file that is there may be replaced by one of this picture."""
        options, results = self.batch.options, self.batch.results
        if options.overwrite:
            return True
        return options.skip_existing and results is not None and results.is_ours(path)

    def warn(self, text: str) -> None:
        """Put it into the record, and tell people."""
        self.record["warnings"].append(text)
        self.share.report.warn(self.share.name, text, self.share.turn)


def compared_file(target: Path) -> Path:
    """The file of --compare beside a result."""
    return target.with_name(f"{target.stem}_compare.png")


def files_beside(target: Path, options: UpscaleOptions) -> list[Path]:
    """What is written beside a result."""
    beside = []
    if options.save_degradation:
        from dmsr_cli.cli.batch.outputs import consistency_files, degradation_files

        stem = target.with_suffix("")
        beside += [*degradation_files(stem), *consistency_files(stem)]
    if options.compare:
        beside.append(compared_file(target))
    return beside


def may_be_read_ahead(picture: Picture, under_way: Sequence[Picture]) -> bool:
    """Not if the file is large, nor if it, or a result, is what one under way will write."""
    try:
        if picture.job.source.stat().st_size > READ_AHEAD_BYTES:
            return False
    except OSError:
        pass  # for the reading to find out
    written = {_place(path) for other in under_way for path in _results(other)}
    touched = [picture.job.source, *_results(picture)]
    return written.isdisjoint(map(_place, touched))


def _results(picture: Picture) -> list[Path]:
    """What will be written; nothing for a folder that is no picture."""
    return [] if picture.job.error else [picture.job.target, *picture.beside()]


def _place(path: Path) -> str:
    """The same for all names of a file."""
    return same_name(os.path.realpath(path))
