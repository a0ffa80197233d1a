"""`dmsr upscale`: restore pictures."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dmsr_cli.cli.options import (
    TileType,
    debug_option,
    input_options,
    network_options,
    size_options,
)
from dmsr_cli.errors import ImageError, SettingsError

if TYPE_CHECKING:
    from dmsr_cli.cli.jobs import Job
    from dmsr_cli.cli.overlap import Outcome, Stopwatch
    from dmsr_cli.cli.report import BatchReport, PatientProgress
    from dmsr_cli.images import Image
    from dmsr_cli.pipeline import Degradation, Model
    from dmsr_cli.resizing import Enlargement, OutputSize

READ_AHEAD_BYTES = 16 * 2**20
"""Largest file that is read while the picture before it is restored.

What is read ahead takes memory from the restoration. Most formats tell their pixels only once they
are opened, their bytes at once: this is a JPEG of some 30 megapixels, or a PNG of some 8.
"""


@dataclass(frozen=True)
class UpscaleOptions:
    """What is the same for every picture of a batch."""

    tile: int | str
    overlap: int | None
    kernel_width: float | None
    noise_level: float | None
    denoise: float | None
    save_degradation: bool
    compare: bool
    overwrite: bool
    skip_existing: bool
    debug: bool


class Models:
    """The networks of a batch: each is loaded when it is first needed, and kept."""

    def __init__(self, name: str | None, device: str, precision: str) -> None:
        """A family's networks are not loaded yet; but a device that is not there fails at once."""
        from dmsr_cli.device import choose_device
        from dmsr_cli.pipeline import DEFAULT_FAMILY, load_model
        from dmsr_cli.weights import read_weights_table

        self.name = name or DEFAULT_FAMILY
        self.device = choose_device(device)
        self._load = partial(load_model, self.name, device, precision=precision)
        self._loaded: dict[int, Model] = {}
        table = read_weights_table().values()
        self.scales = sorted(entry.scale for entry in table if entry.family == self.name)
        self.default_scale = 4
        if not self.scales:  # one model, which knows its scale itself
            model = self._load()
            self.name, self.default_scale, self.scales = model.name, model.scale, [model.scale]
            self._loaded[model.scale] = model

    def of_scale(self, scale: int) -> Model:
        """The network for one of `scales`."""
        if scale not in self._loaded:
            self._loaded[scale] = self._load(scale=scale)
        return self._loaded[scale]


@dataclass(frozen=True)
class Batch:
    """What is wanted of every picture, and with what."""

    wanted: Enlargement | OutputSize
    passes: int
    models: Models
    options: UpscaleOptions

    def models_for(self, factor: float) -> list[Model]:
        """The networks to run, one after the other; SettingsError if none reaches the factor."""
        from dmsr_cli.resizing import plan_passes

        scales = plan_passes(factor, self.models.name, self.models.scales, self.passes)
        return [self.models.of_scale(scale) for scale in scales]


@click.command()
@input_options
@click.option(
    *("-o", "--output"),
    metavar="FILE|FOLDER",
    help="Where results go.  [default: beside the input, as NAME_x4]",
)
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
    scale: Enlargement | None,
    size: OutputSize | None,
    passes: int,
    model: str | None,
    device: str,
    precision: str,
    as_json: bool,
    **choices: Any,
) -> int:
    """Restore pictures, or folders of pictures, at x2, x3, x4, or any size.

    Blur kernel and noise map are estimated once for each picture and guide its restoration.
    """
    from dmsr_cli.cli.jobs import plan_jobs
    from dmsr_cli.cli.overlap import Stopwatch, in_order
    from dmsr_cli.cli.report import BatchReport, PatientProgress
    from dmsr_cli.files import display_name
    from dmsr_cli.pipeline import check_tile
    from dmsr_cli.resizing import SECOND_PASS, Enlargement

    options = UpscaleOptions(**choices)
    if options.overwrite and options.skip_existing:
        raise click.UsageError("--overwrite and --skip-existing exclude each other")
    if options.noise_level is not None and options.denoise is not None:
        raise click.UsageError("--noise-level and --denoise exclude each other")
    check_tile(options.tile, options.overlap)
    if scale is not None and size is not None:
        raise click.UsageError("--scale and --size exclude each other")
    models = Models(model, device, precision)
    wanted = size or scale or Enlargement(models.default_scale)
    batch = Batch(wanted, passes, models, options)
    known = batch.models_for(wanted.factor) if isinstance(wanted, Enlargement) else []
    jobs = plan_jobs(inputs, output, recursive, label=wanted.label)
    report = BatchReport(as_json)
    report.say(f"{_names(known) or models.name} on {models.device}")
    if len(known) == 2 or (passes == 2 and not known):
        report.say(f"two passes{'' if known else ' where one is too little'}: {SECOND_PASS}")
    with PatientProgress(report.console, "upscaling") as progress:
        pictures = [
            _Picture(
                *(job, batch, _record(job, wanted, known), Stopwatch()),
                _Share(report, progress, number, len(jobs), display_name(job.source.name)),
            )
            for number, job in enumerate(jobs)
        ]
        in_order(pictures, _read, _restore, _finish, _may_be_read_ahead)
    return report.finish()


