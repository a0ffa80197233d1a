"""`dmsr upscale`: restore pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dmsr_cli.cli.batch.checks import (
    check_choices,
    check_inputs,
    check_jobs,
    check_pages,
    check_sheet,
    check_watch,
)
from dmsr_cli.cli.batch.settings import Batch, Models, UpscaleOptions
from dmsr_cli.cli.batch.sharing import Alone, refuse_several, shared
from dmsr_cli.cli.compare_options import compare_options
from dmsr_cli.cli.completing import complete_files, complete_words
from dmsr_cli.cli.options import (
    FramesType,
    TileType,
    compare_page_option,
    debug_option,
    limit_options,
    network_options,
    planning_options,
    report_option,
    result_options,
    size_options,
    source_options,
    watch_option,
)
from dmsr_cli.cli.steering_options import steering_options
from dmsr_cli.errors import DmsrError
from dmsr_cli.files import display_name

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.jobs import Job
    from dmsr_cli.cli.batch.planning import Planner
    from dmsr_cli.cli.batch.report import BatchReport
    from dmsr_cli.resizing import Enlargement, OutputSize


@click.command()
@source_options
@click.option(
    *("-o", "--output"),
    shell_complete=complete_files,
    metavar="FILE|FOLDER|-",
    help="Where results go; - is standard output.  [default: beside the input, as NAME_x4]",
)
@result_options
@size_options
@network_options
@click.option(
    *("--tile", "tile"),
    type=TileType(),
    shell_complete=complete_words("auto", "0"),
    default="auto",
    show_default=True,
    help="Side of a tile in LR pixels: auto is as large as the memory allows, 0 no tiles at all.",
)
@click.option(
    "--overlap",
    type=click.IntRange(0),
    help="LR pixels that neighbouring tiles share.  [default: what the network needs to see]",
)
@steering_options
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
@click.option(
    "--save-degradation",
    is_flag=True,
    help="Save beside it the kernel, the noise map, NAME.dmsr.json for --degradation, and where "
    "the result does not explain the picture.",
)
@compare_options
@compare_page_option
@click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
@planning_options
@watch_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per input on stdout.")
@report_option(can_append=True)
@limit_options
@debug_option
@shared
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
    watch: bool,
    as_json: bool,
    report_file: Path | None,
    compare_page: Path | None,
    dry_run: bool,
    team: Alone,
    compare_models: tuple[str, ...] | None,
    compare_crop: tuple[int, int, int, int] | None,
    **choices: Any,
) -> int:
    """Restore pictures, or folders of pictures, at x2, x3, x4, or any size.

    Blur kernel and noise map are estimated once for each picture and guide its restoration.
    Animations and clips keep their timing; their frames share the blur kernel. INPUT may be a
    pattern, as "*.png"; - is standard input. The clips of a folder are left alone: name those that
    you want.
    """
    from dmsr_cli.cli.batch.decoders import decoder_for

    choices["skip_existing"] |= watch
    choices["compare"] |= choices["compare_mode"] is not None
    options = UpscaleOptions(**choices)
    check_choices(options, scale, size)
    check_inputs(inputs, files_from)
    if compare_models is not None:
        refuse_several("--compare-models")
        given = {"--model": model is not None, "--size": size is not None, "--passes": passes > 1}
        given["--compare-page"] = compare_page is not None
        check_sheet(options, {**given, "--watch": watch, "--dry-run": dry_run})
    elif compare_crop is not None:
        raise click.UsageError("--compare-crop is for --compare-models")
    check_pages(report_file, compare_page)
    if watch:
        refuse_several("--watch")
        check_watch(inputs, files_from, output, dry_run)
    if dry_run:
        refuse_several("--dry-run")
    # It starts while torch is imported, which takes seconds.
    decoder = decoder_for(
        inputs, options.max_pixels, options.allow_truncated, is_listed=files_from is not None
    )
    from dmsr_cli.cli.batch.jobs import Naming, spare_inputs
    from dmsr_cli.cli.batch.overlap import Lanes
    from dmsr_cli.cli.batch.planning import Planner
    from dmsr_cli.cli.batch.results import Results, all_up_to_date
    from dmsr_cli.cli.batch.rounds import Rounds, lanes_for
    from dmsr_cli.cli.batch.steering import read_steering
    from dmsr_cli.cli.batch.stopping import stoppable
    from dmsr_cli.cli.batch.watch import Watch, looks
    from dmsr_cli.resizing import Enlargement

    if compare_models is not None:
        from dmsr_cli.cli.batch.contact_sheet import SheetMaker, sheet_naming
        from dmsr_cli.cli.batch.lineup import line_up

        where = team.device(device), precision
        lineup = line_up(compare_models, scale, where, options, decoder)
        report = team.report(as_json)
        results = Results(report.alert)
        planner = Planner(output, recursive, sheet_naming(lineup), results)
        sheet_jobs = _first_jobs(planner, inputs, files_from)
        if report_file is not None:
            report.write_to(report_file, sheet_jobs, resume=None, replace=options.overwrite)
        remembered = results if planner.found.is_batch else None
        maker = SheetMaker(lineup, compare_crop, remembered)
        with stoppable(len(sheet_jobs) != 1, report.announce_the_end) as interruption:
            maker.make_all(sheet_jobs, report, interruption)
        report.tally.inputs = planner.found
        return report.finish(interruption, len(sheet_jobs))
    models = Models(model, team.device(device), precision)
    steering = read_steering(options)
    wanted = size or scale or Enlargement(models.default_scale)
    report = team.report(as_json)
    results = Results(report.alert)
    naming = Naming(
        *(wanted.label, options.suffix, options.format_suffix),
        keeps_stem=options.compare or options.save_degradation,
    )
    planner = Planner(output, recursive, naming, results)
    watched = Watch(inputs, planner.jobs_of, report.alert) if watch else None

    def first_jobs() -> Sequence[Job]:
        planned = _first_jobs(planner, inputs, files_from) if watched is None else watched.begin()
        if options.overwrite:
            planned = spare_inputs(planned)
        check_jobs(planned, options, as_json)
        return planned

    jobs = team.agree(first_jobs)
    remembers = planner.found.is_batch or options.skip_existing or not team.leads
    batch = Batch(
        *(wanted, passes, models, options, decoder, results if remembers else None),
        steering=steering,
    )
    if dry_run:
        return _explain(jobs, batch, report, planner)
    if report_file is not None:
        report.write_to(report_file, jobs, options.skip_existing, options.overwrite)
    if compare_page is not None:
        report.compare_in(compare_page, jobs, options.overwrite)
    is_idle = not watch and all_up_to_date(jobs, batch)
    if not is_idle:
        _prepare(batch, report)
    with stoppable(watch or len(jobs) != 1, report.announce_the_end) as interruption:
        lanes = Lanes() if is_idle else lanes_for(models.device)
        rounds = Rounds(batch, report, team, lanes, lambda: interruption.requested)
        rounds.do(jobs)
        if watched is not None:
            report.say(f"watching {' '.join(map(display_name, inputs))}; Ctrl-C ends it")
            for jobs in looks(watched, rounds.should_stop):
                rounds.do(jobs)
    report.tally.inputs = planner.found
    return report.finish(interruption, rounds.count, is_endless=watch)


def _first_jobs(planner: Planner, inputs: Sequence[str], files_from: str | None) -> list[Job]:
    from dmsr_cli.cli.batch.inputs import read_list, shown_list

    listed = None if files_from is None else read_list(files_from)
    if not (inputs or listed):
        raise DmsrError(f"the list of files {shown_list(files_from or '')} is empty")
    jobs = planner.jobs_of(inputs, listed)
    if any(job.is_piped_in or job.is_piped_out for job in jobs):
        refuse_several("standard input or output")
    return jobs


def _explain(jobs: Sequence[Job], batch: Batch, report: BatchReport, planner: Planner) -> int:
    """Do what --dry-run is for; returns the exit status."""
    from dmsr_cli.cli.batch.dry_run import explain
    from dmsr_cli.cli.batch.inputs import remarks
    from dmsr_cli.cli.batch.progress import PatientProgress
    from dmsr_cli.cli.batch.rounds import pictures_of

    _prepare(batch, report, load=False)
    with PatientProgress(report.console, "planning") as progress:
        pictures = pictures_of(enumerate(jobs), batch, report, progress, len(jobs))
        return explain(pictures, report, remarks(planner.found))


def _prepare(batch: Batch, report: BatchReport, load: bool = True) -> None:
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
