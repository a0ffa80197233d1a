"""Short trainings that differ in one thing each: what gives the most PSNR for the same work.

    python benchmarks/paired_runs.py --data photos --val holdout --test Set5 -s 4 -o runs \\
        --iterations 3000 base rate-1e-3:learning_rate=1e-3 wide:model.channels=96

Each run has a name and any number of `setting=value` (JSON, with ; for ,), or
`model.setting=value`; all else is the recipe. `part=` puts a lesser part into the network:
`noise-level` tells the meta-denoise module one level for each colour in place of a noise map,
`no-deblur` leaves the meta-deblur module out, `two-deblurs` and `three-deblurs` put more of them in
a row. Runs whose folder holds a result are not repeated.
One thread for each run, so that as many as there are cores go side by side (`--jobs`) and none
waits for another. A run's budget is its iterations; `iterations=N` makes up for a change that
alters the cost of a step: the seconds in the table are CPU seconds of the process, which other
work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsr_cli.config import DMSRConfig
from dmsr_cli.training.settings import read_recipe, with_changes

if TYPE_CHECKING:
    from torch import Tensor

    from dmsr_cli.pipeline import Model

NOISE_LEVELS = (15.0, 50.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, action="append")
    parser.add_argument("--val", required=True)
    parser.add_argument("--test", required=True, help="test set for the table")
    parser.add_argument("-s", "--scale", type=int, default=4)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--recipe", default="lite")
    parser.add_argument("--iterations", type=int, default=3000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("runs", nargs="+")
    arguments = parser.parse_args()
    if arguments.one:
        run(arguments)
        return
    shared = sys.argv[1 : len(sys.argv) - len(arguments.runs)]

    def start(spec: str) -> None:
        folder = arguments.output / spec.split(":")[0]
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "result.json").exists():
            return
        with (folder / "output.txt").open("w", encoding="utf-8") as file:
            command = [sys.executable, __file__, *shared, "--one", spec]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run(command, stdout=file, stderr=file, env=environment, check=False)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(start, arguments.runs))
    print("| run | iterations | CPU seconds | validation | " + "noisy cells |")
    print("|---|---|---|---|---|")
    for spec in arguments.runs:
        file = arguments.output / spec.split(":")[0] / "result.json"
        if not file.exists():
            print(f"| {spec} | failed: see {file.parent / 'output.txt'} | | | |")
            continue
        result = json.loads(file.read_text("utf-8"))
        cells = " ".join(f"{value:.2f}" for value in result["cells"])
        print(
            f"| {spec} | {result['iterations']} | {result['seconds']:.0f} "
            f"| {result['validation']:.2f} | {cells} |"
        )


def run(arguments: argparse.Namespace) -> None:
    """One training and its scores, in this process."""
    import torch

    from dmsr_cli.evaluation import evaluate
    from dmsr_cli.training.loop import train

    torch.set_num_threads(1)
    (spec,) = arguments.runs
    name, _, text = spec.partition(":")
    model: dict[str, Any] = {"scale": arguments.scale}
    training: dict[str, Any] = {"iterations": arguments.iterations}
    init_from = None
    for change in filter(None, text.split(",")):
        key, _, value = change.partition("=")
        if key == "init_from":
            init_from = Path(value)
            continue
        if key == "part":
            PARTS[value]()
            continue
        parsed = json.loads(value.replace(";", ","))
        if key.startswith("model."):
            model[key.removeprefix("model.")] = parsed
        else:
            training[key] = parsed
    recipe = with_changes(read_recipe(arguments.recipe), model, training)
    folder = arguments.output / name / "run"
    start = time.process_time()
    result = train(
        recipe,
        [Path(path) for path in arguments.data],
        folder,
        validation=Path(arguments.val),
        resume=True,
        init_from=init_from,
        on_message=print,
    )
    if not result.finished:
        sys.exit("interrupted: start again to go on")
    seconds = time.process_time() - start
    scores = evaluate(
        Path(arguments.test),
        _trained(recipe.model, result.weights),
        noise_levels=NOISE_LEVELS,
        lr_kinds=["float"],
    )
    content = {
        "iterations": result.iterations,
        "seconds": seconds,
        "validation": result.psnr,
        "cells": [score.psnr for score in scores],
        "ssim": [score.ssim for score in scores],
    }
    (arguments.output / name / "result.json").write_text(json.dumps(content), "utf-8")


def _trained(config: DMSRConfig, weights: Path) -> Model:
    """The network of this process with these weights: `load_model` would refuse other modules."""
    import torch
    from safetensors.torch import load_file

    from dmsr_cli.model import DMSR
    from dmsr_cli.pipeline import Model

    network = DMSR(config)
    network.load_state_dict(load_file(weights))
    return Model(network.eval(), weights.stem, torch.device("cpu"), torch.float32)


def _tell_level_alone() -> None:
    """What the meta-denoise module hears is one number a colour, repeated over the picture."""
    from dmsr_cli.model.restorer import Restorer

    body = Restorer.body

    def told_level(self: Restorer, lr: Tensor, noise_map: Tensor) -> Tensor:
        level = noise_map.std(dim=(2, 3), keepdim=True)
        return body(self, lr, level.expand_as(noise_map))

    Restorer.body = told_level  # type: ignore[method-assign] # the network of this process


def _leave_deblur_out() -> None:
    """The picture passes the meta-deblur module as it is."""
    from dmsr_cli.model.meta_deblur import MetaDeblur

    MetaDeblur.forward = lambda self, image, kernel: image.float()  # type: ignore[method-assign]


def _deblur_repeatedly(count: int) -> None:
    """The picture passes several meta-deblur modules, each with weights of its own."""
    from torch import nn

    from dmsr_cli.model.meta_deblur import MetaDeblur
    from dmsr_cli.model.restorer import Restorer

    class Chain(nn.Module):
        def __init__(self, config: DMSRConfig) -> None:
            super().__init__()
            self.links = nn.ModuleList(MetaDeblur(config) for _ in range(count))

        @property
        def meta(self) -> nn.ModuleList:
            """The meta convs, which learn slowly."""
            return nn.ModuleList(link.get_submodule("meta") for link in self.links)

        def forward(self, image: Tensor, kernel: Tensor) -> Tensor:
            for link in self.links:
                image = link(image, kernel)
            return image

    start = Restorer.__init__

    def start_with_chain(self: Restorer, config: DMSRConfig) -> None:
        start(self, config)
        self.deblur = Chain(config)  # type: ignore[assignment] # called as one module is
        self.render_radius *= count  # at least as far as all of them see

    Restorer.__init__ = start_with_chain  # type: ignore[method-assign] # as above


PARTS: dict[str, Callable[[], None]] = {
    "noise-level": _tell_level_alone,
    "no-deblur": _leave_deblur_out,
    "two-deblurs": functools.partial(_deblur_repeatedly, 2),
    "three-deblurs": functools.partial(_deblur_repeatedly, 3),
}

if __name__ == "__main__":
    main()