def _names(models: list[Model]) -> str:
    return "+".join(model.name for model in models)


@dataclass(frozen=True)
class _Share:
    """Maps the progress of one picture into that of the batch."""

    report: BatchReport
    progress: PatientProgress
    number: int
    count: int
    name: str

    def __call__(self, done: float) -> None:
        self.progress.update((self.number + done) / self.count, self.name)

    def note(self, text: str) -> None:
        """Say that something slower is tried with this picture."""
        self.report.say(f"{self.name}: {text}")

    def of_pass(self, number: int, models: list[Model]) -> Callable[[float], None]:
        """The same for one pass over the picture; its share grows with the pixels that it sees."""
        costs = [1, models[0].scale ** 2][: len(models)]
        before = sum(costs[:number])
        return lambda done: self((before + done * costs[number]) / sum(costs))


def _record(job: Job, wanted: Enlargement | OutputSize, known: list[Model]) -> dict[str, Any]:
    """What is known of a picture before it is touched; with --size, not the models."""
    return {
        **{"input": str(job.source), "output": str(job.target), "status": None, "error": None},
        **{"scale": getattr(wanted, "factor", None), "width": None, "height": None},
        **{"model": _names(known) or None},
        **{"kernel_width": None, "noise_level": None, "seconds": None},
    }


@dataclass(frozen=True)
class _Picture:
    """One picture of a batch on its way from file to file."""

    job: Job
    batch: Batch
    record: dict[str, Any]
    stopwatch: Stopwatch
    share: _Share

    @property
    def compared(self) -> Path:
        """The file of --compare."""
        return self.job.target.with_name(f"{self.job.target.stem}_compare.png")

    def beside(self) -> list[Path]:
        """What is written beside the result."""
        from dmsr_cli.cli.outputs import degradation_files

        options = self.batch.options
        beside = []
        if options.save_degradation:
            beside += degradation_files(self.job.target.with_suffix(""))
        if options.compare:
            beside.append(self.compared)
        return beside


def _may_be_read_ahead(picture: _Picture, under_way: Sequence[_Picture]) -> bool:
    """Not if the file is large, nor if it, or a result, is what one under way will write."""
    try:
        if picture.job.source.stat().st_size > READ_AHEAD_BYTES:
            return False
    except OSError:
        pass  # for the reading to find out
    written = {_place(path) for other in under_way for path in _results(other)}
    touched = [picture.job.source, *_results(picture)]
    return written.isdisjoint(map(_place, touched))


def _results(picture: _Picture) -> list[Path]:
    """What will be written; nothing for a folder that is no picture."""
    return [] if picture.job.error else [picture.job.target, *picture.beside()]


def _place(path: Path) -> str:
    """The same for all names of a file, on a disk that ignores case, too."""
    return os.path.realpath(path).casefold()


def _read(picture: _Picture) -> Image | None:
    """Check all that can be checked without the picture, then read it; None if it is skipped."""
    from dmsr_cli.cli.outputs import refuse_existing
    from dmsr_cli.images import read_image

    job, options = picture.job, picture.batch.options
    if job.error:
        raise job.error
    if job.target.exists() and options.skip_existing:
        return None
    _check_target(job, options)
    refuse_existing(picture.beside(), options.overwrite)
    with picture.stopwatch.running():
        return read_image(job.source)


def _check_target(job: Job, options: UpscaleOptions) -> None:
    """Refuse a result that must not be replaced, or has no format."""
    from dmsr_cli.files import display_name
    from dmsr_cli.images import WRITABLE_SUFFIXES

    name = display_name(job.target)
    if job.target.exists() and not options.overwrite:
        same = job.source.exists() and job.target.samefile(job.source)
        what = "is the input itself" if same else "exists already"
        raise ImageError(f"{name} {what}: use --overwrite, --skip-existing or another -o")
    if job.target.suffix.lower() not in WRITABLE_SUFFIXES:
        known = " ".join(sorted(WRITABLE_SUFFIXES))
        raise ImageError(f"cannot write {name}: its suffix must be one of {known}")


@dataclass(frozen=True)
class _Plan:
    """How one picture comes to its size."""

    factor: int | float
    height: int
    width: int
    models: list[Model]
    models_used: str
    """For the line about the picture; empty where the line about the batch said it already."""
    is_resized: bool

    def dtype_after(self, number: int) -> str:
        """What a pass leaves: as little as its use allows, since large results fill the memory."""
        if number < len(self.models) - 1:
            return "float32"
        return "uint16" if self.is_resized else "uint8"


