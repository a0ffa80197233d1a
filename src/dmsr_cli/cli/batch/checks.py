"""What options of `dmsr upscale` contradict: each other, the inputs, or the place of a result."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dmsr_cli.cli.batch.sharing import refuse_several
from dmsr_cli.files import display_name

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.jobs import Job
    from dmsr_cli.cli.batch.settings import UpscaleOptions
    from dmsr_cli.resizing import Enlargement, OutputSize


def check_choices(
    options: UpscaleOptions, scale: Enlargement | None, size: OutputSize | None
) -> None:
    """Raise UsageError for options that contradict each other."""
    for contradict, names in (
        (
            options.noise_level is not None and options.denoise is not None,
            "--noise-level and --denoise",
        ),
        (
            options.kernel is not None and options.kernel_width is not None,
            "--kernel and --kernel-width",
        ),
        (scale is not None and size is not None, "--scale and --size"),
    ):
        if contradict:
            raise click.UsageError(f"{names} exclude each other")


def check_sheet(options: UpscaleOptions, others: dict[str, bool]) -> None:
    """Raise UsageError for what has no meaning for a contact sheet of --compare-models.

    Args:
        options: of the command.
        others: the names of further options, and whether each is there.
    """
    there = {
        **others,
        "--compare": options.compare,
        "--save-degradation": options.save_degradation,
        "--skip-existing": options.skip_existing,
        "--format": options.format_suffix is not None,
        "--frames": options.frames != (0, None),
        "--estimate-every": options.estimate_every is not None,
    }
    for name, is_there in there.items():
        if is_there:
            raise click.UsageError(f"--compare-models and {name} exclude each other")


def check_inputs(inputs: tuple[str, ...], files_from: str | None) -> None:
    """Raise UsageError where there is nothing to read names from, or two things."""
    if not inputs and files_from is None:
        raise click.UsageError("name an INPUT, or a list of them with --files-from")
    if "-" in inputs and files_from == "-":
        raise click.UsageError("standard input is a picture or a list (--files-from), not both")


def check_pages(report_file: Path | None, compare_page: Path | None) -> None:
    """Raise UsageError for two files in one place, and for pages of several processes."""
    from dmsr_cli.cli.batch.page_files import is_page

    named = [
        (path, option)
        for path, option in ((report_file, "--report"), (compare_page, "--compare-page"))
        if path is not None
    ]
    if len({os.path.realpath(path) for path, _ in named}) < len(named):
        raise click.UsageError("--report and --compare-page name the same file")
    for path, option in named:
        if is_page(path):
            refuse_several(f"{option} {display_name(path)}")  # pictures stay in their process


def check_watch(
    inputs: Sequence[str], files_from: str | None, output: str | None, dry_run: bool
) -> None:
    """Raise UsageError for what has no end with --watch, or no second time."""
    if "-" in (*inputs, output):
        raise click.UsageError("--watch is for folders, not for standard input or output")
    for contradicts, name in ((files_from is not None, "--files-from"), (dry_run, "--dry-run")):
        if contradicts:
            raise click.UsageError(f"--watch and {name} exclude each other")


def check_jobs(jobs: Sequence[Job], options: UpscaleOptions, as_json: bool) -> None:
    """Raise UsageError where the options do not go with the place of a result."""
    from dmsr_cli.images import format_of_suffix

    _check_kinds(jobs, options.format_suffix)
    for job in jobs:
        if job.is_piped_out:
            _check_standard_output(job, options, as_json)
        elif (wanted := options.format_suffix) is not None and job.is_named_by_user:
            named = format_of_suffix(job.target.suffix)
            if named is not None and named is not format_of_suffix(wanted):
                raise click.UsageError(
                    f"-o {job.target_name} and --format {wanted[1:]} name two formats"
                )


def _check_kinds(jobs: Sequence[Job], suffix: str | None) -> None:
    """Raise UsageError for the format of clips where there is none, and the other way round."""
    from dmsr_cli.video import VIDEO_SUFFIXES, is_video

    known = [job for job in jobs if job.error is None]
    if suffix is None or not known:
        return
    clips = sum(is_video(job.source) and not job.is_piped_in for job in known)
    if suffix in VIDEO_SUFFIXES and not clips:
        raise click.UsageError(f"--format {suffix[1:]} is for clips, and no input is one")
    if suffix not in VIDEO_SUFFIXES and clips == len(known):
        raise click.UsageError(f"--format {suffix[1:]} is for pictures, and all inputs are clips")


def _check_standard_output(job: Job, options: UpscaleOptions, as_json: bool) -> None:
    from dmsr_cli.video import is_video

    if not job.is_piped_in and is_video(job.source):
        raise click.UsageError("standard output takes a picture, not a clip: use -o FILE")
    if as_json:
        raise click.UsageError("--json and a result on standard output exclude each other")
    if options.compare or options.save_degradation:
        raise click.UsageError("--compare and --save-degradation need a result in a file: use -o")
    if sys.stdout is None:  # in Python's words for a descriptor that is closed
        raise click.UsageError("standard output is closed: use -o FILE")
    if sys.stdout.isatty():
        raise click.UsageError("a picture is no text for a terminal: use -o FILE, or > FILE")
