"""A long batch of small pictures: does it grow, what does one process save, who waits for whom?

    python benchmarks/batch.py [--pictures 2000] [--side 64] [--device cpu] [--output FILE.md]
        [--json FILE.json] [--curve FILE.png]

Three parts. One `dmsr upscale` makes all the pictures x2; meanwhile the memory and CPU time of all
its processes are looked at, and compared between the first and the last quarter of the pictures.
Some of the pictures are made by a process each, half of them before and half after the batch: the
ratio of the times. At last, pictures of 512x512 in one batch: the share of the time, from the
first to the last, in which the network is at work.

The memory of processes is read from /proc: Linux only. --curve needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dmsr_cli
from dmsr_cli import pipeline
from dmsr_cli.cli.main import main as dmsr
from dmsr_cli.files import atomic_write
from processes import usage_of

SAMPLE = Path(__file__).parent.parent / "examples" / "streetsign.png"
LOOK_EVERY = 0.25
MIB = 2**20


@dataclass(frozen=True)
class Look:
    seconds: float
    pictures: int
    memory: int
    cpu: float
    processes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--singles", type=int, default=10, help="pictures with their own process")
    parser.add_argument("--busy-pictures", type=int, default=24)
    parser.add_argument("--busy-side", type=int, default=512)
    parser.add_argument("--model", default="dmsr-lite-x2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="file for the table, in Markdown")
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    parser.add_argument("--curve", type=Path, help="file for a picture of memory over time")
    parser.add_argument("--busy", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    options = ["--model", arguments.model, "--device", arguments.device]
    if arguments.busy:
        print(json.dumps(busy_share(arguments.busy, options)))
        return
    found = measure(arguments, options)
    text = table(found)
    print(text)
    if arguments.output:
        _write(arguments.output, text + "\n")
    if arguments.json:
        _write(arguments.json, json.dumps(found) + "\n")
    if arguments.curve:
        draw(found["looks"], arguments.curve)


def measure(arguments: argparse.Namespace, options: list[str]) -> dict[str, Any]:
    """All three parts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        album = folder / "album"
        write_pictures(album, arguments.pictures, arguments.side)
        some = sorted(album.iterdir())[: arguments.singles]
        half = len(some) // 2
        singles = [one_process(path, folder, options) for path in some[:half]]
        looks, seconds = watch_batch(album, folder / "results", options)
        singles += [one_process(path, folder, options) for path in some[half:]]
        large = folder / "large"
        write_pictures(large, arguments.busy_pictures, arguments.busy_side)
        command = [sys.executable, __file__, *options, "--busy", str(large)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {
        "pictures": arguments.pictures,
        "side": arguments.side,
        "busy_side": arguments.busy_side,
        "model": arguments.model,
        "device": arguments.device,
        "seconds": seconds,
        "single_seconds": singles,
        "busy": json.loads(done.stdout.splitlines()[-1]),
        "looks": [asdict(look) for look in looks],
    }


def write_pictures(folder: Path, count: int, side: int) -> None:
    """Parts of a sample, each different from the others."""
    folder.mkdir()
    pixels = dmsr_cli.read_image(SAMPLE).pixels
    times = [max(1, -(-2 * side // length)) for length in pixels.shape[:2]]
    pixels = np.tile(pixels, (*times, 1))
    generator = np.random.default_rng(0)
    for number in range(count):
        part = _part(pixels, side, generator)
        dmsr_cli.write_image(part, folder / f"{number:05}.png")


def _part(
    pixels: NDArray[np.float32], side: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    top, left = (int(generator.integers(length - side + 1)) for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def one_process(path: Path, folder: Path, options: list[str]) -> float:
    """Seconds of a process for one picture."""
    command = [sys.executable, "-m", "dmsr_cli", "upscale", str(path), *options]
    start = time.perf_counter()
    subprocess.run(
        [*command, "-o", str(folder / f"single_{path.name}")], check=True, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def watch_batch(album: Path, results: Path, options: list[str]) -> tuple[list[Look], float]:
    """What a batch uses while it runs, look by look, and its seconds in all."""
    report = results.with_suffix(".jsonl")
    command = [sys.executable, "-m", "dmsr_cli", "upscale", str(album), *options]
    command += ["-o", f"{results}/", "--report", str(report)]
    start = time.perf_counter()
    looks = []
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(LOOK_EVERY)
            usage = usage_of(process.pid)
            told = report.read_bytes().count(b"\n") if report.exists() else 0
            seconds = time.perf_counter() - start
            looks.append(Look(seconds, told, usage.memory, usage.cpu, usage.count))
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"the batch failed: exit status {process.returncode}")
    return [look for look in looks if look.pictures and look.memory], seconds


def busy_share(folder: Path, options: list[str]) -> dict[str, float]:
    """In this process: how much of a batch's time the network is at work.

    The first picture, which has to wait for the libraries, does not count.
    """
    spans: list[tuple[float, float]] = []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **keywords)
            spans.append((start, time.perf_counter()))
            return result

        return call

    # Both hand over arrays of the main memory: the device has done its work when they return.
    for name in ("estimate", "upscale"):
        setattr(pipeline, name, timed(getattr(pipeline, name)))
    if dmsr(["upscale", str(folder), "-o", f"{folder}_results/", *options]):
        sys.exit("the batch of large pictures failed")
    counted = spans[2:]
    wall = counted[-1][1] - counted[0][0]
    busy = sum(end - start for start, end in counted)
    return {"share": busy / wall, "seconds_per_picture": wall / (len(counted) / 2)}


def table(found: dict[str, Any]) -> str:
    """What was found, in Markdown."""
    looks = [Look(**look) for look in found["looks"]]
    count, seconds = found["pictures"], found["seconds"]
    first, last = (_quarter(looks, count, number) for number in (0, 3))
    single = float(np.median(found["single_seconds"]))
    rows = [
        ("pictures a second", f"{count / seconds:.1f}"),
        *_compared("ms for a picture", first, last, lambda looks: _slope(looks, "seconds", 1e3)),
        *_compared("CPU ms for a picture", first, last, lambda looks: _slope(looks, "cpu", 1e3)),
        *_compared(
            "MiB of memory, median",
            *(first, last),
            lambda looks: float(np.median([look.memory for look in looks])) / MIB,
        ),
        ("MiB of memory, peak", f"{max(look.memory for look in looks) / MIB:.0f}"),
        ("processes, most", str(max(look.processes for look in looks))),
        ("s for a picture in a process of its own", f"{single:.2f}"),
        ("against the batch, with its start", f"{single * count / seconds:.0f} times as long"),
        (
            f"network at work, {found['busy_side']}x{found['busy_side']}",
            f"{found['busy']['share']:.1%}",
        ),
        ("s for each of those", f"{found['busy']['seconds_per_picture']:.3f}"),
    ]
    title = (
        f"{count} pictures of {found['side']}x{found['side']}, {found['model']}, {found['device']}"
    )
    return "\n".join([f"| {title} | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])


def _compared(
    what: str, first: Sequence[Look], last: Sequence[Look], value: Callable[..., float]
) -> Iterator[tuple[str, str]]:
    values = value(first), value(last)
    names = ("first quarter", "last quarter")
    for name, number in zip(names, values, strict=True):
        yield f"{what}, {name}", f"{number:.1f}"


def _quarter(looks: list[Look], count: int, number: int) -> list[Look]:
    """The looks while a quarter of the pictures was made."""
    inside = [look for look in looks if number <= 4 * look.pictures / count <= number + 1]
    if len(inside) < 2:
        sys.exit("too few pictures: a quarter of them must take a second")
    return inside


def _slope(looks: Sequence[Look], field: str, unit: float) -> float:
    """By how much a value grows with each picture."""
    spent = [getattr(look, field) for look in (looks[0], looks[-1])]
    pictures = looks[-1].pictures - looks[0].pictures
    return unit * float(spent[1] - spent[0]) / max(1, pictures)


def draw(looks: list[dict[str, Any]], path: Path) -> None:
    """Memory over the time, as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3), layout="constrained")
    axes.plot([look["pictures"] for look in looks], [look["memory"] / MIB for look in looks])
    axes.set(xlabel="pictures", ylabel="MiB, all processes", ylim=(0, None))
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
