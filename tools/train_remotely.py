"""One call on a machine that was rented for a while: go on with a plan of trainings; score; pack.

    PYTHONPATH=src python tools/train_remotely.py tools/family/plan.toml --data photos \\
        --val holdout --runs /tmp/runs --results results --minutes 9

The plan is a TOML file of stages, done in their order, each with a budget of its own:

    [[stage]]
    name = "lite-x4"
    recipe = "lite.toml"        # beside the plan, or the name of a shipped recipe
    scale = 4
    minutes = 4
    start = "dmsr-lite-x4"      # an earlier stage, or a bundled model; nothing: from scratch

A call ends after `--minutes`, in the middle of a stage if need be; the same call goes on from
there. A stage that fails is told, and left out; so are those that start from it. Full checkpoints
stay in RUNS, on the machine's own disk; RESULTS gets what travels: averaged weights (fp16), recipe,
log, pictures and scores, in parts of at most PART_SIZE MiB (`tools/parts.py unpack` puts them
together). With `--test` finished models are scored: leave that to the last call.

Try the very plan at home first: `--share 0.01 --device cpu` gives each stage a hundredth.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import parts

from dmsr_cli.config import from_mapping, read_toml
from dmsr_cli.device import choose_device
from dmsr_cli.errors import DmsrError, SettingsError
from dmsr_cli.safe_names import is_plain_name
from dmsr_cli.training.loop import train
from dmsr_cli.training.settings import Recipe, read_recipe, with_changes
from dmsr_cli.weights import BUNDLED_FOLDER

FINISHED = "finished"
"""A file in the folder of a stage that has had its whole budget."""


@dataclass(frozen=True)
class Stage:
    """One training of a plan."""

    name: str
    recipe: str
    scale: int
    minutes: float
    start: str = ""

    def recipe_in(self, folder: Path) -> Recipe:
        """The recipe with the scale and the budget of this stage."""
        own = folder / self.recipe
        recipe = read_recipe(str(own) if own.is_file() else self.recipe)
        return with_changes(recipe, {"scale": self.scale}, {"minutes": self.minutes})

    def folder(self, runs: Path) -> Path:
        """Where its run is kept."""
        return runs / self.name

    def weights(self, runs: Path) -> Path:
        """What it leaves."""
        return self.folder(runs) / f"dmsr-x{self.scale}.safetensors"

    def is_finished(self, runs: Path) -> bool:
        """Whether it has had its whole budget."""
        return (self.folder(runs) / FINISHED).exists()


def main() -> int:
    """Go on with the plan; 1 if something failed."""
    arguments = _parse()
    end = time.monotonic() + 60 * arguments.minutes
    stages = read_plan(arguments.plan, arguments.share)
    if arguments.stage:
        return _train({stage.name: stage for stage in stages}, arguments)
    failed = []
    for stage in stages:
        if stage.is_finished(arguments.runs):
            continue
        left = (end - time.monotonic()) / 60
        if left <= 0:
            break
        # A process for each: what one leaves on the device, or breaks there, is gone after it.
        own = ["--stage", stage.name, "--minutes", str(left)]
        if subprocess.run([sys.executable, __file__, *sys.argv[1:], *own], check=False).returncode:
            failed.append(stage.name)
    failed += [
        f"{stage.name} on {test.name}"
        for stage in stages
        for test in arguments.test
        if not _score(stage, test, arguments)
    ]
    if arguments.results:
        _pack(arguments)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def read_plan(path: Path, share: float = 1.0) -> list[Stage]:
    """The stages of a plan, each checked, so that a slip does not cost rented time.

    Raises:
        SettingsError: the file cannot be read or understood, or a stage cannot be.
    """
    content = read_toml(path)
    tables = content.pop("stage", [])
    if content or not isinstance(tables, list) or not tables:
        raise SettingsError(f"{path}: a plan is made of tables [[stage]] alone")
    stages = [from_mapping(Stage, table, f"{path} [[stage]]") for table in tables]
    stages = [dataclasses.replace(stage, minutes=share * stage.minutes) for stage in stages]
    known = {file.stem for file in BUNDLED_FOLDER.glob("*.safetensors")}
    for stage in stages:
        stage.recipe_in(path.parent)
        if not is_plain_name(stage.name) or stage.name in known:
            raise SettingsError(f"{path}: {stage.name!r} is no name for a stage, or there twice")
        if stage.start and stage.start not in known:
            raise SettingsError(
                f"{path}: {stage.start!r} is neither an earlier stage nor a bundled model"
            )
        known.add(stage.name)
    return stages


def _train(stages: dict[str, Stage], arguments: argparse.Namespace) -> int:
    """One stage, in a process of its own."""
    stage, runs = stages[arguments.stage], arguments.runs
    init_from = None
    if stage.start in stages:
        if not stages[stage.start].is_finished(runs):
            print(f"{stage.name} needs {stage.start}, which is not finished", file=sys.stderr)
            return 1
        init_from = stages[stage.start].weights(runs)
    elif stage.start:
        init_from = BUNDLED_FOLDER / f"{stage.start}.safetensors"
    print(f"{stage.name}:", flush=True)
    result = train(
        stage.recipe_in(arguments.plan.parent),
        arguments.data,
        stage.folder(runs),
        validation=arguments.val,
        device=choose_device(arguments.device),
        resume=True,
        init_from=init_from,
        stop_after=arguments.minutes,
        on_message=lambda text: print(text, flush=True),
    )
    print(f"{result.iterations} iterations, validation PSNR {result.psnr} dB", flush=True)
    if result.finished:
        (stage.folder(runs) / FINISHED).touch()
    return 1 if result.interrupted else 0


def _score(stage: Stage, test: Path, arguments: argparse.Namespace) -> bool:
    """Score a finished stage, unless it has been; False if that fails."""
    target = stage.folder(arguments.runs) / "scores" / f"{test.name}.json"
    if target.exists() or not stage.is_finished(arguments.runs):
        return True
    target.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "dmsr_cli", "evaluate", "--data", str(test)]
    command += ["--model", str(stage.weights(arguments.runs)), "-o", str(target)]
    command += ["--device", arguments.device]
    return subprocess.run(command, check=False).returncode == 0


def _pack(arguments: argparse.Namespace) -> None:
    """What travels, in place of what the last call left."""
    for old in arguments.results.glob("results.*"):
        old.unlink()
    size = int(arguments.part_size * parts.MEBIBYTE)
    parts.pack(
        arguments.results,
        [str(arguments.runs)],
        part_size=size,
        name="results",
        exclude=["checkpoint.pt"],
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("--data", type=Path, action="append", required=True, help="HR pictures")
    parser.add_argument("--val", type=Path, help="HR pictures to validate on")
    parser.add_argument("--runs", type=Path, required=True, help="folder that stays there")
    parser.add_argument("--results", type=Path, help="folder that is fetched")
    parser.add_argument("--minutes", type=float, required=True, help="of this call's training")
    parser.add_argument("--share", type=float, default=1.0, help="of each stage's budget")
    parser.add_argument("--test", type=Path, action="append", default=[], help="to score on")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--part-size", type=float, default=15, help="MiB")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (DmsrError, parts.PartsError) as error:
        sys.exit(f"error: {error}")
