"""From arguments to a list of pictures, each with the place of its result."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from dmsr_cli.cli.batch.inputs import PIPE, Input, Inputs, find_inputs, is_folder, same_name
from dmsr_cli.errors import DmsrError, ImageError
from dmsr_cli.files import display_name
from dmsr_cli.images import WRITABLE_SUFFIXES, read_stream
from dmsr_cli.video import WRITABLE_VIDEO_SUFFIXES, is_video

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.results import Results

FALLBACK_SUFFIX = ".png"
"""Format of a result whose input's format cannot be written."""
FALLBACK_VIDEO_SUFFIX = ".mp4"
"""The same for clips."""


@dataclass(frozen=True)
class Job:
    """One input; `error` says at once why there is nothing to do for it."""

    source: Path
    target: Path
    error: DmsrError | None = None
    is_piped_in: bool = False
    """The picture comes from standard input; `source` has no meaning."""
    is_piped_out: bool = False
    """The result goes to standard output; `target` has no meaning."""
    is_named_by_user: bool = False
    """`target` is what -o says, to the letter."""

    @property
    def source_name(self) -> str:
        """The input as messages show it."""
        return "standard input" if self.is_piped_in else display_name(self.source)

    @property
    def short_name(self) -> str:
        """The input without its folders."""
        return self.source_name if self.is_piped_in else display_name(self.source.name)

    @property
    def target_name(self) -> str:
        """The result as messages show it."""
        return "standard output" if self.is_piped_out else display_name(self.target)

    def open(self) -> Path | BinaryIO:
        """What to read the picture from: standard input is read to its end, once.

        Raises:
            ImageError: standard input is closed, empty, or has too much in it.
        """
        if not self.is_piped_in:
            return self.source
        if sys.stdin is None:  # in Python's words for a descriptor that is closed
            raise ImageError(
                "cannot read standard input: it is closed; a picture must be sent to it"
            )
        return read_stream(sys.stdin.buffer)


@dataclass(frozen=True)
class Naming:
    """How results are called after their inputs."""

    label: str
    """What folders of results get after the folder's name: the size, as _x4."""
    ending: str | None = None
    """What results get instead, where something else is wanted."""
    format_suffix: str | None = None
    """In place of the input's suffix, where another format is wanted."""
    keeps_stem: bool = False
    """Other files lie beside a result, called after its name without the suffix."""

    def of(self, source: Path) -> str:
        """The name of a source's result."""
        return f"{source.stem}{self.after_name}{_result_suffix(source, self.format_suffix)}"

    @property
    def after_name(self) -> str:
        """What stands between the input's name and the suffix."""
        return self.label if self.ending is None else self.ending


@dataclass(frozen=True)
class Jobs:
    """What there is to do, and what was found besides."""

    jobs: list[Job]
    inputs: Inputs

    @property
    def is_batch(self) -> bool:
        """Not just one file, named alone: its results are to be remembered."""
        return self.inputs.is_batch


def plan_jobs(
    inputs: Sequence[str],
    output: str | None,
    recursive: bool,
    naming: Naming,
    listed: Sequence[str] | None = None,
    results: Results | None = None,
) -> Jobs:
    """Decide where each result goes, without touching a file.

    A picture's result lies beside it, or in the folder `output`, with a label after its name. A
    folder's results lie in a sibling folder with the size after its name, or in `output`, with the
    tree mirrored. With one picture, `output` may be the result's file. "-" is standard input, whose
    result goes to standard output by default, or standard output.

    Args:
        inputs: files, folders and patterns.
        output: file, folder, "-", or None.
        recursive: take the folders inside folders, too.
        naming: what results are called.
        listed: files and folders of a list, to the letter; None if there is no list.
        results: what is known of earlier runs: their results are no inputs, if found in a folder
            or named beside what they were made from, and a name that belongs to the result of
            another input is not taken.

    Raises:
        click.UsageError: `output` names one file but there is more than one result, standard
            input has no name to make another from, or a result would have its input's name.
    """
    if PIPE in inputs or output == PIPE:
        return Jobs([_piped_job(inputs, output, listed)], Inputs())
    out = Path(output) if output is not None else None
    asked = () if results is None else (results.is_listed, results.owner_of)
    found = find_inputs(inputs, listed, recursive, out, *asked)
    if out is not None and not is_folder(out) and _names_a_file(output or ""):
        if found.named > 1 or any(file.folder is not None for file in found.files):
            raise click.UsageError(f"-o {output} names one file, but there are several inputs")
        jobs = [Job(file.path, out, file.error, is_named_by_user=True) for file in found.files]
        return Jobs(jobs, found)
    jobs = [_job_of(file, out, naming) for file in found.files]
    if naming.ending == "":
        _refuse_names_of_inputs(jobs)
    return Jobs(_without_collisions(jobs, naming, results), found)


