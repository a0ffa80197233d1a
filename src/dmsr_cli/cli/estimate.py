"""`dmsr estimate`: what is wrong with a picture."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dmsr_cli.cli.batch.sharing import refuse_several
from dmsr_cli.cli.completing import complete_files
from dmsr_cli.cli.conditions import ConditionType
from dmsr_cli.cli.options import (
    debug_option,
    input_options,
    limit_options,
    model_options,
    report_option,
)

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.estimates import Estimating
    from dmsr_cli.cli.batch.jobs import Job
    from dmsr_cli.cli.batch.report import BatchReport
    from dmsr_cli.cli.conditions import Condition
    from dmsr_cli.interruption import Interruption

ORDERS: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    "noise": lambda record: -record["noise_level"],
    "blur": lambda record: -record["kernel_width"],
    "name": lambda record: record["input"],
}
"""What the records of --sort are sorted by."""


@click.command()
@input_options
@click.option(
    *("-o", "--output"),
    shell_complete=complete_files,
    metavar="FOLDER|FILE.dmsr.json",
    help="Save here: into a folder, kernel and noise map, as pictures (.png) and arrays (.npy), "
    "the noise over the photo, and NAME.dmsr.json; into a file, that alone, which `dmsr upscale "
    "--degradation` takes.",
)
@click.option(
    "--mean", is_flag=True, help="With -o FILE.dmsr.json, save the mean over several pictures."
)
@click.option(
    "--sort",
    "order",
    type=click.Choice(list(ORDERS)),
    help="Tell all at the end: the noisiest first, the most blurred first, or by name.  "
    "[default: as they come]",
)
@click.option(
    "--where",
    "condition",
    type=ConditionType(),
    metavar="CONDITION",
    help='Print only the paths of the pictures that fulfil it, as "noise_level > 20 and width >= '
    '640" (with --json, only their objects); save only theirs. Fields are the numbers of --json '
    "and megapixels; consistency needs --check. `and` binds closer than `or`.",
)
@click.option(
    *("-0", "--print0"),
    is_flag=True,
    help="With --where, end each path with NUL instead of a new line, as `xargs -0` reads them.",
)
@model_options
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per input on stdout.")
@report_option(can_append=False)
@click.option(
    "--check",
    is_flag=True,
    help="Restore the pictures, too, which takes several times as long, and say how far the "
    "results explain them.",
)
@limit_options
@debug_option
def estimate(
    inputs: tuple[str, ...],
    output: str | None,
    mean: bool,
    order: str | None,
    condition: Condition | None,
    print0: bool,
    recursive: bool,
    scale: int | None,
    model: str | None,
    device: str,
    precision: str,
    overwrite: bool,
    as_json: bool,
    report_file: Path | None,
    check: bool,
    max_pixels: int,
    allow_truncated: bool,
    debug: bool,
) -> int:
    """Show how pictures are blurred and how noisy they are.

    The kernel width is the standard deviation, in pixels of the enlarged picture, of the Gaussian
    nearest to the estimated blur kernel; the noise level is a standard deviation, 0 to 255. "64%
    sure" says how probable it is that the width is at most 0.3 pixels off; of a level, that it is
    at most 10 % off, or 1 where that is more. Of animations and clips, the first frame is looked
    at. INPUT may be a pattern, as "*.png"; - is standard input.
    """
    from dmsr_cli.cli.batch.decoders import decoder_for
    from dmsr_cli.degradation_file import SUFFIX

    refuse_several("estimate")
    file = Path(output) if output is not None and output.endswith(SUFFIX) else None
    _check_choices(file, mean, condition, print0, as_json)
    if condition is not None and condition.asks_for("consistency") and not check:
        raise click.UsageError("--where asks for consistency, which only --check finds out")
    decoder = decoder_for(inputs, max_pixels, allow_truncated)
    from dmsr_cli.cli.batch.estimates import Estimating, estimate_jobs
    from dmsr_cli.cli.batch.outputs import refuse_existing
    from dmsr_cli.cli.batch.report import BatchReport
    from dmsr_cli.files import remove_stray_temporaries
    from dmsr_cli.pipeline import load_model  # takes seconds, in which the decoder starts

    # A folder is named even if it does not exist yet: what is saved has names of its own.
    folder = None if output is None or file is not None else output.rstrip("/") + "/"
    jobs, found = estimate_jobs(inputs, folder, recursive)
    if file is not None:
        if len(jobs) != 1 and not mean:
            raise click.UsageError(f"-o {output} is for one picture: use --mean, or -o FOLDER")
        refuse_existing([file], overwrite)
    places = {file.parent} if file is not None else {job.target.parent for job in jobs}
    for place in places if output is not None else ():
        remove_stray_temporaries(place)
    work = Estimating(
        load_model(model, device, scale=scale, precision=precision),
        *(decoder, condition, None if folder is None else Path(folder)),
        *(file, mean, overwrite),
        check=check,
    )
    report = BatchReport(as_json, text_to_stdout=True)
    report.tally.inputs = found
    if condition is not None:
        report.is_shown = work.is_wanted
    report.echo = _echo_for(report, condition is not None, print0)
    if report_file is not None:
        report.write_to(report_file, jobs, resume=None, replace=overwrite)
    if report.takes_pictures:
        work.show = report.show
    interruption = _estimate_all(jobs, work, report, order, debug)
    status = report.finish(interruption, len(jobs))
    if mean and not interruption.requested:
        report.say(work.write_mean())
    return status


def _check_choices(
    file: Path | None, mean: bool, condition: Condition | None, print0: bool, as_json: bool
) -> None:
    if mean and file is None:
        raise click.UsageError("--mean needs -o FILE.dmsr.json")
    if print0 and (condition is None or as_json):
        raise click.UsageError("--print0 is for the paths that --where prints, without --json")


def _estimate_all(
    jobs: list[Job], work: Estimating, report: BatchReport, order: str | None, debug: bool
) -> Interruption:
    """Do all jobs and tell of them, in their order or, at the end, in that which is wanted."""
    from dmsr_cli.cli.batch.estimates import new_record
    from dmsr_cli.cli.batch.progress import PatientProgress
    from dmsr_cli.cli.batch.stopping import stoppable

    held: list[tuple[dict[str, Any], str]] = []
    with (
        stoppable(len(jobs) != 1, report.announce_the_end) as interruption,
        PatientProgress(report.console, "estimating") as progress,
        report.tally.stopwatch.running(),
    ):
        for number, job in enumerate(jobs):
            if interruption.requested:
                break
            report.running = job.short_name
            progress.update(number / len(jobs), job.short_name)
            record = new_record(job, work.model)
            text = report.attempt(record, partial(work.estimate, job), debug)
            if order is None or record["status"] == "failed":
                report.tell(record, text)
            else:
                held.append((record, text))
            for warning in record["warnings"]:
                report.warn(job.short_name, warning)
    if order is not None:
        key = ORDERS[order]
        for record, text in sorted(held, key=lambda pair: key(pair[0])):
            report.tell(record, text)
    return interruption


def _echo_for(report: BatchReport, are_paths: bool, print0: bool) -> Callable[[str], object]:
    """How lines get to standard output: to people, or to a program."""
    if sys.stdout.isatty() and report.console.is_terminal and not print0:
        # A progress bar may be there, and lines must come above it, not after it.
        def show(text: str) -> None:
            report.say(text if are_paths else _wrapped(text))

        return show
    return partial(_echo_path, end=b"\0" if print0 else b"\n") if are_paths else click.echo


def _echo_path(path: str, end: bytes) -> None:
    """A path to the byte, whatever is in its name."""
    click.echo(os.fsencode(path) + end, nl=False)


def _wrapped(text: str) -> str:
    """Lines for a terminal, broken between words."""
    columns = max(shutil.get_terminal_size().columns, 20)
    wrapper = textwrap.TextWrapper(columns, break_long_words=False, break_on_hyphens=False)
    lines = []
    for line in text.splitlines():
        wrapper.subsequent_indent = " " * (len(line) - len(line.lstrip()) + 4)
        lines += wrapper.wrap(line)
    return "\n".join(lines)
