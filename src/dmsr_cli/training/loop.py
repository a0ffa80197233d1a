"""The training loop: one function, from the first batch to the saved weights."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dmsr_cli.degradation import PatchDegradation
from dmsr_cli.device import autocast, choose_precision, move
from dmsr_cli.errors import CheckpointError, DmsrError, SettingsError, TrainingError
from dmsr_cli.files import atomic_write, display_name, reason_of
from dmsr_cli.model import DMSR, Degradation
from dmsr_cli.training.checkpoint import load_checkpoint, save_checkpoint
from dmsr_cli.training.data import Batch, PatchSource, load_pictures
from dmsr_cli.training.interruption import watch_for_interruption
from dmsr_cli.training.losses import (
    Losses,
    consistency_loss,
    degradation_loss,
    kernel_consistency_loss,
    reconstruction_loss,
)
from dmsr_cli.training.settings import Recipe, TrainingSettings, recipe_text
from dmsr_cli.training.validation import Validator
from dmsr_cli.weights import load_weights, save_weights

REPORT_EVERY = 20
"""Iterations between looks at the loss: each look waits for the device."""


class Progress(NamedTuple):
    """What a run says of itself while it goes on."""

    iteration: int
    done: float
    """Share of the budget that is used, 0 to 1."""
    seconds: float
    patches_per_second: float
    losses: dict[str, float]
    psnr: float | None
    """Validation PSNR in dB, when this report follows a validation."""


@dataclass(frozen=True)
class TrainingResult:
    """Where a run ended and what it left."""

    weights: Path
    iterations: int
    psnr: float | None
    finished: bool
    """False when it was interrupted before its budget ended."""


def train(
    recipe: Recipe,
    data: Sequence[Path],
    output: Path,
    *,
    validation: Path | None = None,
    device: torch.device | None = None,
    resume: bool = False,
    init_from: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_message: Callable[[str], None] = lambda message: None,
) -> TrainingResult:
    """Train DMSR on pictures that are degraded on the fly (equations 1 and 5 to 8).

    Args:
        recipe: the network and how to train it.
        data: folders of HR pictures.
        output: folder for the recipe, the log, the checkpoint and the weights.
        validation: folder of HR pictures for PSNR at fixed degradations.
        device: where to train; the CPU if not given.
        resume: go on from the checkpoint in `output`; bit for bit on the CPU.
        init_from: weights to start from; tensors of another shape start anew.
        on_progress: called every `REPORT_EVERY` iterations and after each validation. A
            KeyboardInterrupt from it, SIGINT and SIGTERM end the run as soon as the step is
            over; its state is saved. A second signal ends it at once and saves nothing.
        on_message: called with a line of text when there is something to tell.

    Raises:
        DmsrError: bad settings, data, weights or checkpoint; a loss that is not finite.
    """
    settings = recipe.training
    device = device or torch.device("cpu")
    precision = choose_precision(settings.precision, device)
    if (settings.minutes is None) == (settings.iterations is None):
        raise SettingsError("training needs a budget: give --minutes or --iterations")
    if resume and init_from:
        raise SettingsError("--resume and --init-from exclude each other")
    checkpoint_path = output / "checkpoint.pt"
    if checkpoint_path.exists() and not resume:
        raise SettingsError(
            f"{display_name(output)} holds a run already: add --resume, or use another folder"
        )
    saved = load_checkpoint(checkpoint_path, recipe) if resume else None

    source = _patch_source(data, recipe, device)
    validator = Validator(validation, recipe, device) if validation else None

    torch.manual_seed(settings.seed)
    model = DMSR(recipe.model)
    if init_from:
        on_message(_take_over(model, load_weights(init_from), init_from))
    model = move(model, device)
    average = move(DMSR(recipe.model), device)
    average.load_state_dict(model.state_dict())
    parts = _Parts.of(model)
    optimizer = _optimizer(parts, settings)
    objective = Objective(model, settings, precision)
    if settings.compile and device.type == "cuda":
        objective.compile()

    iteration, seconds_before, psnr = 0, 0.0, None
    if saved:
        try:
            model.load_state_dict(saved["model"])
            average.load_state_dict(saved["average"])
            optimizer.load_state_dict(saved["optimizer"])
            source.set_state(saved["source"])
            iteration, seconds_before = saved["iteration"], saved["seconds"]
        except (RuntimeError, ValueError, LookupError, TypeError) as error:
            raise CheckpointError(
                f"{display_name(checkpoint_path)} does not fit this version or device "
                f"({reason_of(error)[:100]}): start anew with --init-from"
            ) from None
        on_message(f"going on from iteration {iteration}")

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DmsrError(f"cannot create {display_name(output)}: {reason_of(error)}") from None
    with atomic_write(output / "recipe.toml") as temporary:
        temporary.write_text(recipe_text(recipe), encoding="utf-8")
    weights_path = output / f"dmsr-x{recipe.model.scale}.safetensors"
    log = _Log(output / "log.csv", keep=resume)

    def save(seconds: float) -> None:
        # A finite loss can be followed by a step that breaks the weights.
        if not all(parameter.isfinite().all() for parameter in model.parameters()):
            raise _not_finite("weights are", iteration, weights_path)
        state = {
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "source": source.state(),
            "iteration": iteration,
            "seconds": seconds,
        }
        save_checkpoint(checkpoint_path, recipe, state)
        info = {"iterations": iteration, "seconds": round(seconds), "psnr": psnr}
        save_weights(average, weights_path, info=info)

    started = time.monotonic()
    next_validation = started + 60 * settings.validate_every
    since, since_iteration = started, iteration
    finished = False
    with watch_for_interruption() as interruption:
        while not interruption.requested:
            seconds = seconds_before + time.monotonic() - started
            done = _budget_used(settings, iteration, seconds)
            if done >= 1:
                finished = True
                break
            _set_rate(optimizer, settings, iteration, done)

            losses = objective(source.next_batch())
            total = _weighted(losses, settings)
            optimizer.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call] # torch has not typed it
            if settings.gradient_clip:
                for part in parts:
                    nn.utils.clip_grad_norm_(part, settings.gradient_clip)
            optimizer.step()
            iteration += 1
            _update_average(average, model, settings.ema, iteration)

            now = time.monotonic()
            validate = now >= next_validation
            if iteration % REPORT_EVERY and not validate:
                continue
            values = {name: value.item() for name, value in losses._asdict().items()}
            if not math.isfinite(sum(values.values())):
                raise _not_finite("loss is", iteration, weights_path)
            if validate:
                psnr = validator.psnr(average) if validator else None
                save(seconds_before + time.monotonic() - started)
                next_validation = time.monotonic() + 60 * settings.validate_every
            speed = (iteration - since_iteration) * settings.batch / (time.monotonic() - since)
            since, since_iteration = time.monotonic(), iteration
            progress = Progress(iteration, done, seconds, speed, values, psnr if validate else None)
            log.write(progress, optimizer.param_groups[0]["lr"])
            try:
                on_progress(progress)
            except KeyboardInterrupt:
                break
        if not finished:
            on_message(f"interrupted at iteration {iteration}; go on with --resume")
        elif validator:
            psnr = validator.psnr(average)
        save(seconds_before + time.monotonic() - started)
    return TrainingResult(weights_path, iteration, psnr, finished)


def _not_finite(what: str, iteration: int, weights: Path) -> TrainingError:
    text = f"the {what} not finite at iteration {iteration}: lower --learning-rate"
    if weights.exists():
        text = f"{text}; the last good state is in {display_name(weights.parent)}"
    return TrainingError(text)


class Objective(nn.Module):
    """Everything between a batch and its losses: what is compiled as one piece on CUDA."""

    def __init__(self, model: DMSR, settings: TrainingSettings, precision: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.precision = precision
        self.patch_degradation = PatchDegradation(model.config.scale, model.config.kernel_size)

    def forward(self, batch: Batch) -> Losses:
        """The loss terms of equation 5; of equations 7 and 8, those with weight 0 are left out."""
        settings = self.settings
        lr = batch.lr.contiguous(memory_format=torch.channels_last)
        with autocast(lr.device, self.precision):
            restored, estimated = self.model(lr)
        reconstruction = reconstruction_loss(restored, batch.hr)
        degradation = consistency = kernel_consistency = reconstruction.new_zeros(())
        if settings.degradation_weight:
            degradation = degradation_loss(estimated, batch.degradation)
        if settings.consistency_weight or settings.kernel_consistency_weight:
            clean = self.patch_degradation.downsample(batch.prefiltered, estimated.kernel)
            simulated_lr = clean + estimated.noise_map
            if settings.consistency_weight:
                consistency = consistency_loss(simulated_lr, batch.lr)
            if settings.kernel_consistency_weight:
                with autocast(lr.device, self.precision):
                    simulated: Degradation = self.model.extractor(
                        simulated_lr.contiguous(memory_format=torch.channels_last)
                    )
                kernel_consistency = kernel_consistency_loss(simulated, estimated)
        return Losses(reconstruction, degradation, consistency, kernel_consistency)


def _weighted(losses: Losses, settings: TrainingSettings) -> Tensor:
    """Equation 5."""
    return (
        settings.reconstruction_weight * losses.reconstruction
        + settings.degradation_weight * losses.degradation
        + settings.consistency_weight * losses.consistency
        + settings.kernel_consistency_weight * losses.kernel_consistency
    )


def _patch_source(data: Sequence[Path], recipe: Recipe, device: torch.device) -> PatchSource:
    scale, patch = recipe.model.scale, recipe.training.patch
    kernel_size = recipe.model.kernel_size
    smallest = patch * scale + 2 * PatchDegradation(scale, kernel_size).margin
    pictures = load_pictures(data, smallest)
    return PatchSource(pictures, scale, recipe.training, device, kernel_size)


class _Parts(NamedTuple):
    """Parameters whose gradients differ so much in size that each part is clipped by itself."""

    extractor: list[nn.Parameter]
    body: list[nn.Parameter]
    deblur: list[nn.Parameter]
    """What makes the last convolutions' weights: the loudest gradients and the slowest rate."""

    @classmethod
    def of(cls, model: DMSR) -> _Parts:
        restorer = model.restorer
        deblur = [*restorer.deblur.meta.parameters(), *restorer.output.parameters()]
        slow = {id(parameter) for parameter in deblur}
        body = [parameter for parameter in restorer.parameters() if id(parameter) not in slow]
        return cls(list(model.extractor.parameters()), body, deblur)


