"""Runs `dmsr upscale` over folders of damaged pictures, and checks what becomes of each.

    python tests/fuzz.py --files 5000

Every input must have one line of JSON; nothing may be said of a bug; a failed input leaves no file
behind, and what a good one leaves can be opened; no picture may take more than ten seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dmsr_cli import weights
from dmsr_cli.errors import DmsrError
from dmsr_cli.images import IsolatedDecoder
from fuzzing import mutants, samples
from tiny_weights import tiny_model

SECONDS = 10.0
"""What a picture may take, from the line of the one before to its own."""
BUGS = ("Traceback", "internal error", "Error:")


@dataclass
class Findings:
    """Of one or more folders."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    """Counts of ok and of the kinds of failures, for each kind of file."""
    problems: list[str] = field(default_factory=list)
    slowest: float = 0.0
    largest_bytes: int = 0
    """Memory of all processes of the command together, at most."""

    def count(self, kind: str, outcome: str) -> None:
        """One more."""
        self.outcomes.setdefault(kind, Counter())[outcome] += 1

    def table(self) -> str:
        """Markdown: a line for each kind of file."""
        kinds = sorted({outcome for counts in self.outcomes.values() for outcome in counts})
        total: Counter[str] = Counter()
        lines = ["| file | " + " | ".join(kinds) + " |", "|---|" + "---|" * len(kinds)]
        for name, counts in [*self.outcomes.items(), ("all", total)]:
            total.update(counts if counts is not total else {})
            lines.append(f"| {name} | " + " | ".join(str(counts[kind]) for kind in kinds) + " |")
        return "\n".join(lines)


def write_mutants(folder: Path, each: int, seed: int) -> None:
    """Fill a folder with `each` mutants of every kind of file."""
    files = samples()
    contents = list(files.values())
    for number, (name, content) in enumerate(files.items()):
        other = contents[(number * 7 + seed) % len(contents)]
        stem, suffix = name.split(".")
        damaged = mutants(content, other, each, seed * 1000 + number)
        for index, mutant in enumerate(damaged):
            folder.joinpath(f"{suffix}_{stem}_{index:05}.{suffix}").write_bytes(mutant)


def run(folder: Path, model: Path, findings: Findings, *options: str) -> None:
    """Upscale all that is in a folder, and note what is not as it must be."""
    results = folder.with_name(folder.name + "_results")
    command = [sys.executable, "-m", "dmsr_cli", "upscale", str(folder), "-o", f"{results}/"]
    command += ["--json", "--model", str(model), *options]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "400"},
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(process.stderr or ()))
        watcher = threading.Thread(target=_watch_memory, args=(process, findings))
        reader.start()
        watcher.start()
        records, before = [], None
        for line in process.stdout:
            now = time.monotonic()
            if before is not None:  # the first has the start of the command in it
                findings.slowest = max(findings.slowest, now - before)
                if now - before > SECONDS:
                    findings.problems.append(f"took {now - before:.1f} s: {line.strip()}")
            before = now
            records.append(json.loads(line))
        reader.join()
    watcher.join()
    findings.problems += [line.strip() for line in said if any(bug in line for bug in BUGS)]
    if process.returncode not in (0, 1):
        findings.problems.append(f"exit status {process.returncode}: {said[-3:]}")
    _check(folder, results, records, findings)


def _check(
    folder: Path, results: Path, records: list[dict[str, str | None]], findings: Findings
) -> None:
    expected = sorted(str(path) for path in folder.iterdir())
    if sorted(str(record["input"]) for record in records) != expected:
        findings.problems.append("the lines of JSON are not one for each input")
    good = {str(record["output"]) for record in records if record["status"] == "ok"}
    for path in results.rglob("*") if results.exists() else ():
        # A manifest, which is about all results, is no result of its own.
        if path.is_file() and str(path) not in good and path.suffix != ".jsonl":
            findings.problems.append(f"left behind: {path.name}")
    with IsolatedDecoder() as decoder:
        reasons = [_fault(output, decoder) for output in sorted(good)]
    findings.problems += [f"a result cannot be read: {reason}" for reason in reasons if reason]
    for record in records:
        suffix, stem, _ = Path(str(record["input"])).name.split("_")
        findings.count(f"{stem}.{suffix}", _outcome(record))


def _fault(output: str, decoder: IsolatedDecoder) -> str | None:
    """Why a result cannot be read; None if it can."""
    try:
        sequence = decoder.open_sequence(output)
        if sequence is None:
            decoder.read_image(output)
            return None
        with sequence:
            frames = sum(1 for _ in sequence.frames())
            return None if frames == sequence.count else f"{output}: {frames} frames"
    except DmsrError as error:
        return str(error)


def _outcome(record: dict[str, str | None]) -> str:
    error = record["error"]
    if error is None:
        return "restored"
    for part, outcome in (
        ("is not a picture that", "no picture"),
        ("more than the limit", "too large"),
        ("took more than", "too slow"),
        ("its decoder", "crashed"),
        ("the file is empty", "empty"),
        ("damaged", "damaged"),
        ("too many", "result too large"),
    ):
        if part in error:
            return outcome
    return "other error"


def _watch_memory(process: subprocess.Popen[str], findings: Findings) -> None:
    """Look again and again how much memory a process and its children have."""
    while process.poll() is None:
        found = sum(_resident(child) for child in [process.pid, *_children(process.pid)])
        findings.largest_bytes = max(findings.largest_bytes, found)
        time.sleep(0.05)


def _resident(process: int) -> int:
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    except OSError:  # it has ended, or this is no Linux
        return 0
    return int(pages) * resource.getpagesize()


def _children(process: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # a thread has ended
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def main() -> int:
    """Run it; the exit status says whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="leave the damaged pictures here")
    chosen = parser.parse_args()
    findings, started = Findings(), time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        root = chosen.keep or Path(temporary)
        model = root / "tiny.safetensors"
        mutated = root / "mutants"
        mutated.mkdir(parents=True)
        weights.save_weights(tiny_model(scale=2), model)
        write_mutants(mutated, -(-chosen.files // len(samples())), chosen.seed)
        # A GIF of a few bytes may have any size, and be sound; to restore it takes its time.
        run(mutated, model, findings, "--max-pixels", "0.25M")
    print(findings.table())
    print(
        f"{time.monotonic() - started:.0f} s, the slowest picture {findings.slowest:.1f} s, "
        f"memory at most {findings.largest_bytes / 2**20:.0f} MiB"
    )
    for problem in findings.problems:
        print("PROBLEM:", problem)
    return 1 if findings.problems else 0


if __name__ == "__main__":
    sys.exit(main())
