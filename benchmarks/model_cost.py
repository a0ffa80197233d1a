"""What a 256x256 picture costs with each bundled model: seconds and memory, into the model's facts.

    python benchmarks/model_cost.py "two cores of a virtual machine" [--repeats 3]

Each repeat is a fresh process (see memory.py); the fastest time and the largest memory are kept.
The page of models shows them: write it anew afterwards with tools/write_models_page.py.
"""

from __future__ import annotations

import argparse
import dataclasses

from dmsr_cli.model_facts import FOLDER, Cost, ModelFacts, facts_text, read_facts
from dmsr_cli.weights import read_weights_table
from memory import measure

SIDE = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "machine",
        metavar="MACHINE",
        help='what this runs on, in words that the page of models shows: "two cores of a virtual '
        'machine"',
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    for name in read_weights_table():
        runs = [measure(SIDE, SIDE, name, arguments.device) for _ in range(arguments.repeats)]
        seconds = round(min(run["seconds"] for run in runs), 2)
        memory = round(max(run["memory"] for run in runs) / 2**20)
        print(f"{name}: {seconds} s, {memory} MiB", flush=True)
        cost = Cost(seconds, float(memory), arguments.machine)
        facts = dataclasses.replace(read_facts(name) or ModelFacts(), cost=cost)
        (FOLDER / f"{name}.json").write_text(facts_text(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
