"""What it costs to decode pictures in a process of their own, side by side with decoding them here.

    python benchmarks/isolation.py [--repeats 20]

Prints a table in Markdown: the median time to read a PNG of 512x512 and a JPEG of 24 megapixels,
and the time until the first picture is there, the start of the process included.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import PIL.Image

from dmsr_cli.images import DirectDecoder, IsolatedDecoder

SAMPLE = Path(__file__).parent.parent / "examples" / "streetsign.png"
SIZES = {"small.png": (512, 512), "large.jpg": (6000, 4000)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder))
        started = time.perf_counter()
        with DirectDecoder() as here, IsolatedDecoder() as there:
            there.read_image(paths[0])
            start = time.perf_counter() - started
            print("| | here | in a process of its own | ratio |\n|---|---|---|---|")
            for path in paths:
                times: list[list[float]] = [[], []]
                for _ in range(arguments.repeats):  # by turns: the machine's load changes
                    for taken, decoder in zip(times, (here, there), strict=True):
                        taken.append(seconds(lambda: decoder.read_image(path)))  # noqa: B023 - called at once
                one, other = map(statistics.median, times)
                row = f"{path.name} | {1000 * one:.1f} ms | {1000 * other:.1f} ms"
                print(f"| {row} | {other / one:.2f} |")
            print(f"| first picture, with the start | | {start:.2f} s | |")


def write_pictures(folder: Path) -> list[Path]:
    paths = []
    with PIL.Image.open(SAMPLE) as picture:
        for name, size in SIZES.items():
            picture.convert("RGB").resize(size).save(folder / name, quality=92)
            paths.append(folder / name)
    return paths


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