def _job_of(file: Input, out: Path | None, naming: Naming) -> Job:
    if file.folder is None:
        return Job(file.path, (out or file.path.parent) / naming.of(file.path), file.error)
    root = out or _folder_beside(file.folder, naming.label)
    if file.error is not None or root is None:
        lacks = ImageError(f"{file.folder} has no folder beside it: use -o FOLDER")
        return Job(file.path, root or file.folder, file.error or lacks)
    return Job(file.path, root / file.path.relative_to(file.folder).parent / naming.of(file.path))


def _folder_beside(folder: Path, label: str) -> Path | None:
    """Where the results of a folder go; None for the root of all folders."""
    # Spelled as it was named, where that is a name: messages stay short.
    whole = folder if folder.name not in ("", "..") else folder.resolve()
    return whole.with_name(whole.name + label) if whole.name else None


def _refuse_names_of_inputs(jobs: list[Job]) -> None:
    whole = functools.cache(os.path.realpath)
    for job in jobs:
        if job.error is None and whole(job.target.parent) == whole(job.source.parent):
            raise click.UsageError(
                "an empty --suffix needs results in another folder than their inputs: use -o FOLDER"
            )


def spare_inputs(jobs: Sequence[Job]) -> list[Job]:
    """For --overwrite: a job whose result would replace another job's input gets an error."""
    whole = functools.cache(os.path.realpath)
    sources = {job.source.name for job in jobs if job.error is None}
    alike = {job.target.name for job in jobs} & sources  # few: asking the system takes long
    inputs = {whole(job.source) for job in jobs if job.source.name in alike}

    def spared(job: Job) -> Job:
        if job.error is not None or job.is_piped_out or job.target.name not in alike:
            return job
        place = whole(job.target)
        if place not in inputs or place == whole(job.source):
            return job
        text = f"{job.target_name} is an input, too, and no result: use --suffix or another -o"
        return dataclasses.replace(job, error=ImageError(text))

    return [spared(job) for job in jobs]


def _piped_job(inputs: Sequence[str], output: str | None, listed: Sequence[str] | None) -> Job:
    if len(inputs) != 1 or listed is not None:
        raise click.UsageError("standard input or output (-) takes one picture, not several")
    source, target = Path(inputs[0]), Path(output or PIPE)
    piped_in, piped_out = inputs[0] == PIPE, output in (None, PIPE)
    if not piped_in and is_folder(source):
        raise click.UsageError(f"-o - takes one picture, and {display_name(source)} is a folder")
    if not piped_out and (is_folder(target) or not _names_a_file(str(output))):
        raise click.UsageError("standard input has no name: use -o FILE, or -o -")
    return Job(source, target, None, piped_in, piped_out, is_named_by_user=not piped_out)


def _names_a_file(output: str) -> bool:
    return Path(output).suffix != "" and not output.endswith(("/", os.sep))


def _result_suffix(source: Path, wanted: str | None) -> str:
    """The suffix that is wanted, unless it is a still's and the input a clip, or the other way."""
    if is_video(source):
        if wanted in WRITABLE_VIDEO_SUFFIXES:
            return str(wanted)
        written = source.suffix.lower() in WRITABLE_VIDEO_SUFFIXES
        return source.suffix if written else FALLBACK_VIDEO_SUFFIX
    if wanted is not None and wanted not in WRITABLE_VIDEO_SUFFIXES:
        return wanted
    return source.suffix if source.suffix.lower() in WRITABLE_SUFFIXES else FALLBACK_SUFFIX


def _without_collisions(jobs: list[Job], naming: Naming, results: Results | None) -> list[Job]:
    """Give results that would share a name their input's whole name: a.gif beside a.png.

    What an earlier run called the result of another input keeps its name, whatever came since.
    """
    taken: set[str] = set()
    whole = functools.cache(os.path.realpath)

    def place_of(target: Path) -> str:
        name = target.stem if naming.keeps_stem else target.name
        return same_name(os.path.join(whole(target.parent), name))  # noqa: PTH118 - many, and faster

    def is_free(target: Path, job: Job) -> bool:
        if place_of(target) in taken:
            return False
        owner = None if results is None else results.owner_of(target)
        return owner is None or same_name(str(owner)) == same_name(os.path.realpath(job.source))

    unique = []
    for job in jobs:
        if job.error is not None:
            unique.append(job)
            continue
        start, suffix = f"{job.source.name}{naming.after_name}", job.target.suffix
        numbered = (f"{start}_{number}{suffix}" for number in itertools.count(2))
        names = itertools.chain([job.target.name, f"{start}{suffix}"], numbered)
        target = next(target for target in map(job.target.with_name, names) if is_free(target, job))
        taken.add(place_of(target))
        unique.append(dataclasses.replace(job, target=target))
    return unique
