"""How much memory a large picture takes: the peak of `dmsr upscale` against the result's size.

    python benchmarks/memory.py [--sizes 500x333 3000x2000] [--model NAME] [--output FILE.md]

For each size a fresh process restores a tiny picture, so that all libraries are there, and then a
PNG file to a PNG file, by the command line. The table shows the most that was resident above what
was after the tiny picture, and by how many bytes it grew for each further pixel of the result.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import dmsr_cli
import workers
from dmsr_cli.cli.main import main as dmsr
from dmsr_cli.files import atomic_write

SAMPLE = Path(__file__).parent.parent / "examples" / "cat_noisy.png"
TINY = 32
"""Side of the picture that is restored first."""
SIZES = ("500x333", "1000x667", "2000x1333", "3000x2000")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="of LR pictures, from small")
    parser.add_argument("--model", default="dmsr-lite-x4")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="file for the table, in Markdown")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        restore(arguments.one, arguments.model, arguments.device)
        return
    lines = [
        "| LR picture | result, MP | s | MiB above the libraries | bytes per pixel |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    previous = None
    for size in arguments.sizes:
        width, height = (int(side) for side in size.split("x"))
        found = measure(width, height, arguments.model, arguments.device)
        growth = ""
        if previous is not None:
            more = found["pixels"] - previous["pixels"]
            growth = f"{(found['memory'] - previous['memory']) / more:.2f}"
        previous = found
        lines.append(
            f"| {size} | {found['pixels'] / 1e6:.1f} | {found['seconds']:.1f} "
            f"| {found['memory'] / 2**20:.0f} | {growth} |"
        )
        print(lines[-1], flush=True)
    if arguments.output:
        with atomic_write(arguments.output) as temporary_path:
            temporary_path.write_text("\n".join(lines) + "\n", "utf-8")


def measure(width: int, height: int, model: str, device: str) -> dict[str, float]:
    """Restore a picture of this size in a fresh process: seconds, bytes, pixels of the result."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side, shape in (("tiny", (TINY, TINY)), ("large", (height, width))):
            _write_sample(folder / f"{side}.png", *shape)
        command = [sys.executable, __file__, "--model", model, "--device", device, "--one", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{width}x{height}: {(done.stderr.strip() or 'its process ended')}")
        found: dict[str, float] = json.loads(done.stdout)
        return found


def restore(folder: Path, model: str, device: str) -> None:
    """The tiny picture, then the large one, in this process."""
    _upscale(folder / "tiny.png", model, device)
    before = workers.resident()
    workers.reset_peak()
    start = time.perf_counter()
    _upscale(folder / "large.png", model, device)
    seconds, memory = time.perf_counter() - start, workers.peak_resident() - before
    height, width = dmsr_cli.read_image(folder / "large_out.png").pixels.shape[:2]
    print(json.dumps({"seconds": seconds, "memory": memory, "pixels": height * width}))


def _upscale(path: Path, model: str, device: str) -> None:
    output = path.with_name(f"{path.stem}_out.png")
    with contextlib.redirect_stdout(sys.stderr):
        options = ["--model", model, "--device", device]
        status = dmsr(["upscale", str(path), "-o", str(output), *options])
    if status:
        sys.exit(status)


def _write_sample(path: Path, height: int, width: int) -> None:
    """The demo's picture, repeated to this size."""
    pixels = dmsr_cli.read_image(SAMPLE).pixels
    times = (-(-height // pixels.shape[0]), -(-width // pixels.shape[1]), 1)
    dmsr_cli.write_image(np.tile(pixels, times)[:height, :width], path)


if __name__ == "__main__":
    main()
