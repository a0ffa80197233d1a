"""How long dmsr takes to begin: beside Python alone, and beside the import of torch.

    python benchmarks/startup.py [--rounds 9]

Each program is started in turn, so that what else the computer does meets all of them; the median
is shown, and its ratio to Python alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

COMPLETING = {
    "_DMSR_COMPLETE": "bash_complete",
    "COMP_WORDS": "dmsr upscale --model d",
    "COMP_CWORD": "3",
}
PROGRAMS: dict[str, tuple[list[str], dict[str, str]]] = {
    "python, nothing": (["-c", "pass"], {}),
    "import dmsr_cli": (["-c", "import dmsr_cli"], {}),
    "dmsr --version": (["-m", "dmsr_cli", "--version"], {}),
    "dmsr --help": (["-m", "dmsr_cli", "--help"], {}),
    "dmsr upscale --help": (["-m", "dmsr_cli", "upscale", "--help"], {}),
    "Tab after dmsr upscale --model d": (["-m", "dmsr_cli"], COMPLETING),
    "import numpy": (["-c", "import numpy"], {}),
    "import torch": (["-c", "import torch"], {}),
}
"""Arguments of Python, and variables of the environment."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for number in range(rounds + 1):
        for name, (arguments, variables) in PROGRAMS.items():
            taken = time_of(arguments, variables)
            if number:  # the first round fills the cache of the disk
                seconds[name].append(taken)
    alone = statistics.median(seconds["python, nothing"])
    print("| program | ms | ratio |\n|---|---:|---:|")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"| {name} | {1000 * median:.0f} | {median / alone:.1f} |")


def time_of(arguments: list[str], variables: dict[str, str]) -> float:
    """Seconds from start to end of a Python process."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
