"""The training loop: one function, from the first batch to the saved weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dmsr_cli.device import choose_precision
from dmsr_cli.errors import CheckpointError, DmsrError, SettingsError
from dmsr_cli.files import atomic_write, display_name, reason_of
from dmsr_cli.interruption import watch_for_interruption
from dmsr_cli.model import DMSR
from dmsr_cli.training.board import Board
from dmsr_cli.training.checkpoint import load_checkpoint
from dmsr_cli.training.data import load_patch_source
from dmsr_cli.training.distributed import join_world
from dmsr_cli.training.keeper import CHECKPOINT, Keeper
from dmsr_cli.training.record import Progress, Record
from dmsr_cli.training.settings import Recipe, TrainingSettings, recipe_text
from dmsr_cli.training.step import Stepper
from dmsr_cli.training.validation import Validator
from dmsr_cli.weight_file import load_weights


@dataclass(frozen=True)
class TrainingResult:
    """Where a run ended and what it left."""

    weights: Path
    iterations: int
    psnr: float | None
    finished: bool
    """False when it ended before its budget did."""
    interrupted: bool = False
    """True when a signal or Ctrl-C ended it, not its budget or `stop_after`."""


def train(
    recipe: Recipe,
    data: Sequence[Path],
    output: Path,
    *,
    validation: Path | None = None,
    device: torch.device | None = None,
    resume: bool = False,
    init_from: Path | None = None,
    tensorboard: bool = False,
    stop_after: float | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_message: Callable[[str], None] = lambda message: None,
) -> TrainingResult:
    """Train DMSR on pictures that are degraded on the fly (equations 1 and 5 to 8).

    Started by torchrun, the processes train one model together; `recipe.training.batch` is what
    each of them takes, and the learning rate grows with the square root of their number.

    Args:
        recipe: the network and how to train it.
        data: folders of HR pictures.
        output: folder for the recipe, the log, the checkpoint and the weights; the same for all
            processes.
        validation: folder of HR pictures for PSNR at fixed degradations.
        device: where to train; the CPU if not given.
        resume: go on from the checkpoint in `output` if there is one; bit for bit on the CPU.
        init_from: weights that a new run starts from; tensors of another shape start anew.
        tensorboard: write the curves for TensorBoard, too.
        stop_after: end the run in order after this many minutes from now, loading included, even
            if its budget is larger; `resume` goes on.
        on_progress: called every `REPORT_EVERY` iterations and after each validation, in the
            process that leads. A KeyboardInterrupt from it, SIGINT and SIGTERM end the run as
            soon as the step is over; its state is saved. A second SIGINT ends it at once and
            saves nothing.
        on_message: called with a line of text when there is something to tell.

    Raises:
        DmsrError: bad settings, data, weights or checkpoint; a loss that is not finite; the
            final state cannot be written; another process went away.
    """
    settings = recipe.training
    called = time.monotonic()
    check_request(recipe, output, resume, init_from)
    checkpoint_path = output / CHECKPOINT
    weights_path = output / f"dmsr-x{recipe.model.scale}.safetensors"

    with join_world(device or torch.device("cpu")) as (world, device):
        if not world.leads:
            on_progress, on_message = (lambda progress: None), (lambda message: None)
        precision = choose_precision(settings.precision, device, training=True)
        source = load_patch_source(data, recipe, device, world.rank)
        validator = Validator(validation, recipe, device) if validation and world.leads else None

        torch.manual_seed(settings.seed)
        model = DMSR(recipe.model)
        go_on = resume and checkpoint_path.exists()
        if init_from and not go_on:
            on_message(_take_over(model, load_weights(init_from), init_from))
        step = Stepper(model, settings, device, precision, world)
        iteration, seconds_before, psnr = 0, 0.0, None
        if go_on:
            saved = load_checkpoint(checkpoint_path, recipe, source.pictures)
            iteration, seconds_before, psnr = _set_state(step, saved, checkpoint_path)
            on_message(f"going on from iteration {iteration}")
        elif resume:
            on_message(f"no checkpoint in {display_name(output)} yet: this is a new run")
        if world.size > 1:
            on_message(
                f"{world.size} processes: {settings.batch * world.size} patches a step, "
                f"learning rate times {world.rate_factor:.3g}"
            )
        world.wait()  # nobody may take what the first one writes for an earlier run's
        keeper = None
        if world.leads:
            keeper = Keeper(
                recipe,
                output,
                step,
                validator,
                _open_folder(recipe, output, iteration, tensorboard, on_message),
                pictures=source.pictures,
                iteration=iteration,
                psnr=psnr,
                on_progress=on_progress,
                on_message=on_message,
            )

        rate, losses = 0.0, None
        started = time.monotonic() - seconds_before
        with watch_for_interruption() as interruption:
            while True:
                seconds = time.monotonic() - started
                out_of_time = time.monotonic() - called >= 60 * (stop_after or math.inf)
                done, stop = world.agree(
                    _budget_used(settings, iteration, seconds),
                    interruption.requested or out_of_time,
                )
                if done >= 1 or stop:
                    break
                rate = _rate(settings, iteration, done) * world.rate_factor
                iteration += 1
                losses = step(source.batch(iteration), iteration, rate)
                if keeper and keeper.look(iteration, done, seconds, rate, losses):
                    interruption.requested = True
            finished = done >= 1
            if not finished:
                on_message(f"stopped at iteration {iteration}; go on with --resume")
            if keeper:
                keeper.finish(iteration, time.monotonic() - started, rate, losses, finished)
                psnr = keeper.psnr
            world.wait()  # a process that ends makes torchrun stop the others
    interrupted = not finished and not out_of_time
    return TrainingResult(weights_path, iteration, psnr, finished, interrupted)


def check_request(recipe: Recipe, output: Path, resume: bool, init_from: Path | None) -> None:
    """Raise SettingsError for what contradicts itself, before anything is loaded or written."""
    if (recipe.training.minutes is None) == (recipe.training.iterations is None):
        raise SettingsError("training needs a budget: give --minutes or --iterations")
    if (output / CHECKPOINT).exists() and not resume:
        raise SettingsError(
            f"{display_name(output)} holds a run already: add --resume, or use another folder"
        )
    if recipe.training.frozen_extractor and not (init_from or (output / CHECKPOINT).exists()):
        raise SettingsError(
            "frozen_extractor needs an extractor that was trained: give its weights by --init-from"
        )


def _budget_used(settings: TrainingSettings, iteration: int, seconds: float) -> float:
    if settings.iterations is not None:
        return iteration / settings.iterations
    return seconds / (60 * (settings.minutes or 0))


def _rate(settings: TrainingSettings, iteration: int, done: float) -> float:
    """Linear warm-up, and a cosine to zero over the budget that there is."""
    warm = min(1.0, (iteration + 1) / max(1, settings.warmup))
    first, last = settings.schedule
    place = first + (last - first) * done
    return settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * place))


def _set_state(step: Stepper, saved: dict[str, Any], path: Path) -> tuple[int, float, float | None]:
    """Go on from a checkpoint; returns its iteration, seconds and PSNR."""
    try:
        step.set_state(saved)
        return saved["iteration"], saved["seconds"], saved["psnr"]
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{display_name(path)} does not fit this version or device "
            f"({reason_of(error)[:100]}): start anew with --init-from"
        ) from None


def _open_folder(
    recipe: Recipe,
    output: Path,
    iteration: int,
    tensorboard: bool,
    on_message: Callable[[str], None],
) -> Record:
    """Make the folder of the run, with its recipe and its log."""
    # First, because it raises when TensorBoard is not installed: then nothing is made.
    board = Board.open(output / "tensorboard", iteration or None) if tensorboard else None
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DmsrError(f"cannot create {display_name(output)}: {reason_of(error)}") from None
    with atomic_write(output / "recipe.toml") as temporary:
        temporary.write_text(recipe_text(recipe), encoding="utf-8")
    return Record(output, iteration > 0, board, on_message)


def _take_over(model: DMSR, other: DMSR, path: Path) -> str:
    """Copy every tensor of the same name and shape; says what starts anew."""
    mine, theirs = model.state_dict(), other.state_dict()
    fitting = {
        name: tensor
        for name, tensor in theirs.items()
        if name in mine and mine[name].shape == tensor.shape
    }
    model.load_state_dict(fitting, strict=False)
    new = sorted(set(mine) - set(fitting))
    text = f"{len(fitting)} of {len(mine)} tensors taken from {display_name(path)}"
    return f"{text}; new: {', '.join(new)}" if new else text
