"""`dmsr train`: the full training loop."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dmsr_cli.cli.completing import complete_files, complete_folders, complete_words
from dmsr_cli.cli.options import debug_option, scale_option

if TYPE_CHECKING:
    from rich.console import Console

    from dmsr_cli.cli.batch.progress import PatientProgress
    from dmsr_cli.training.record import Progress

LOSSES = {
    "degradation": "degradation_weight",
    "consistency": "consistency_weight",
    "kernel-consistency": "kernel_consistency_weight",
}
"""Names of the losses that can be left out, and the settings that hold their weights."""
SHORT = {
    "reconstruction": "loss",
    "degradation": "degradation",
    "consistency": "consistency",
    "kernel_consistency": "kernel",
}
"""What the terms of the loss are called while a run goes on."""
PLAIN_EVERY = 30.0
"""Seconds between lines when standard error is not a terminal."""


@click.command()
@click.option("--data", required=True, multiple=True, metavar="FOLDER",
              shell_complete=complete_folders,
              help="HR pictures to train on; may be repeated.")  # fmt: skip
@click.option("--val", "validation", metavar="FOLDER", shell_complete=complete_folders,
              help="HR pictures to validate on.")  # fmt: skip
@scale_option
@click.option("-o", "--output", required=True, metavar="FOLDER", shell_complete=complete_folders,
              help="Where the run is kept.")  # fmt: skip
@click.option("--recipe", default="lite", show_default=True, metavar="lite|full|FILE",
              shell_complete=complete_words("lite", "full", or_files=True),
              help="Network and settings: a shipped recipe or a .toml file.")  # fmt: skip
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Budget of time.")
@click.option("--iterations", type=click.IntRange(1), help="Budget of optimizer steps.")
@click.option("--stop-after", type=click.FloatRange(0, min_open=True), metavar="MINUTES",
              help="Stop before the budget ends, to go on later with --resume.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1), help="Patches for each step.")
@click.option("--patch", type=click.IntRange(1), help="Side of a patch in LR pixels.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="Its peak.")
@click.option("--seed", type=click.IntRange(0), help="Source of all randomness.")
@click.option("--without", multiple=True, type=click.Choice(list(LOSSES)),
              help="Leave out a loss (equations 7 and 8); may be repeated.")  # fmt: skip
@click.option("--resume", is_flag=True,
              help="Go on with the run in the output folder, if there is one.")  # fmt: skip
@click.option("--init-from", metavar="FILE", shell_complete=complete_files,
              help="Start a new run from these weights, of any scale.")  # fmt: skip
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:N|mps",
              shell_complete=complete_words("auto", "cpu", "cuda", "mps"),
              help="Where to compute.")  # fmt: skip
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]),
              help="Arithmetic of the convolutions.")  # fmt: skip
@click.option("--tensorboard", is_flag=True, help="Write what TensorBoard shows, too.")
@click.option("--dry-run", is_flag=True,
              help="Try a few steps, say what the training would be, write nothing.")  # fmt: skip
@debug_option
def train(
    data: tuple[str, ...],
    validation: str | None,
    scale: int | None,
    output: str,
    recipe: str,
    without: tuple[str, ...],
    resume: bool,
    init_from: str | None,
    device: str,
    tensorboard: bool,
    stop_after: float | None,
    dry_run: bool,
    debug: bool,
    **settings: Any,
) -> int:
    """Train a model on HR pictures, degraded on the fly.

    The learning rate follows the budget, so that a short run is a finished one. The folder of the
    run holds its settings, a log, checkpoints, and the weights (.safetensors) for --model.
    """
    from rich.console import Console

    from dmsr_cli.cli.batch.progress import PatientProgress
    from dmsr_cli.cli.main import INTERRUPTED
    from dmsr_cli.device import choose_device
    from dmsr_cli.processes import launched_rank
    from dmsr_cli.training import loop
    from dmsr_cli.training.settings import read_recipe, with_changes

    changes = {name: value for name, value in settings.items() if value is not None}
    if "minutes" in changes and "iterations" in changes:
        raise click.UsageError("give --minutes or --iterations, not both")
    changes.update({LOSSES[name]: 0.0 for name in without})
    chosen = with_changes(read_recipe(recipe), {"scale": scale} if scale else {}, changes)
    # Of several processes the first one speaks.
    console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=launched_rank() > 0)
    where = choose_device(device)
    request: dict[str, Any] = {
        "recipe": chosen,
        "data": [Path(folder) for folder in data],
        "output": Path(output),
        "validation": Path(validation) if validation else None,
        "device": where,
        "resume": resume,
        "init_from": Path(init_from) if init_from else None,
    }
    if dry_run:
        _explain(request, recipe)
        return 0
    console.print(f"training {recipe} x{chosen.model.scale} on {where}", markup=False)
    with PatientProgress(console, "loading pictures", patience=0) as bar:
        result = loop.train(
            **request,
            tensorboard=tensorboard,
            stop_after=stop_after,
            on_progress=_TrainingDisplay(console, bar).show,
            on_message=lambda text: console.print(text, markup=False),
        )
    psnr = "" if result.psnr is None else f", validation PSNR {result.psnr:.2f} dB"
    console.print(f"{result.iterations} iterations{psnr}; weights: {result.weights}", markup=False)
    return INTERRUPTED if result.interrupted else 0


def _explain(request: dict[str, Any], name: str) -> None:
    """Print what a training would be; the result of the command, so it goes to standard output."""
    from dmsr_cli.training.dry_run import dry_run

    plan = dry_run(**request)
    model, settings = request["recipe"].model, request["recipe"].training
    hr = settings.patch * model.scale
    memory = "unknown" if plan.peak_memory is None else f"{plan.peak_memory / 2**20:,.0f} MiB"
    of = "of the GPU" if request["device"].type == "cuda" else "of the process, pictures included"
    seconds = plan.seconds_per_iteration
    lines = {
        "network": f"{name} x{model.scale}, {plan.parameters:,} parameters, "
        f"{plan.extractor_parameters:,} of them the extractor's",
        "pictures": plan.pictures,
        "step": f"{settings.batch} patches of {settings.patch}x{settings.patch} LR pixels "
        f"({hr}x{hr} HR), {plan.precision} on {request['device']}",
        "time": f"{seconds:.3f} s an iteration, {_speed(plan.patches_per_second)}",
        "memory": f"{memory} {of}",
        "budget": f"{plan.minutes:,.1f} minutes, about {plan.iterations:,} iterations, "
        f"{plan.iterations * settings.batch:,} patches",
        "output": f"{request['output']}: nothing was written",
    }
    for title, text in lines.items():
        click.echo(f"{title:9} {text}")


def _speed(patches_per_second: float) -> str:
    return f"{patches_per_second:,.{1 if patches_per_second < 10 else 0}f} patches/s"


class _TrainingDisplay:
    """Loss, PSNR, patches/s and time left: in the bar on a terminal, else a line now and then."""

    def __init__(self, console: Console, bar: PatientProgress) -> None:
        self.console = console
        self.bar = bar
        self.psnr = ""
        self.last_line = 0.0

    def show(self, progress: Progress) -> None:
        """Take in a report of the loop."""
        if progress.psnr is not None:
            self.psnr = f"PSNR {progress.psnr:.2f} dB  "
        terms = "  ".join(
            f"{SHORT[name]} {value:.4f}" for name, value in progress.losses.items() if value
        )
        speed = _speed(progress.patches_per_second)
        text = f"iteration {progress.iteration}  {self.psnr}{speed}"
        self.bar.update(progress.done, f"{text}\n{terms}")
        due = time.monotonic() - self.last_line > PLAIN_EVERY or progress.psnr is not None
        if not self.console.is_terminal and due:
            self.last_line = time.monotonic()
            left = progress.seconds * (1 / max(progress.done, 1e-6) - 1)
            self.console.print(f"{text}  {terms}  {left / 60:.1f} min left", markup=False)
