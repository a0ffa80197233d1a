"""How fast a training step is: beside the paper's literal form, and beside the machine's limit.

    python benchmarks/train_throughput.py [--device cuda] [--recipes lite full] [--scales 2 3 4]

For each recipe and scale, in turn in one process: the step that `dmsr train` takes, and a plain
one (eager, fp32, the paper's form of every layer and of the degradation). The table shows

- patches/s of both, and their ratio;
- model TFLOP/s: the arithmetic of the network's convolutions and matrix products, forward and
  backward, in the form with fewest of them, over the time of a whole step;
- the share of the rate at which this machine multiplies large matrices, measured in the same run
  (bf16 on CUDA, fp32 on a CPU; a CPU with bf16 instructions can exceed it).

`--profile` shows what one step spends its time on.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dmsr_cli.degradation import bicubic_downsample, blur, to_8bit
from dmsr_cli.device import choose_device, choose_precision
from dmsr_cli.model import DMSR, Degradation
from dmsr_cli.model.meta_deblur import MetaDeblur
from dmsr_cli.training.data import Batch, PatchSource
from dmsr_cli.training.distributed import World
from dmsr_cli.training.losses import (
    Losses,
    consistency_loss,
    degradation_loss,
    kernel_consistency_loss,
    reconstruction_loss,
)
from dmsr_cli.training.settings import Recipe, read_recipe, with_changes
from dmsr_cli.training.step import Objective, Stepper, weighted
from meta_deblur import direct

CPU = torch.device("cpu")
MATRIX = {"cuda": 8192, "cpu": 2048}
WARM_UP = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--recipes", nargs="+", default=["lite", "full"])
    parser.add_argument("--scales", nargs="+", type=int, default=[2, 3, 4])
    parser.add_argument("--batch", type=int, help="of both steps; the recipe's if not given")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    precision = choose_precision(arguments.precision, device, training=True)
    torch.manual_seed(0)
    print(f"{device}, {torch.get_num_threads()} threads, steps in {precision}")
    print("| recipe | patches | s/step | plain | ratio | patches/s | TFLOP/s | matrix | share |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in arguments.recipes:
        for scale in arguments.scales:
            training = {"iterations": 1, **({"batch": arguments.batch} if arguments.batch else {})}
            recipe = with_changes(read_recipe(name), {"scale": scale}, training)
            settings = recipe.training
            ours, plain = _shipped(recipe, device, precision), _plain(recipe, device)
            steps, rates = _seconds([ours, plain], arguments.rounds, device)
            work = _flops(recipe) * settings.batch
            fast, slow = steps
            print(
                f"| {name} x{scale} | {settings.batch} of {settings.patch}x{settings.patch} "
                f"| {fast:.4f} | {slow:.4f} | {slow / fast:.1f} | {settings.batch / fast:.0f} "
                f"| {work / fast / 1e12:.3f} | {rates / 1e12:.3f} | {work / fast / rates:.0%} |",
                flush=True,
            )
            if arguments.profile:
                _profile(ours, device)


def _shipped(recipe: Recipe, device: torch.device, precision: torch.dtype) -> Callable[[], None]:
    """The step of `dmsr train`, with all that stands around it in the loop."""
    step = Stepper(DMSR(recipe.model), recipe.training, device, precision, World())
    source = PatchSource(_pictures(), recipe.model.scale, recipe.training, device)
    count = [0]

    def run() -> None:
        count[0] += 1
        step(source.batch(count[0]), count[0], 1e-6)

    return run


def _plain(recipe: Recipe, device: torch.device) -> Callable[[], None]:
    """The same training as one would first write it down from the paper."""
    model = DMSR(recipe.model)
    model.restorer.deblur = _LiteralMetaDeblur(model.restorer.deblur)  # type: ignore[assignment] # the same, written out
    model.to(device)
    average = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)
    source = PatchSource(_pictures(), recipe.model.scale, recipe.training, device)
    settings, scale = recipe.training, recipe.model.scale
    batches = [source.batch(number) for number in range(4)]  # their patches and kernels

    def run() -> None:
        batches.append(batches.pop(0))
        batch = batches[0]
        clean = bicubic_downsample(blur(batch.hr, batch.degradation.kernel), scale)
        levels = torch.rand(settings.batch, 1, 1, 1, device=device) * 75 / 255
        lr = to_8bit(clean + levels * torch.randn_like(clean))
        true = Degradation(batch.degradation.kernel, lr - clean)
        restored, estimated = model(lr)
        simulated = bicubic_downsample(blur(batch.hr, estimated.kernel), scale)
        simulated = simulated + estimated.noise_map
        losses = Losses(
            reconstruction_loss(restored, batch.hr),
            degradation_loss(estimated, true),
            consistency_loss(simulated, lr),
            kernel_consistency_loss(model.extractor(simulated), estimated),
        )
        optimizer.zero_grad()
        weighted(losses, settings).backward()  # type: ignore[no-untyped-call] # torch has not typed it
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for mean, value in zip(average.parameters(), model.parameters(), strict=True):
                mean.mul_(0.999).add_(value, alpha=0.001)
        losses.reconstruction.item()

    return run


class _LiteralMetaDeblur(nn.Module):
    """Rows 2-0 to 2-3 and 0-4 of table B.7 as they stand."""

    def __init__(self, module: MetaDeblur) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor, kernel: Tensor) -> Tensor:
        return direct(self.module, image, kernel)


def _seconds(
    steps: list[Callable[[], None]], rounds: int, device: torch.device
) -> tuple[list[float], float]:
    """Median seconds of each step, and of the matrix rate between them, in FLOP/s."""
    side = MATRIX[device.type]
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

    def multiply() -> None:
        torch.mm(left, right)

    def seconds(function: Callable[[], None], times: int = 1) -> float:
        _wait_for(device)
        start = time.perf_counter()
        for _ in range(times):
            function()
        _wait_for(device)
        return (time.perf_counter() - start) / times

    repeats = 10 if device.type == "cuda" else 1  # so that launches overlap as in a training
    functions = [*steps, multiply]
    for function in functions:
        for _ in range(WARM_UP):
            function()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, measured in zip(functions, times, strict=True):
            measured.append(seconds(function, repeats))
    medians = [sorted(measured)[rounds // 2] for measured in times]
    return medians[:-1], 2 * side**3 / medians[-1]


def _flops(recipe: Recipe) -> int:
    """Of forward and backward pass for one patch: on the CPU, where no channels are padded."""
    one = with_changes(recipe, {}, {"batch": 1})
    source = PatchSource(_pictures(), recipe.model.scale, one.training, CPU)
    objective = Objective(DMSR(recipe.model), one.training, torch.float32)
    batch: Batch = source.batch(1)
    with FlopCounterMode(display=False) as counter:
        weighted(objective(batch), one.training).backward()  # type: ignore[no-untyped-call] # torch has not typed it
    return int(counter.get_total_flops())


def _profile(step: Callable[[], None], device: torch.device) -> None:
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, record_shapes=True) as profile:
        for _ in range(3):
            step()
        _wait_for(device)
    order = f"self_{device.type}_time_total"
    rows = profile.key_averages(group_by_input_shape=True)
    print(rows.table(sort_by=order, row_limit=30, max_shapes_column_width=60))


def _pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 255, (700, 700, 3), dtype=np.uint8) for _ in range(4)]


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
