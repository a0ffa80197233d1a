"""`dmsr upscale`: restore pictures."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from dmsr_cli.cli.options import TileType, debug_option, input_options, model_options
from dmsr_cli.errors import ImageError

if TYPE_CHECKING:
    from dmsr_cli.cli.jobs import Job
    from dmsr_cli.cli.report import PatientProgress
    from dmsr_cli.pipeline import Degradation, Model


@dataclass(frozen=True)
class UpscaleOptions:
    """What is the same for every picture of a batch."""

    tile: int | str
    overlap: int
    kernel_width: float | None
    noise_level: float | None
    denoise: float | None
    save_degradation: bool
    compare: bool
    overwrite: bool
    skip_existing: bool
    debug: bool


@click.command()
@input_options
@click.option(
    *("-o", "--output"),
    metavar="FILE|FOLDER",
    help="Where results go.  [default: beside the input, as NAME_x4]",
)
@model_options
@click.option(
    *("--tile", "tile"),
    type=TileType(),
    default="auto",
    show_default=True,
    help="Side of a tile in LR pixels; 0 takes the whole picture at once.",
)
@click.option(
    "--overlap",
    type=click.IntRange(0),
    default=16,
    show_default=True,
    help="LR pixels that neighbouring tiles share.",
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
@click.option("--save-degradation", is_flag=True, help="Save kernel and noise map beside it.")
@click.option("--compare", is_flag=True, help="Save a before/after picture beside it.")
@click.option("--overwrite", is_flag=True, help="Replace results that are there already.")
@click.option("--skip-existing", is_flag=True, help="Leave results that are there already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per input on stdout.")
@debug_option
def upscale(
    inputs: tuple[str, ...],
    output: str | None,
    recursive: bool,
    scale: int | None,
    model: str | None,
    device: str,
    precision: str,
    as_json: bool,
    **choices: Any,
) -> int:
    """Restore pictures, or folders of pictures, at x2, x3 or x4.

    Blur kernel and noise map are estimated once for each picture and guide its restoration.
    """
    from dmsr_cli.cli.jobs import plan_jobs
    from dmsr_cli.cli.report import BatchReport, PatientProgress
    from dmsr_cli.pipeline import load_model

    options = UpscaleOptions(**choices)
    if options.overwrite and options.skip_existing:
        raise click.UsageError("--overwrite and --skip-existing exclude each other")
    if options.noise_level is not None and options.denoise is not None:
        raise click.UsageError("--noise-level and --denoise exclude each other")
    network = load_model(model, device, scale=scale, precision=precision)
    jobs = plan_jobs(inputs, output, recursive, label=f"_x{network.scale}")
    report = BatchReport(as_json)
    report.say(f"{network.name} on {network.device}")
    with PatientProgress(report.console, "upscaling") as progress:
        for number, job in enumerate(jobs):
            share = _Share(progress, number, len(jobs), job.source.name)
            work = partial(_upscale, job, network, options, share)
            report.run(_record(job, network), work, options.debug)
    return report.finish()


@dataclass(frozen=True)
class _Share:
    """Maps the progress of one picture into that of the batch."""

    progress: PatientProgress
    number: int
    count: int
    name: str

    def __call__(self, done: float) -> None:
        self.progress.update((self.number + done) / self.count, self.name)


def _record(job: Job, model: Model) -> dict[str, Any]:
    """What is known of a picture before it is touched."""
    return {
        **{"input": str(job.source), "output": str(job.target), "status": None, "error": None},
        **{"scale": model.scale, "width": None, "height": None, "model": model.name},
        **{"kernel_width": None, "noise_level": None, "seconds": None},
    }


def _upscale(
    job: Job, model: Model, options: UpscaleOptions, on_progress: _Share, record: dict[str, Any]
) -> str:
    """Do one job, fill in its record, and say what was done."""
    from dmsr_cli.files import display_name

    if job.error:
        raise job.error
    source, target = display_name(job.source), display_name(job.target)
    if job.target.exists() and options.skip_existing:
        record["status"] = "skipped"
        return f"{source}: skipped, {target} exists"
    started = time.monotonic()
    degradation, (width, height) = _restore(job, model, options, on_progress)
    record.update(
        status="ok",
        width=width,
        height=height,
        kernel_width=degradation.kernel_width,
        noise_level=round(degradation.noise_level, 2),
        seconds=round(time.monotonic() - started, 3),
    )
    return (
        f"{source} -> {target} ({width}x{height}, "
        f"blur {record['kernel_width']:.2f} px, noise {record['noise_level']:.1f}, "
        f"{record['seconds']:.1f} s)"
    )


def _restore(
    job: Job, model: Model, options: UpscaleOptions, on_progress: _Share
) -> tuple[Degradation, tuple[int, int]]:
    """Read, estimate, restore, write; returns the degradation used and the result's size."""
    from dmsr_cli import pipeline
    from dmsr_cli.cli import outputs
    from dmsr_cli.files import display_name
    from dmsr_cli.images import WRITABLE_SUFFIXES, read_image, write_image
    from dmsr_cli.visual import comparison

    name = display_name(job.target)
    if job.target.exists() and not options.overwrite:
        same = job.source.exists() and job.target.samefile(job.source)
        what = "is the input itself" if same else "exists already"
        raise ImageError(f"{name} {what}: use --overwrite, --skip-existing or another -o")
    if job.target.suffix.lower() not in WRITABLE_SUFFIXES:
        known = " ".join(sorted(WRITABLE_SUFFIXES))
        raise ImageError(f"cannot write {name}: its suffix must be one of {known}")
    stem = job.target.with_suffix("")
    compared = job.target.with_name(f"{stem.name}_compare.png")
    beside = outputs.degradation_files(stem) if options.save_degradation else []
    beside += [compared] if options.compare else []
    outputs.refuse_existing(beside, options.overwrite)

    image = read_image(job.source)
    degradation = _steered(pipeline.estimate(image, model), options)
    result = pipeline.upscale(
        image, model, degradation, options.tile, on_progress, overlap=options.overlap
    )
    outputs.make_folder(job.target.parent)
    write_image(result, job.target)
    if options.save_degradation:
        outputs.save_degradation(degradation, stem)
    if options.compare:
        write_image(comparison(image.pixels, result.pixels), compared)
    return degradation, (result.width, result.height)


def _steered(degradation: Degradation, options: UpscaleOptions) -> Degradation:
    """The estimate with what the options override."""
    if options.kernel_width is not None:
        degradation = degradation.with_kernel_width(options.kernel_width)
    if options.noise_level is not None:
        degradation = degradation.with_noise_level(options.noise_level)
    if options.denoise is not None:
        degradation = degradation.with_denoise(options.denoise)
    return degradation
