"""From arguments to a list of pictures, each with the place of its result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from dmsr_cli.errors import DmsrError, ImageError
from dmsr_cli.files import display_name
from dmsr_cli.images import WRITABLE_SUFFIXES, find_images

FALLBACK_SUFFIX = ".png"
"""Format of a result whose input's format cannot be written."""


@dataclass(frozen=True)
class Job:
    """One input; `error` says at once why there is nothing to do for it."""

    source: Path
    target: Path
    error: DmsrError | None = None


def plan_jobs(inputs: Sequence[str], output: str | None, recursive: bool, label: str) -> list[Job]:
    """Decide where each result goes, without touching a file.

    A picture's result lies beside it, or in the folder `output`, with `label` after its name. A
    folder's results lie in a sibling folder with `label` after its name, or in `output`, with the
    tree mirrored. With one picture, `output` may be the result's file.

    Raises:
        click.UsageError: `output` is a file name but there is more than one result.
    """
    out = Path(output) if output is not None else None
    single = len(inputs) == 1 and not Path(inputs[0]).is_dir()
    if out is not None and not out.is_dir() and _names_a_file(output or ""):
        if not single:
            raise click.UsageError(f"-o {output} names one file, but there are several inputs")
        return [Job(Path(inputs[0]), out)]
    jobs = []
    for text in inputs:
        source = Path(text)
        if source.is_dir():
            jobs += _folder_jobs(source, out, recursive, label)
        else:
            jobs.append(Job(source, (out or source.parent) / _result_name(source, label)))
    return _without_collisions(jobs, label)


def _folder_jobs(folder: Path, out: Path | None, recursive: bool, label: str) -> list[Job]:
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
        Job(source, root / source.relative_to(folder).parent / _result_name(source, label))
        for source in sources
    ]


def _names_a_file(output: str) -> bool:
    return Path(output).suffix != "" and not output.endswith(("/", os.sep))


def _result_name(source: Path, label: str) -> str:
    suffix = source.suffix if source.suffix.lower() in WRITABLE_SUFFIXES else FALLBACK_SUFFIX
    return f"{source.stem}{label}{suffix}"


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
        unique.append(Job(job.source, target, job.error))
    return unique
