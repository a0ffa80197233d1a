"""`dmsr upscale`: restore pictures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dmsr_cli.cli.batch import Batch, Models, UpscaleOptions
from dmsr_cli.cli.options import (
    FramesType,
    TileType,
    debug_option,
    network_options,
    planning_options,
    result_options,
    size_options,
    source_options,
)
from dmsr_cli.errors import DmsrError
from dmsr_cli.files import display_name

if TYPE_CHECKING:
    from dmsr_cli.cli.jobs import Job
    from dmsr_cli.cli.report import BatchReport
    from dmsr_cli.resizing import Enlargement, OutputSize


@click.command()
@source_options
@click.option(
    *("-o", "--output"),
    metavar="FILE|FOLDER|-",
    help="Where results go; - is standard output.  [default: beside the input, as NAME_x4]",
)
@result_options
@size_options
@network_options
@click.option(
    *("--tile", "tile"),
    type=TileType(),
    default="auto",
    show_default=True,
    help="Side of a tile in LR pixels: auto is as large as the memory allows, 0 no tiles at all.",
)
@click.option(
    "--overlap",
    type=click.IntRange(0),
    help="LR pixels that neighbouring tiles share.  [default: what the network needs to see]",
)
@click.option(
    "--kernel-width",
    type=click.FloatRange(0, 20, min_open=True),
    help="Use a Gaussian blur kernel of this width in HR pixels instead of the estimated kernel.",
)
@click.option(
    "--noise-level",
    type=click.FloatRange(0, 255),
    help="Scale the estimated noise to this standard deviation (0 to 255).",
)
@click.option(
    "--denoise",
    type=click.FloatRange(0, 100),
    help="Scale the estimated noise by this factor; 1 is as estimated.",
)
@click.option(
    "--frames",
    type=FramesType(),
    default=":",
    help="Of animations, pages and clips, only the frames from A up to, not including, B; counted "
    "from 0.",
)
@click.option(
    "--estimate-every",
    type=click.IntRange(1),
    metavar="N",
    help="Estimate the blur of animations and clips anew every N frames.  [default: once]",
)
@click.option("--save-degradation", is_flag=True, help="Save kernel and noise map beside it.")
@click.option("--compare", is_flag=True, help="Save a before/after picture beside it.")
@click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
@planning_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object per input on stdout.")
@debug_option
def upscale(
    inputs: tuple[str, ...],
    output: str | None,
    recursive: bool,
    files_from: str | None,
    scale: Enlargement | None,
    size: OutputSize | None,
    passes: int,
    model: str | None,
    device: str,
    precision: str,
    as_json: bool,
    dry_run: bool,
    **choices: Any,
) -> int:
    """Restore pictures, or folders of pictures, at x2, x3, x4, or any size.

    Blur kernel and noise map are estimated once for each picture and guide its restoration.
    Animations and clips keep their timing; their frames share the blur kernel. INPUT may be a
    pattern, as "*.png"; - is standard input. The clips of a folder are left alone: name those that
    you want.
    """
    from dmsr_cli.cli.dry_run import explain
    from dmsr_cli.cli.inputs import read_list, remarks
    from dmsr_cli.cli.jobs import Naming, plan_jobs
    from dmsr_cli.cli.overlap import Stopwatch, in_order
    from dmsr_cli.cli.pictures import Picture, Share, may_be_read_ahead, new_record
    from dmsr_cli.cli.report import BatchReport, PatientProgress
    from dmsr_cli.cli.results import Results, all_up_to_date
    from dmsr_cli.cli.stages import finish, read, restore
    from dmsr_cli.resizing import Enlargement

    options = UpscaleOptions(**choices)
    _check_choices(options, scale, size)
    _check_inputs(inputs, files_from)
    models = Models(model, device, precision)
    wanted = size or scale or Enlargement(models.default_scale)
    report = BatchReport(as_json)
    results = Results(lambda text: report.say(f"dmsr: warning: {text}", style="yellow"))
    naming = Naming(
        *(wanted.label, options.suffix, options.format_suffix),
        keeps_stem=options.compare or options.save_degradation,
    )
    listed = None if files_from is None else read_list(files_from)
    if not (inputs or listed):
        raise DmsrError(f"the list of files {display_name(files_from or '')} is empty")
    planned = plan_jobs(inputs, output, recursive, naming, listed, results)
    jobs = planned.jobs
    remembers = planned.is_batch or options.skip_existing
    batch = Batch(wanted, passes, models, options, results if remembers else None)
    _check_jobs(jobs, options, as_json)
    if dry_run or not all_up_to_date(jobs, batch):
        _prepare(batch, report, load=not dry_run)
    with PatientProgress(report.console, "upscaling") as progress:
        pictures = [
            Picture(
                *(job, batch, new_record(job, batch), Stopwatch()),
                Share(report, progress, number, len(jobs), job.short_name),
            )
            for number, job in enumerate(jobs)
        ]
        if dry_run:
            return explain(pictures, report, remarks(planned.inputs))
        in_order(pictures, read, restore, finish, may_be_read_ahead)
    for remark in remarks(planned.inputs):
        report.say(remark)
    return report.finish()


def _check_inputs(inputs: tuple[str, ...], files_from: str | None) -> None:
    """Raise UsageError where there is nothing to read names from, or two things."""
    from dmsr_cli.cli.inputs import PIPE

    if not inputs and files_from is None:
        raise click.UsageError("name an INPUT, or a list of them with --files-from")
    if PIPE in inputs and files_from == PIPE:
        raise click.UsageError("standard input is a picture or a list (--files-from), not both")


def _prepare(batch: Batch, report: BatchReport, load: bool) -> None:
    """See that what is wanted can be done before it begins, and say with what it is done."""
    from dmsr_cli.pipeline import check_tile
    from dmsr_cli.resizing import SECOND_PASS, Enlargement

    options, models, wanted = batch.options, batch.models, batch.wanted
    check_tile(options.tile, options.overlap)
    names, count = models.name, 0
    where = models.device
    if isinstance(wanted, Enlargement):
        names, count = batch.names_for(wanted.factor), len(batch.scales_for(wanted.factor))
        if load:
            batch.models_for(wanted.factor)
    elif load and len(models.scales) == 1:
        models.of_scale(models.scales[0])
    report.say(f"{names} on {where}")
    if count == 2 or (batch.passes == 2 and not count):
        report.say(f"two passes{'' if count else ' where one is too little'}: {SECOND_PASS}")


def _check_choices(
    options: UpscaleOptions, scale: Enlargement | None, size: OutputSize | None
) -> None:
    """Raise UsageError for options that contradict each other."""
    for contradict, names in (
        (
            options.noise_level is not None and options.denoise is not None,
            "--noise-level and --denoise",
        ),
        (scale is not None and size is not None, "--scale and --size"),
    ):
        if contradict:
            raise click.UsageError(f"{names} exclude each other")


def _check_jobs(jobs: Sequence[Job], options: UpscaleOptions, as_json: bool) -> None:
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
