"""fp32 against bf16 for the convolutions of the lite network's training step, on the CPU.

    python benchmarks/cpu_precision.py

Each shape is timed in both precisions in turn, forward and backward; the ratio is what counts.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDS = 15
SHAPES = ((64, 64, 24), (48, 225, 24), (64, 256, 24), (64, 64, 48))
"""Input channels, output channels, side of the patch; batch 8."""


def step(inputs: Tensor, weight: Tensor) -> float:
    start = time.perf_counter()
    outputs = F.conv2d(inputs, weight, padding=1)
    outputs.backward(outputs)  # type: ignore[no-untyped-call] # torch has not typed it
    return time.perf_counter() - start


def main() -> None:
    torch.manual_seed(0)
    print(f"{'conv':>10} {'patch':>6} {'fp32':>12} {'bf16':>12} {'ratio':>6}")
    for inputs, outputs, side in SHAPES:
        tensors = {}
        for dtype in (torch.float32, torch.bfloat16):
            picture = torch.randn(8, inputs, side, side, dtype=dtype)
            weight = torch.randn(outputs, inputs, 3, 3, dtype=dtype)
            tensors[dtype] = tuple(
                tensor.to(memory_format=torch.channels_last).requires_grad_()
                for tensor in (picture, weight)
            )
        times: dict[torch.dtype, list[float]] = {dtype: [] for dtype in tensors}
        for _ in range(ROUNDS):
            for dtype, (picture, weight) in tensors.items():
                times[dtype].append(step(picture, weight))
        work = 3 * 2 * 8 * side**2 * inputs * outputs * 9 / 1e9
        fp32, bf16 = (sorted(values)[ROUNDS // 2] for values in times.values())
        print(
            f"{inputs:4} - {outputs:3} {side:6} {work / fp32:5.0f} GFLOP/s "
            f"{work / bf16:5.0f} GFLOP/s {fp32 / bf16:6.1f}"
        )


if __name__ == "__main__":
    main()
