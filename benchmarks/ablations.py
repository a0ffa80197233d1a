"""The paper's tables 2 to 4 again, at a small budget: which losses and modules earn their place.

    python benchmarks/ablations.py --data photos --val holdout --test Set5 -o runs \\
        --iterations 2000 --seeds 0 1 2

Short trainings of the recipe from the beginning, as the paper has it,
by `paired_runs.py`: what is there already is not repeated. Seeds differ by as much as some of the
differences that are looked for, so each row is a mean over seeds, of PSNR over the six noisy
cells and in the cell of the paper's table, and of the SSIM there. The last number is the mean
difference to the last row, seed by seed, with its standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

PAPER = "told_kernels=0,blur_free=0,noise_free=0"
"""What the recipe has beyond the paper, switched off."""
WITHOUT_DC = "consistency_weight=0,kernel_consistency_weight=0"


class Table(NamedTuple):
    """One table of the paper."""

    number: int
    """Of the table in the paper."""
    name: str
    scale: int
    cell: int
    """Which of the cells that `paired_runs.py` writes: those at noise 15, then those at 50."""
    degradation: str
    runs: dict[str, tuple[str, str]]
    """Name, what the row says, and the changes; the last run is the paper's whole method."""


TABLES = (
    Table(
        *(2, "losses of the extractor", 4, 4, "[1.3, 50]"),
        {
            "none": ("no DR, no DC loss", f"degradation_weight=0,{WITHOUT_DC}"),
            "dr": ("DR", WITHOUT_DC),
            "dr-lr": ("DR, DC (LR)", "kernel_consistency_weight=0"),
            "all": ("DR, DC (LR), DC (KN)", ""),
        },
    ),
    Table(
        *(3, "modules", 2, 2, "[2.6, 15]"),
        {
            "level": ("MNM with a level, no MBM", "part=noise-level,part=no-deblur"),
            "level-deblur": ("MNM with a level, MBM", "part=noise-level"),
            "map": ("MNM with a map, no MBM", "part=no-deblur"),
            "all": ("MNM with a map, MBM", ""),
        },
    ),
    Table(
        *(4, "number of meta-deblur modules", 3, 4, "[1.3, 50]"),
        {
            "three": ("3 MBM", "part=three-deblurs"),
            "two": ("2 MBM", "part=two-deblurs"),
            "all": ("1 MBM", ""),
        },
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, action="append")
    parser.add_argument("--val", required=True)
    parser.add_argument("--test", required=True, help="test set for the tables")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--recipe", default="lite")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    numbers = [table.number for table in TABLES]
    parser.add_argument("--tables", type=int, nargs="+", choices=numbers, default=numbers)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    for table in TABLES:
        if table.number not in arguments.tables:
            continue
        folder = arguments.output / f"x{table.scale}"
        _train(table, folder, arguments)
        _print(table, folder, arguments.seeds)


def _train(table: Table, folder: Path, arguments: argparse.Namespace) -> None:
    # Seed by seed, so that what was stopped early can be compared.
    runs = [
        ",".join(filter(None, (f"{name}-{seed}:seed={seed},{PAPER}", changes)))
        for seed in arguments.seeds
        for name, (_, changes) in table.runs.items()
    ]
    command = [sys.executable, str(Path(__file__).with_name("paired_runs.py"))]
    for data in arguments.data:
        command += ["--data", data]
    command += ["--val", arguments.val, "--test", arguments.test, "-s", str(table.scale)]
    command += ["-o", str(folder), "--recipe", arguments.recipe, "--jobs", str(arguments.jobs)]
    command += ["--iterations", str(arguments.iterations), *runs]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _print(table: Table, folder: Path, seeds: list[int]) -> None:
    print(f"\nThe paper's table {table.number}: {table.name}, x{table.scale}, {len(seeds)} seeds\n")
    print(f"| | mean of the noisy cells | PSNR at {table.degradation} | SSIM there | to the last |")
    print("|---|---|---|---|---|")
    results = {
        name: [
            json.loads((folder / f"{name}-{seed}" / "result.json").read_text("utf-8"))
            for seed in seeds
        ]
        for name in table.runs
    }
    means = {name: [statistics.mean(r["cells"]) for r in runs] for name, runs in results.items()}
    last = means[list(table.runs)[-1]]
    for name, (label, _) in table.runs.items():
        psnr = statistics.mean(result["cells"][table.cell] for result in results[name])
        ssim = statistics.mean(result["ssim"][table.cell] for result in results[name])
        differences = [ours - whole for ours, whole in zip(means[name], last, strict=True)]
        off = f"{statistics.mean(differences):+.3f}"
        if len(seeds) > 1:
            off += f" ± {statistics.stdev(differences) / len(seeds) ** 0.5:.3f}"
        print(f"| {label} | {statistics.mean(means[name]):.3f} | {psnr:.3f} | {ssim:.4f} | {off} |")


if __name__ == "__main__":
    main()