def _plan(job: Job, image: Image, batch: Batch) -> _Plan:
    """Decide on models and size; refuse what is out of reach before any work is done."""
    from dmsr_cli.files import display_name
    from dmsr_cli.resizing import OutputSize, check_output

    size = batch.wanted.size_of(image.height, image.width)
    factor = batch.wanted.factor_of(image.height, image.width)
    try:
        models = batch.models_for(factor)
        scale = math.prod(model.scale for model in models)
        restored = image.height * scale, image.width * scale
        check_output(size, restored, job.target.suffix)
    except (SettingsError, ImageError) as error:
        raise ImageError(f"{display_name(job.source)}: {error}") from None
    is_resized = restored != size
    used = f"{_names(models)}{' resized' if is_resized else ''}, "
    plain = len(models) == 1 and not is_resized and not isinstance(batch.wanted, OutputSize)
    return _Plan(factor, *size, models, "" if plain else used, is_resized)


@dataclass(frozen=True)
class _Restored:
    """What is to be written, and told, of one picture."""

    plan: _Plan
    result: Image
    degradation: Degradation
    kernel_width: float
    """Of the degradation; kept, as finding it out is work for torch."""
    before: Image | None
    """For the comparison, if one is wanted."""


def _restore(picture: _Picture, source: Outcome[Image | None]) -> _Restored | None:
    """Estimate, restore, resize; None if the picture is skipped."""
    from dmsr_cli.resizing import resize_image

    image, options = source.take(), picture.batch.options
    if image is None:
        return None
    with picture.stopwatch.running():
        plan = _plan(picture.job, image, picture.batch)
        result, degradation = _run_passes(image, plan, options, picture.share)
        result = resize_image(result, plan.height, plan.width)
        before = image if options.compare else None
        return _Restored(plan, result, degradation, degradation.kernel_width, before)


def _run_passes(
    image: Image, plan: _Plan, options: UpscaleOptions, on_progress: _Share
) -> tuple[Image, Degradation]:
    """Restore with one network, or with two in turn; returns the degradation of the picture.

    The options steer the first pass. What it made has a degradation of its own.
    """
    from dmsr_cli import pipeline

    models, on_note = plan.models, on_progress.note
    degradation = _steered(pipeline.estimate(image, models[0], on_note=on_note), options)
    guide = degradation
    for number, model in enumerate(models):
        if number > 0:
            guide = pipeline.estimate(image, model, on_note=on_note)
        image = pipeline.upscale(
            image,
            model,
            guide,
            options.tile,
            on_progress.of_pass(number, models),
            overlap=options.overlap,
            dtype=plan.dtype_after(number),
            on_note=on_note,
        )
    return image, degradation


def _steered(degradation: Degradation, options: UpscaleOptions) -> Degradation:
    """The estimate with what the options override."""
    if options.kernel_width is not None:
        degradation = degradation.with_kernel_width(options.kernel_width)
    if options.noise_level is not None:
        degradation = degradation.with_noise_level(options.noise_level)
    if options.denoise is not None:
        degradation = degradation.with_denoise(options.denoise)
    return degradation


def _finish(picture: _Picture, outcome: Outcome[_Restored | None]) -> None:
    """Write one picture, and report it; or report why there is nothing to write."""
    work = partial(_write_and_tell, picture, outcome)
    picture.share.report.run(picture.record, work, picture.batch.options.debug)


def _write_and_tell(
    picture: _Picture, outcome: Outcome[_Restored | None], record: dict[str, Any]
) -> str:
    """Write the files, fill in the record, and say what was done."""
    from dmsr_cli.files import display_name

    source, target = display_name(picture.job.source), display_name(picture.job.target)
    restored = outcome.take()
    if restored is None:
        record["status"] = "skipped"
        return f"{source}: skipped, {target} exists"
    with picture.stopwatch.running():
        _write(picture, restored)
    plan = restored.plan
    record.update(
        status="ok",
        scale=plan.factor,
        width=plan.width,
        height=plan.height,
        model=_names(plan.models),
        kernel_width=restored.kernel_width,
        noise_level=round(restored.degradation.noise_level, 2),
        seconds=round(picture.stopwatch.seconds, 3),
    )
    return (
        f"{source} -> {target} ({plan.width}x{plan.height}, {plan.models_used}"
        f"blur {record['kernel_width']:.2f} px, noise {record['noise_level']:.1f}, "
        f"{record['seconds']:.1f} s)"
    )


def _write(picture: _Picture, restored: _Restored) -> None:
    """The result, and what is wanted beside it."""
    from dmsr_cli.cli import outputs
    from dmsr_cli.images import write_image
    from dmsr_cli.visual import comparison

    target = picture.job.target
    outputs.make_folder(target.parent)
    write_image(restored.result, target)
    if picture.batch.options.save_degradation:
        outputs.save_degradation(restored.degradation, target.with_suffix(""))
    if restored.before is not None:
        both = comparison(restored.before.pixels, restored.result.pixels)
        write_image(both, picture.compared)