def _optimizer(parts: _Parts, settings: TrainingSettings) -> torch.optim.Adam:
    """Adam with a rate of its own for what makes the last convolution's weights."""
    groups = [
        {"params": [*parts.extractor, *parts.body], "factor": 1.0},
        {"params": parts.deblur, "factor": settings.deblur_rate},
    ]
    return torch.optim.Adam(groups, lr=settings.learning_rate, fused=True)


def _budget_used(settings: TrainingSettings, iteration: int, seconds: float) -> float:
    if settings.iterations is not None:
        return iteration / settings.iterations
    return seconds / (60 * (settings.minutes or 0))


def _set_rate(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, iteration: int, done: float
) -> None:
    """Linear warm-up, then a cosine to zero over the budget that there is."""
    warm = min(1.0, (iteration + 1) / max(1, settings.warmup))
    rate = settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * done))
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float, iteration: int) -> None:
    """Exponential moving average; short-sighted at first, so that the start is forgotten."""
    decay = min(decay, (1 + iteration) / (10 + iteration))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


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


class _Log:
    """One CSV line for each report."""

    def __init__(self, path: Path, keep: bool) -> None:
        self.path = path
        if not (keep and path.exists()):
            names = ["iteration", "seconds", "rate", "patches_per_second", *Losses._fields, "psnr"]
            self._append(names, mode="w")

    def write(self, progress: Progress, rate: float) -> None:
        values: list[Any] = [progress.iteration, f"{progress.seconds:.1f}", f"{rate:.3e}"]
        values += [f"{progress.patches_per_second:.1f}"]
        values += [f"{value:.6f}" for value in progress.losses.values()]
        values += ["" if progress.psnr is None else f"{progress.psnr:.3f}"]
        self._append(values, mode="a")

    def _append(self, values: list[Any], mode: str) -> None:
        try:
            with self.path.open(mode, newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(values)
        except OSError as error:
            raise DmsrError(f"cannot write {display_name(self.path)}: {reason_of(error)}") from None
