"""Whether a batch that is killed loses anything: SIGKILL at random moments, each then resumed.

    python benchmarks/kills.py [--kills 100] [--pictures 60] [--seed 0] [--model NAME|FILE]
                               [--json FILE] [--work FOLDER]

Small pictures of several formats, an animation and a damaged file among them, are upscaled once
undisturbed. Then the same batch is killed, by turns the main process alone and all of its
processes, and resumed with --skip-existing: once to its end, or into the next kill, and so on.
After each kill every file with a final name must have the bytes of the undisturbed run's; after the
last resume of each series nothing may be missing, or be left over, and the manifest must say the
same. Needs Linux, where /proc says which processes are left. Exits with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

MANIFEST = ".dmsr-results.jsonl"
FORMATS = ("png", "jpg", "webp", "tif", "bmp")
LONGEST_SERIES = 12
"""Kills one after the other before a batch may end."""
END_WITHIN = 20.0
"""Seconds in which the rest of a batch must be gone when its main process was killed."""
POLL = 0.005
SHARE = 3
"""A run is killed before it has made more than this part of what is left."""
HOW = ("all processes", "main process")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="dmsr-lite-x2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here, too")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="keep pictures and results")
    wanted = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = wanted.work
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        make_pictures(folder / "pictures", wanted.pictures, np.random.default_rng(wanted.seed))
        trial = Trial(folder, wanted.model, random.Random(wanted.seed))
        while trial.kills.total() < wanted.kills:
            is_chain = trial.series % 2 == 0
            left = wanted.kills - trial.kills.total()
            trial.run_series(min(left, LONGEST_SERIES) if is_chain else 1)
            print(trial.progress(), file=sys.stderr, flush=True)
    numbers = trial.numbers()
    print(table(numbers))
    for text in trial.troubles[:20]:
        print(f"\n    {text}")
    if wanted.json is not None:
        content = json.dumps(numbers | {"troubles": trial.troubles}, indent=2) + "\n"
        wanted.json.write_text(content, "utf-8")
    return 1 if trial.troubles else 0


class _Plain(argparse.RawDescriptionHelpFormatter):
    """The docstring as it is."""


def make_pictures(folder: Path, count: int, numbers: np.random.Generator) -> None:
    """Small pictures in different formats, the last an animation, and one damaged file."""
    folder.mkdir()
    for index in range(count - 2):
        height, width = numbers.integers(24, 65, 2)
        picture = PIL.Image.fromarray(numbers.integers(0, 256, (height, width, 3), np.uint8))
        picture.save(folder / f"{index:03}.{FORMATS[index % len(FORMATS)]}")
    frames = [
        PIL.Image.fromarray(pixels) for pixels in numbers.integers(0, 256, (6, 32, 40), np.uint8)
    ]
    middle = f"{count // 2:03}"
    frames[0].save(
        folder / f"{middle}_moving.gif", save_all=True, append_images=frames[1:], duration=80
    )
    whole = (folder / "000.png").read_bytes()
    (folder / f"{middle}_damaged.png").write_bytes(whole[: len(whole) // 2])


@dataclass
class Trial:
    """The same batch again and again, and what was found after each kill."""

    folder: Path
    model: str
    moments: random.Random
    series: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    in_mid_work: int = 0
    """Kills of a run that had made a result, and had not made all."""
    complete: int = 0
    """Files with a final name that were compared after kills, and were whole."""
    temporaries: int = 0
    """What killed runs left, under hidden names."""
    survivors: int = 0
    """Processes that went on longer than they may."""
    identical: int = 0
    """Series that ended with the folder of the undisturbed run."""
    troubles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.results = self.folder / "undisturbed"
        started = time.monotonic()
        batch = self._start()
        while batch.poll() is None and not self._names():
            time.sleep(POLL)
        self.first_result = time.monotonic() - started
        self.status = batch.wait()
        self.duration = time.monotonic() - started
        self.wanted = self._final()
        self.meaning = self._meaning()
        if not self.wanted:
            raise SystemExit("the undisturbed run made no results")
        self.results = self.folder / "results"

    def run_series(self, kills: int) -> None:
        """Start with an empty folder, kill so many times, then let it end."""
        shutil.rmtree(self.results, ignore_errors=True)
        self.series += 1
        for _ in range(kills):
            if not self._run_and_kill():
                break
        status = self._start().wait()
        self._check_files()
        if status != self.status:
            self._trouble(f"the resumed batch exited with {status}, not {self.status}")
        missing = sorted(self.wanted.keys() - self._final().keys())
        for name in missing:
            self._trouble(f"{name} is missing")
        left = self._hidden()
        for name in left:
            self._trouble(f"{name} was left")
        same_meaning = self._meaning() == self.meaning
        if not same_meaning:
            self._trouble("the manifest says something else than that of the undisturbed run")
        self.identical += not missing and not left and same_meaning

    def _run_and_kill(self) -> bool:
        """Whether it was killed; it may have come to its end before."""
        how = HOW[self.kills.total() % 2]
        before = len(self._names())
        batch = self._start()
        if not self._wait_for_a_moment(batch, before):
            return False
        if how == HOW[0]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(batch.pid, signal.SIGKILL)
        batch.kill()
        batch.wait()
        self.kills[how] += 1
        self._wait_for_the_rest(batch.pid, how)
        after = len(self._names())
        self.in_mid_work += before < after < len(self.wanted)
        self.temporaries += len(self._hidden())
        self._check_files()
        return True

    def _wait_for_a_moment(self, batch: subprocess.Popen[bytes], before: int) -> bool:
        """Let it make some results, and go on for a little; False if it ended meanwhile."""
        left = len(self.wanted) - before
        results = self.moments.randrange(1 + left // SHARE)
        each = (self.duration - self.first_result) / len(self.wanted)
        seconds = self.moments.uniform(0, 2 * each if results else self.first_result)
        while results and len(self._names()) < before + results and batch.poll() is None:
            time.sleep(POLL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            batch.wait(seconds)
        return batch.poll() is None

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dmsr_cli", "upscale", self.folder / "pictures"]
        command += ["-o", self.results, "--model", self.model, "--skip-existing", "--device", "cpu"]
        # With one thread the same picture has the same bytes each time.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (self.folder / "said.txt").open("ab") as said:
            return subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=environment,
                start_new_session=True,
            )

    def _wait_for_the_rest(self, session: int, how: str) -> None:
        """The helpers of a killed main process must end by themselves."""
        give_up = time.monotonic() + END_WITHIN
        while (rest := processes_of(session)) and time.monotonic() < give_up:
            time.sleep(POLL)
        for process in rest:
            self.survivors += 1
            self._trouble(f"process {process} went on when the {how} had been killed")
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _check_files(self) -> None:
        for name, digest in self._final().items():
            if name not in self.wanted:
                self._trouble(f"{name} is no result")
            elif digest != self.wanted[name]:
                self._trouble(f"{name} differs from that of the undisturbed run")
            else:
                self.complete += 1

    def _names(self) -> list[str]:
        return [path.name for path in self._files() if not path.name.startswith(".")]

    def _final(self) -> dict[str, str]:
        """The files with final names, and their digests."""
        return {
            name: hashlib.sha256((self.results / name).read_bytes()).hexdigest()
            for name in self._names()
        }

    def _hidden(self) -> list[str]:
        names = [path.name for path in self._files() if path.name.startswith(".")]
        return sorted(name for name in names if name != MANIFEST)

    def _files(self) -> list[Path]:
        return list(self.results.iterdir()) if self.results.is_dir() else []

    def _meaning(self) -> dict[str, Any]:
        """What the manifest says of the files that are there: input and settings of each."""
        path, final = self.results / MANIFEST, self._final()
        found = {}
        for line in path.read_bytes().splitlines() if path.exists() else []:
            with contextlib.suppress(ValueError):  # the line that a kill cut short
                entry = json.loads(line)
                if final.get(entry["name"]) == entry["sha256"]:
                    parts = ("source", "source_sha256", "settings")
                    found[entry["name"]] = {part: entry[part] for part in parts}
        return found

    def _trouble(self, text: str) -> None:
        self.troubles.append(f"series {self.series}, kill {self.kills.total()}: {text}")

    def progress(self) -> str:
        return f"{self.kills.total()} kills, {len(self.troubles)} troubles"

    def numbers(self) -> dict[str, Any]:
        kinds = ("differs", "is no result", "is missing", "was left", "manifest", "exited")
        return {
            "kills": self.kills.total(),
            **{f"kills of {how}": self.kills[how] for how in HOW},
            "kills between the first and the last result": self.in_mid_work,
            "results of the undisturbed run": len(self.wanted),
            "its manifest's entries": len(self.meaning),
            "its seconds": round(self.duration, 1),
            "whole files found after kills and resumes": self.complete,
            "temporary files that kills left": self.temporaries,
            "processes that outlived a kill": self.survivors,
            "series": self.series,
            "series that ended as the undisturbed run": self.identical,
            **{f"troubles: {kind}": sum(kind in text for text in self.troubles) for kind in kinds},
        }


def processes_of(session: int) -> list[int]:
    """The processes that are left of a session; zombies are not."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, owner = path.read_text("utf-8").rpartition(")")[2].split()[:4]
            if int(owner) == session and state != "Z":
                found.append(int(path.parent.name))
    return found


def table(numbers: dict[str, Any]) -> str:
    """As Markdown."""
    rows = [f"| {name} | {value} |" for name, value in numbers.items()]
    return "\n".join(["| what | count |", "|---|---|", *rows])


if __name__ == "__main__":
    sys.exit(main())
