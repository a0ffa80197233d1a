"""The meta-deblur module as it is, against the form that builds all weights, on the CPU.

    python benchmarks/meta_deblur.py

Both are timed in turn in one process; the ratio is what counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dmsr_cli.config import DMSRConfig
from dmsr_cli.degradation import gaussian_kernel
from dmsr_cli.model.meta_deblur import MetaDeblur

ROUNDS = 7


def direct(module: MetaDeblur, image: Tensor, kernel: Tensor) -> Tensor:
    """The paper's literal form: weights for every pixel, then a weighted sum of its window."""
    count, colours, height, width = image.shape
    code = module.embed(kernel.flatten(1))[:, :, None, None].expand(-1, -1, height, width)
    features = F.pad(torch.cat((image, code), dim=1), (1, 1, 1, 1), mode="replicate")
    weights = module.meta(features)
    radius = module.size // 2
    windows = F.unfold(F.pad(image, (radius,) * 4, mode="replicate"), module.size)
    windows = windows.view(count, colours, module.size**2, height, width)
    restored: Tensor = (windows * weights.unsqueeze(1)).sum(dim=2)
    return restored


def seconds(function: Callable[[], Tensor], backward: bool) -> float:
    start = time.perf_counter()
    result = function()
    if backward:
        result.sum().backward()  # type: ignore[no-untyped-call] # torch has not typed it
    return time.perf_counter() - start


def main() -> None:
    torch.manual_seed(0)
    print(f"{'size':>4} {'picture':>12} {'pass':>18} {'direct':>9} {'fast':>9} {'ratio':>6}")
    for size in (15, 7):
        module = MetaDeblur(DMSRConfig(deblur_size=size))
        for count, side in ((8, 96), (1, 256)):
            image = torch.rand(count, 3, side, side, requires_grad=True)
            kernel = gaussian_kernel(torch.linspace(0.5, 2.5, count))
            for backward in (False, True):
                times: dict[str, list[float]] = {"direct": [], "fast": []}
                for _ in range(ROUNDS):
                    slow = seconds(lambda: direct(module, image, kernel), backward)  # noqa: B023 # called at once
                    fast = seconds(lambda: module(image, kernel), backward)  # noqa: B023 # called at once
                    times["direct"].append(slow)
                    times["fast"].append(fast)
                slow, fast = (sorted(values)[ROUNDS // 2] for values in times.values())
                name = "forward + backward" if backward else "forward"
                print(
                    f"{size:4} {count:4}x{side}x{side} {name:>18} {slow * 1e3:6.0f} ms "
                    f"{fast * 1e3:6.0f} ms {slow / fast:6.1f}"
                )


if __name__ == "__main__":
    main()
