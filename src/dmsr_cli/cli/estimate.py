"""`dmsr estimate`: what is wrong with a picture."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dmsr_cli.cli.batch.sharing import refuse_several
from dmsr_cli.cli.options import (
    debug_option,
    input_options,
    limit_options,
    model_options,
    report_option,
)

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.inputs import Inputs
    from dmsr_cli.cli.batch.jobs import Job
    from dmsr_cli.images import DirectDecoder
    from dmsr_cli.pipeline import Model


@click.command()
@input_options
@click.option(
    *("-o", "--output"),
    metavar="FOLDER",
    help="Save kernel and noise map here, as pictures (.png) and arrays (.npy).",
)
@model_options
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per input on stdout.")
@report_option
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
    nearest to the estimated blur kernel; the noise level is a standard deviation, 0 to 255. Of
    animations and clips, the first frame is looked at. INPUT - is standard input.
    """
    from dmsr_cli.cli.batch.decoders import decoder_for

    refuse_several("estimate")
    decoder = decoder_for(inputs, max_pixels, allow_truncated)
    from dmsr_cli.cli.batch.progress import PatientProgress
    from dmsr_cli.cli.batch.report import BatchReport
    from dmsr_cli.cli.batch.stopping import stoppable
    from dmsr_cli.files import remove_stray_temporaries
    from dmsr_cli.pipeline import load_model  # takes seconds, in which the decoder starts

    network = load_model(model, device, scale=scale, precision=precision)
    # A folder is named even if it does not exist yet: what is saved has names of its own.
    folder = None if output is None else output.rstrip("/") + "/"
    jobs, found = _jobs(inputs, folder, recursive)
    if folder is not None:
        for place in {job.target.parent for job in jobs}:
            remove_stray_temporaries(place)
    report = BatchReport(as_json, text_to_stdout=True)
    report.tally.inputs = found
    if report_file is not None:
        report.write_to(report_file, jobs, resume=False, replace=overwrite)
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
            record = _record(job, network)
            work = partial(_estimate, job, network, decoder, folder is not None, overwrite, check)
            report.run(record, work, debug)
            for warning in record["warnings"]:
                report.warn(job.short_name, warning)
    return report.finish(interruption, len(jobs))


def _jobs(inputs: tuple[str, ...], folder: str | None, recursive: bool) -> tuple[list[Job], Inputs]:
    """What there is to look at, and what was found besides."""
    from dmsr_cli.cli.batch.inputs import PIPE, Inputs
    from dmsr_cli.cli.batch.jobs import Job, Naming, plan_jobs

    if inputs == (PIPE,):  # it has no name that the saved files could have
        name = "standard_input"
        return [Job(Path(name), Path(folder or ".") / name, is_piped_in=True)], Inputs()
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
    from dmsr_cli.cli.batch.inputs import same_name

    taken: set[str] = set()
    for job in jobs:
        plain = job.target.with_name(job.source.name.replace(".", "_"))
        numbered = (plain.with_name(f"{plain.name}_{number}") for number in itertools.count(2))
        names = itertools.chain([plain], numbered)
        stem = next(stem for stem in names if job.error or same_name(str(stem)) not in taken)
        if job.error is None:
            taken.add(same_name(str(stem)))
        yield stem


def _record(job: Job, model: Model) -> dict[str, Any]:
    """What is known of a picture before it is touched."""
    from dmsr_cli.cli.batch.consistency_fields import NOT_CHECKED
    from dmsr_cli.cli.batch.report import now

    return {
        **{"input": "-" if job.is_piped_in else str(job.source), "status": None, "error": None},
        **{"scale": model.scale, "warnings": []},
        **{"width": None, "height": None, "model": model.name},
        **{"kernel_width": None, "noise_level": None, "output": None},
        **{"input_pixels": None, "started": now(), "finished": None},
        **NOT_CHECKED,
    }


def _estimate(
    job: Job,
    model: Model,
    decoder: DirectDecoder,
    save: bool,
    overwrite: bool,
    check: bool,
    record: dict[str, Any],
) -> str:
    """Do one job, fill in its record, and say what was found."""
    from dmsr_cli import pipeline
    from dmsr_cli.cli.batch.consistency_fields import check_estimate, fields_of, warnings_of
    from dmsr_cli.cli.batch.moving import first_image
    from dmsr_cli.cli.batch.outputs import (
        degradation_files,
        make_folder,
        refuse_existing,
        save_degradation,
    )

    if job.error:
        raise job.error
    stem = job.target
    if save:
        refuse_existing(degradation_files(stem), overwrite)
    image = first_image(job, decoder)
    degradation = pipeline.estimate(image, model)
    found = check_estimate(image, degradation, model) if check else None
    if save:
        make_folder(stem.parent)
        save_degradation(degradation, stem, lambda path: overwrite)
        record["output"] = str(stem)
    record.update(
        status="ok",
        warnings=[*image.warnings, *warnings_of(found)],
        input_pixels=image.width * image.height,
        width=image.width,
        height=image.height,
        kernel_width=degradation.kernel_width,
        noise_level=round(degradation.noise_level, 2),
        **fields_of(found),
    )
    return (
        f"{job.source_name}: kernel width {record['kernel_width']:.2f} px "
        f"at x{model.scale}, noise level {record['noise_level']:.1f}"
        + (f", consistency {record['consistency']:.1f} dB" if check else "")
    )
