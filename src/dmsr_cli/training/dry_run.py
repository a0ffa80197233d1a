"""What a training would be, found out with a few steps of the very same code."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dmsr_cli.device import choose_precision
from dmsr_cli.model import DMSR
from dmsr_cli.training.data import load_patch_source
from dmsr_cli.training.distributed import World
from dmsr_cli.training.loop import check_request
from dmsr_cli.training.settings import Recipe
from dmsr_cli.training.step import Stepper
from dmsr_cli.training.validation import Validator
from dmsr_cli.weight_file import load_weights

WARM_UP = 3
"""Steps that are not timed: memory is taken, and on CUDA the network compiled."""
SECONDS = 3.0
"""How long steps are timed, at least."""
LEAST_STEPS = 5
"""How many are timed, at least."""


@dataclass(frozen=True)
class DryRun:
    """A training that was looked at, not done."""

    parameters: int
    extractor_parameters: int
    pictures: str
    """How many pictures of how many megapixels."""
    precision: str
    """Arithmetic of the convolutions: "fp32" or "bf16"."""
    seconds_per_iteration: float
    patches_per_second: float
    iterations: int
    """That fit the budget."""
    minutes: float
    """That the budget takes."""
    peak_memory: int | None
    """Bytes: of the GPU's memory, else of the whole process; None where the system does not say."""


def dry_run(
    recipe: Recipe,
    data: Sequence[Path],
    output: Path,
    *,
    validation: Path | None = None,
    device: torch.device | None = None,
    resume: bool = False,
    init_from: Path | None = None,
) -> DryRun:
    """Load everything, train for a few steps, and throw the result away; nothing is written.

    Takes what `train` takes, and raises what it raises before its first checkpoint.
    """
    check_request(recipe, output, resume, init_from)
    device = device or torch.device("cpu")
    precision = choose_precision(recipe.training.precision, device, training=True)
    source = load_patch_source(data, recipe, device)
    if validation:
        Validator(validation, recipe, device)
    if init_from:
        load_weights(init_from)
    torch.manual_seed(recipe.training.seed)
    step = Stepper(DMSR(recipe.model), recipe.training, device, precision, World())

    for iteration in range(1, WARM_UP + 1):
        step(source.batch(iteration), iteration, 0.0)
    _wait_for(device)
    steps, start = 0, time.monotonic()
    while steps < LEAST_STEPS or time.monotonic() - start < SECONDS:
        steps += 1
        step(source.batch(WARM_UP + steps), WARM_UP + steps, 0.0)
        if steps >= LEAST_STEPS:  # before that, waiting would hide what runs side by side
            _wait_for(device)
    seconds = (time.monotonic() - start) / steps

    settings = recipe.training
    iterations = settings.iterations or round(60 * (settings.minutes or 0) / seconds)
    return DryRun(
        parameters=sum(parameter.numel() for parameter in step.model.parameters()),
        extractor_parameters=sum(p.numel() for p in step.model.extractor.parameters()),
        pictures=source.pictures.rpartition(" (")[0],
        precision="bf16" if precision == torch.bfloat16 else "fp32",
        seconds_per_iteration=seconds,
        patches_per_second=settings.batch / seconds,
        iterations=iterations,
        minutes=settings.minutes or iterations * seconds / 60,
        peak_memory=_peak_memory(device),
    )


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource  # not there on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
