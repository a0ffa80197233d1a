"""From arguments to a list of pictures, each with the place of its result."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click

from dmsr_cli.errors import DmsrError, ImageError
from dmsr_cli.files import display_name
from dmsr_cli.images import WRITABLE_SUFFIXES, find_images, read_stream
from dmsr_cli.video import WRITABLE_VIDEO_SUFFIXES, is_video

FALLBACK_SUFFIX = ".png"
"""Format of a result whose input's format cannot be written."""
FALLBACK_VIDEO_SUFFIX = ".mp4"
"""The same for clips."""
PIPE = "-"
"""What stands for standard input or output; a file of this name is given as ./-"""


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


def plan_jobs(
    inputs: Sequence[str],
    output: str | None,
    recursive: bool,
    label: str,
    suffix: str | None = None,
) -> list[Job]:
    """Decide where each result goes, without touching a file.

    A picture's result lies beside it, or in the folder `output`, with `label` after its name. A
    folder's results lie in a sibling folder with `label` after its name, or in `output`, with the
    tree mirrored. With one picture, `output` may be the result's file. "-" is standard input, whose
    result goes to standard output by default, or standard output.

    Args:
        inputs: files and folders.
        output: file, folder, "-", or None.
        recursive: take the folders inside folders, too.
        label: what results have after the input's name.
        suffix: of results, in place of the input's.

    Raises:
        click.UsageError: `output` names one file but there is more than one result, or standard
            input has no name to make another from.
    """
    if PIPE in inputs or output == PIPE:
        return [_piped_job(inputs, output)]
    out = Path(output) if output is not None else None
    single = len(inputs) == 1 and not Path(inputs[0]).is_dir()
    if out is not None and not out.is_dir() and _names_a_file(output or ""):
        if not single:
            raise click.UsageError(f"-o {output} names one file, but there are several inputs")
        return [Job(Path(inputs[0]), out, is_named_by_user=True)]
    jobs = []
    for text in inputs:
        source = Path(text)
        if source.is_dir():
            jobs += _folder_jobs(source, out, recursive, label, suffix)
        else:
            name = _result_name(source, label, suffix)
            jobs.append(Job(source, (out or source.parent) / name))
    return _without_collisions(jobs, label)


def _piped_job(inputs: Sequence[str], output: str | None) -> Job:
    if len(inputs) > 1:
        raise click.UsageError("standard input or output (-) takes one picture, not several")
    source, target = Path(inputs[0]), Path(output or PIPE)
    piped_in, piped_out = inputs[0] == PIPE, output in (None, PIPE)
    if not piped_in and source.is_dir():
        raise click.UsageError(f"-o - takes one picture, and {display_name(source)} is a folder")
    if not piped_out and (target.is_dir() or not _names_a_file(str(output))):
        raise click.UsageError("standard input has no name: use -o FILE, or -o -")
    return Job(source, target, None, piped_in, piped_out, is_named_by_user=not piped_out)


def _folder_jobs(
    folder: Path, out: Path | None, recursive: bool, label: str, suffix: str | None
) -> list[Job]:
    root = out or folder.resolve().with_name(folder.resolve().name + label)
    try:
        sources = find_images(folder, recursive)
    except ImageError as error:
        return [Job(folder, root, error)]
    if not sources:
        hint = "" if recursive else " (-r looks into the folders inside it)"
        return [
            Job(folder, root, ImageError(f"no pictures in the folder {display_name(folder)}{hint}"))
        ]
    return [
        Job(source, root / source.relative_to(folder).parent / _result_name(source, label, suffix))
        for source in sources
    ]


def _names_a_file(output: str) -> bool:
    return Path(output).suffix != "" and not output.endswith(("/", os.sep))


def _result_name(source: Path, label: str, suffix: str | None) -> str:
    return f"{source.stem}{label}{_result_suffix(source, suffix)}"


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


def _without_collisions(jobs: list[Job], label: str) -> list[Job]:
    """Give results that would share a name their input's whole name: a.gif beside a.png."""
    taken: set[str] = set()
    unique = []
    for job in jobs:
        target = job.target
        if str(target).casefold() in taken:
            target = target.with_name(f"{job.source.name}{label}{target.suffix}")
        number = 2
        while str(target).casefold() in taken:
            target = target.with_name(f"{job.source.name}{label}_{number}{job.target.suffix}")
            number += 1
        taken.add(str(target).casefold())
        unique.append(dataclasses.replace(job, target=target))
    return unique
