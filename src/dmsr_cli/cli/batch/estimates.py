"""Estimates one picture, fills in its record, says what was found, and saves what is wanted."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsr_cli import pipeline
from dmsr_cli.assessment import Assessment, assess
from dmsr_cli.assessment.words import blur_words, level_text, noise_words
from dmsr_cli.cli.batch.consistency_fields import (
    NOT_CHECKED,
    check_estimate,
    fields_of,
    warnings_of,
)
from dmsr_cli.cli.batch.inputs import PIPE, Inputs, same_name
from dmsr_cli.cli.batch.jobs import Job, Naming, plan_jobs
from dmsr_cli.cli.batch.moving import first_image
from dmsr_cli.cli.batch.outputs import (
    Origin,
    degradation_files,
    make_folder,
    refuse_existing,
    save_degradation,
)
from dmsr_cli.cli.batch.report import now
from dmsr_cli.cli.conditions import Condition
from dmsr_cli.degradation_file import mean_degradation, write_degradation
from dmsr_cli.errors import ImageError
from dmsr_cli.files import display_name
from dmsr_cli.images import write_image
from dmsr_cli.pages import Exhibit
from dmsr_cli.visual import noise_overlay

if TYPE_CHECKING:
    from dmsr_cli.consistency import Consistency
    from dmsr_cli.images import DirectDecoder, Image
    from dmsr_cli.pipeline import Degradation, Model

STANDARD_INPUT_STEM = "standard_input"
"""The beginning of the names of what is saved of a picture that has none."""

CHANNELS_DIFFER = 0.1
"""By what share of the noise level those of the channels differ where they are told of."""


@dataclass
class Estimating:
    """What the pictures of one call have in common."""

    model: Model
    decoder: DirectDecoder
    condition: Condition | None
    """What a picture must fulfil to be told of, and saved."""
    folder: Path | None
    """Where kernels and noise maps go; None if they are not saved."""
    file: Path | None
    """The degradation file that is made, of the only picture or of the mean; None if none is."""
    mean: bool
    overwrite: bool
    check: bool = False
    """Whether to restore it, too, and to see how far the result explains it."""
    show: Callable[[dict[str, Any], Exhibit], None] | None = None
    """Takes what the pages of the report show beside a record; None if there are none."""
    collected: list[Degradation] = field(default_factory=list)
    """What the mean is taken of: kernels, and noise maps of one pixel that has the level of each
    channel, because the maps of a whole burst would fill the memory."""

    def estimate(self, job: Job, record: dict[str, Any]) -> str:
        """Do one job, fill in its record, and say what was found.

        Raises:
            DmsrError: the picture cannot be read or estimated, or a file cannot be written.
        """
        if job.error:
            raise job.error
        if self.condition is None:
            refuse_existing(self._files(job), self.overwrite)  # before the work, not after it
        image = first_image(job, self.decoder)
        degradation = pipeline.estimate(image, self.model)
        assessment = assess(degradation, image, self.model.scale)
        consistency = check_estimate(image, degradation, self.model) if self.check else None
        found = _found(image, assessment, consistency)
        if self.is_wanted(found):
            record["output"] = self._save(job, image, degradation)
            if self.show is not None:
                map_of_it = None if consistency is None else consistency.map
                kernel, noise_map = degradation.kernel, degradation.noise_map
                self.show(record, Exhibit(image, kernel, noise_map, consistency_map=map_of_it))
        record.update(found)
        if self.condition:
            return str(job.source)
        said = told(job, assessment, self.model.scale)
        if consistency is not None:
            said += f"\n  the result explains it to {consistency.decibels:.1f} dB"
        return said

    def is_wanted(self, record: dict[str, Any]) -> bool:
        """Whether a record fulfils the condition, if there is one."""
        return self.condition is None or self.condition.holds(record)

    def write_mean(self) -> str:
        """Write the mean of what was collected; returns a line for people.

        Raises:
            DmsrError: there is nothing, or the file cannot be written.
        """
        assert self.file is not None, "the command line refuses --mean without a file"
        if not self.collected:
            raise ImageError(f"{display_name(self.file)} is not written: no picture to take")
        mean = mean_degradation(self.collected)
        count = len(self.collected)
        source = f"mean of {count} picture{'s' if count > 1 else ''}"
        self._write_file(self.file, mean, source)
        blur = blur_words(mean.kernel_width, self.model.scale)
        return f"{display_name(self.file)}: {source}: {blur}; {noise_words(mean.noise_level)}"

    def _files(self, job: Job) -> list[Path]:
        if self.mean:
            return []
        if self.folder is not None:
            return [*degradation_files(job.target), _overlay_file(job.target)]
        return [] if self.file is None else [self.file]

    def _save(self, job: Job, image: Image, degradation: Degradation) -> str | None:
        """Returns the file, or the beginning of the names of several; None if none is wanted."""
        refuse_existing(self._files(job), self.overwrite)
        if self.mean:
            self.collected.append(mean_degradation([degradation]))
            return None
        if self.folder is not None:
            make_folder(job.target.parent)
            origin = Origin(self.model.scale, self.model.name, job.source.name)
            save_degradation(degradation, job.target, origin, lambda path: self.overwrite)
            overlay = noise_overlay(image.pixels, degradation.noise_map)
            write_image(overlay, _overlay_file(job.target), replace=self.overwrite)
            return str(job.target)
        if self.file is not None:
            self._write_file(self.file, degradation, job.short_name)
            return str(self.file)
        return None

    def _write_file(self, path: Path, degradation: Degradation, source: str) -> None:
        make_folder(path.parent)
        write_degradation(
            path,
            degradation,
            scale=self.model.scale,
            model=self.model.name,
            source=source,
            replace=self.overwrite,
        )


def _overlay_file(stem: Path) -> Path:
    return Path(f"{stem}_noise_overlay.png")


def estimate_jobs(
    inputs: Sequence[str], folder: str | None, recursive: bool
) -> tuple[list[Job], Inputs]:
    """What there is to look at, and what was found besides."""
    if tuple(inputs) == (PIPE,):  # it has no name that the saved files could have
        stem = Path(folder or ".") / STANDARD_INPUT_STEM
        return [Job(Path(PIPE), stem, is_piped_in=True)], Inputs()
    planned = plan_jobs(inputs, folder, recursive, Naming(""))
    stems = _stems(planned.jobs)
    jobs = [
        dataclasses.replace(job, target=stem) for job, stem in zip(planned.jobs, stems, strict=True)
    ]
    return jobs, planned.inputs


def _stems(jobs: Sequence[Job]) -> Iterator[Path]:
    """The beginning of the names of what is saved: the input's whole name, once in a folder.

    Files of a.png and a.jpg must not meet, nor those of a.b.png and a_b.png.
    """
    taken: set[str] = set()
    for job in jobs:
        plain = job.target.with_name(job.source.name.replace(".", "_"))
        numbered = (plain.with_name(f"{plain.name}_{number}") for number in itertools.count(2))
        names = itertools.chain([plain], numbered)
        stem = next(stem for stem in names if job.error or same_name(str(stem)) not in taken)
        if job.error is None:
            taken.add(same_name(str(stem)))
        yield stem


def new_record(job: Job, model: Model) -> dict[str, Any]:
    """What is known of a picture before it is touched."""
    return {
        **{"input": PIPE if job.is_piped_in else str(job.source), "status": None, "error": None},
        **{"scale": model.scale, "warnings": []},
        **{"width": None, "height": None, "model": model.name},
        **{"kernel_width": None, "noise_level": None, "output": None},
        **{"input_pixels": None, "started": now(), "finished": None},
        **{"noise_levels": None, "anisotropy": None, "orientation": None},
        **{"kernel_confidence": None, "noise_confidence": None},
        **{"sentence": None, "reservations": []},
        **NOT_CHECKED,
    }


def _found(image: Image, assessment: Assessment, consistency: Consistency | None) -> dict[str, Any]:
    """What an estimate adds to the record."""
    turned = assessment.orientation
    return {
        **{"status": "ok", "warnings": [*image.warnings, *warnings_of(consistency)]},
        **{"input_pixels": image.width * image.height},
        **{"width": image.width, "height": image.height},
        **{"kernel_width": assessment.kernel_width},
        "noise_level": round(assessment.noise_level, 2),
        "noise_levels": [round(level, 2) for level in assessment.noise_levels],
        "anisotropy": round(assessment.anisotropy, 2),
        "orientation": None if turned is None else round(turned, 1) % 180,
        "kernel_confidence": round(assessment.kernel_confidence, 2),
        "noise_confidence": round(assessment.noise_confidence, 2),
        "sentence": assessment.sentence,
        "reservations": list(assessment.reservations),
        **fields_of(consistency),
    }


def told(job: Job, assessment: Assessment, scale: int) -> str:
    """The line about a picture, and below it one for each thing that is out of the ordinary."""
    lines = [
        f"{job.source_name}: {blur_words(assessment.kernel_width, scale)} "
        f"({assessment.kernel_confidence:.0%} sure); {noise_words(assessment.noise_level)} "
        f"({_channels(assessment)}{assessment.noise_confidence:.0%} sure)"
    ]
    if assessment.orientation is not None:
        lines.append(
            f"the kernel is {assessment.anisotropy:.1f} times as long as wide, "
            f"at {round(assessment.orientation) % 180} degrees"
        )
    return "\n  ".join([*lines, *assessment.reservations])


def _channels(assessment: Assessment) -> str:
    """The noise levels of the channels, where they differ so that it means something."""
    levels = assessment.noise_levels
    if max(levels) - min(levels) <= max(1, CHANNELS_DIFFER * assessment.noise_level):
        return ""
    return "R {}, G {}, B {}; ".format(*map(level_text, levels))
