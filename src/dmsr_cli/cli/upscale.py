"""`dmsr upscale`: restore pictures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dmsr_cli.cli.batch import Batch, Models, UpscaleOptions, names_of
from dmsr_cli.cli.options import (
    FramesType,
    TileType,
    debug_option,
    input_options,
    limit_options,
    network_options,
    report_option,
    result_options,
    size_options,
    watch_option,
)
from dmsr_cli.cli.sharing import Alone, refuse_several, shared

if TYPE_CHECKING:
    from dmsr_cli.cli.jobs import Job
    from dmsr_cli.resizing import Enlargement, OutputSize


@click.command()
@input_options
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
@click.option("--skip-existing", is_flag=True, help="Leave results that are there already.")
@watch_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per input on stdout.")
@report_option
@limit_options
@debug_option
@shared
def upscale(
    inputs: tuple[str, ...],
    output: str | None,
    recursive: bool,
    scale: Enlargement | None,
    size: OutputSize | None,
    passes: int,
    model: str | None,
    device: str,
    precision: str,
    watch: bool,
    as_json: bool,
    report_file: Path | None,
    team: Alone,
    **choices: Any,
) -> int:
    """Restore pictures, or folders of pictures, at x2, x3, x4, or any size.

    Blur kernel and noise map are estimated once for each picture and guide its restoration.
    Animations and clips keep their timing; their frames share the blur kernel. INPUT - is standard
    input. The clips of a folder are left alone: name those that you want.
    """
    from dmsr_cli.cli.decoders import decoder_for

    if watch:
        refuse_several("--watch")
    choices["skip_existing"] |= watch
    _check_watch(watch, inputs, output)
    options = UpscaleOptions(**choices)
    _check_choices(options, scale, size)
    # It starts while torch is imported, which takes seconds.
    decoder = decoder_for(inputs, options.max_pixels, options.allow_truncated)
    from dmsr_cli.cli.jobs import plan_jobs
    from dmsr_cli.cli.rounds import Rounds
    from dmsr_cli.cli.stopping import stoppable
    from dmsr_cli.cli.watch import Watch, looks
    from dmsr_cli.files import display_name
    from dmsr_cli.pipeline import check_tile
    from dmsr_cli.resizing import SECOND_PASS, Enlargement

    check_tile(options.tile, options.overlap)
    models = Models(model, team.device(device), precision)
    wanted = size or scale or Enlargement(models.default_scale)
    batch = Batch(wanted, passes, models, options, decoder)
    known = batch.models_for(wanted.factor) if isinstance(wanted, Enlargement) else []
    report = team.report(as_json)

    def plan(some: Sequence[str]) -> list[Job]:
        return plan_jobs(some, output, recursive, label=wanted.label, suffix=options.suffix)

    watched = Watch(inputs, plan, report.alert) if watch else None

    def first_jobs() -> Sequence[Job]:
        planned = plan(inputs) if watched is None else watched.begin()
        if any(job.is_piped_in or job.is_piped_out for job in planned):
            refuse_several("standard input or output")
        _check_jobs(planned, options, as_json)
        return planned

    jobs = team.agree(first_jobs)
    if report_file is not None:
        report.write_to(report_file, jobs, options.skip_existing, options.overwrite)
    report.say(f"{names_of(known) or models.name} on {models.device}")
    if len(known) == 2 or (passes == 2 and not known):
        report.say(f"two passes{'' if known else ' where one is too little'}: {SECOND_PASS}")
    is_batch = watch or len(jobs) != 1
    with stoppable(is_batch, report.announce_the_end) as interruption:
        rounds = Rounds(batch, known, report, team, lambda: interruption.requested)
        rounds.do(jobs)
        if watched is not None:
            report.say(f"watching {' '.join(map(display_name, inputs))}; Ctrl-C ends it")
            for jobs in looks(watched, rounds.should_stop):
                rounds.do(jobs)
    return report.finish(interruption, rounds.count, is_endless=watch)


def _check_choices(
    options: UpscaleOptions, scale: Enlargement | None, size: OutputSize | None
) -> None:
    """Raise UsageError for options that contradict each other."""
    for contradict, names in (
        (options.overwrite and options.skip_existing, "--overwrite and --skip-existing"),
        (
            options.noise_level is not None and options.denoise is not None,
            "--noise-level and --denoise",
        ),
        (scale is not None and size is not None, "--scale and --size"),
    ):
        if contradict:
            raise click.UsageError(f"{names} exclude each other")


def _check_watch(watch: bool, inputs: Sequence[str], output: str | None) -> None:
    if watch and "-" in (*inputs, output):
        raise click.UsageError("--watch is for folders, not for standard input or output")


def _check_jobs(jobs: Sequence[Job], options: UpscaleOptions, as_json: bool) -> None:
    """Raise UsageError where the options do not go with the place of a result."""
    from dmsr_cli.images import format_of_suffix

    _check_kinds(jobs, options.suffix)
    for job in jobs:
        if job.is_piped_out:
            _check_standard_output(job, options, as_json)
        elif options.suffix is not None and job.is_named_by_user:
            named = format_of_suffix(job.target.suffix)
            if named is not None and named is not format_of_suffix(options.suffix):
                raise click.UsageError(
                    f"-o {job.target_name} and --format {options.suffix[1:]} name two formats"
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
