"""How well blur and noise are estimated where both are known, beside estimators without a network.

    python benchmarks/estimation.py --data Set14 B100 [--models NAME...] [-o FILE.json]
        [--markdown] [--plots FOLDER]
    python benchmarks/estimation.py --read FILE.json --markdown --plots FOLDER

Every HR picture is degraded as equation 1 says, with known widths and noise levels, as float and as
8-bit LR, with the same noise as `dmsr evaluate`. Each width is measured at a few noise levels and
each level at a few widths; --full measures every pair. Errors of a noise level are differences to
the noise that is in the LR picture, which is less than what was added where clipping took some.

--plots needs matplotlib; the column of scikit-image's estimate_sigma needs it and PyWavelets.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classical_estimators import edge_width, has_wavelets, laplacian_level, wavelet_level
from dmsr_cli import DmsrError, Model, estimate, load_model, read_image
from dmsr_cli.degradation import crop_to_multiple, degrade, gaussian_kernel, to_8bit
from dmsr_cli.errors import DataError
from dmsr_cli.evaluation import LR_KINDS
from dmsr_cli.files import atomic_write, display_name
from dmsr_cli.images import find_images
from estimation_tables import Score, draw, tables

Pixels = NDArray[np.float32]
Errors = dict[str, float]

WIDTHS = (0.2, 0.5, 0.8, 1.1, 1.4, 1.7, 2.0, 2.3, 2.6, 3.0)
LEVELS = (0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 25.0, 35.0, 50.0, 75.0)
WIDTHS_OF_ALL_LEVELS = (0.2, 1.4, 2.6)
LEVELS_OF_ALL_WIDTHS = (0.0, 15.0, 50.0)
MODELS = ("dmsr-lite-x2", "dmsr-lite-x3", "dmsr-lite-x4")
LARGEST_PSNR = 100.0
"""Of an estimated kernel that is exactly right."""


class Cell(NamedTuple):
    """One degradation of one set of pictures."""

    data: str
    scale: int
    lr: str
    kernel_width: float
    noise_level: float


@dataclass(frozen=True)
class Truth:
    """An LR picture, and what was done to it."""

    lr: str
    kernel_width: float
    noise_level: float
    pixels: Pixels
    """(h, w, 3)"""
    noise: Pixels
    """(h, w, 3): LR less the same without noise; clipping and rounding included."""


Method = Callable[[Truth], Errors]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, nargs="+", help="folders of HR pictures")
    source.add_argument("--read", type=Path, nargs="+", help="what -o wrote, instead of measuring")
    parser.add_argument("--models", nargs="+", default=MODELS, help="names or weight files")
    parser.add_argument("--pictures", type=int, help="so many of each folder, spread over it")
    parser.add_argument("--widths", type=float, nargs="+", default=WIDTHS)
    parser.add_argument("--levels", type=float, nargs="+", default=LEVELS)
    parser.add_argument("--full", action="store_true", help="every width at every noise level")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--device", default="auto")
    parser.add_argument("-o", "--output", type=Path, help="file for all scores, JSON")
    parser.add_argument("--markdown", action="store_true", help="print the tables")
    parser.add_argument("--plots", type=Path, help="folder for the plots, PNG")
    options = parser.parse_args()
    try:
        scores = read(options.read) if options.read else measure(options)
    except DmsrError as error:
        sys.exit(f"estimation.py: {error}")
    if options.output:
        with atomic_write(options.output) as temporary:
            lines = ",\n".join(json.dumps(asdict(score)) for score in scores)
            temporary.write_text(f"[\n{lines}\n]\n", "utf-8")
    if options.markdown:
        print(tables(scores))
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        draw(scores, options.plots)


def read(paths: Sequence[Path]) -> list[Score]:
    """The scores in files that `main` wrote."""
    return [Score(**row) for path in paths for row in json.loads(path.read_text("utf-8"))]


def measure(options: argparse.Namespace) -> list[Score]:
    """Degrade and estimate everything; says on standard error how far it is."""
    # By what they were called: weight files of several runs have the same name.
    models = {name: load_model(name, options.device) for name in options.models}
    grid = grid_of(options.widths, options.levels, options.full)
    if not has_wavelets():
        print("without estimate_sigma: pip install scikit-image PyWavelets", file=sys.stderr)
    rows: dict[tuple[Cell, str], list[Errors]] = {}
    start = time.monotonic()
    for scale in sorted({model.scale for model in models.values()}):
        methods = methods_of(models, scale)
        for folder in options.data:
            paths = find_images(folder)
            if not paths:
                raise DataError(f"no pictures in {display_name(folder)}")
            for path in spread(paths, options.pictures):
                for truth in degraded(path, scale, grid, options.seed):
                    cell = Cell(
                        *(folder.resolve().name, scale, truth.lr),
                        *(truth.kernel_width, truth.noise_level),
                    )
                    for name, method in methods.items():
                        rows.setdefault((cell, name), []).append(method(truth))
                print(f"{time.monotonic() - start:5.0f} s  x{scale} {path.name}", file=sys.stderr)
    return [
        Score(*cell, name, len(errors), **means_of(errors)) for (cell, name), errors in rows.items()
    ]


def grid_of(
    widths: Sequence[float], levels: Sequence[float], full: bool
) -> list[tuple[float, float]]:
    """The pairs of width and noise level that are measured."""
    return [
        (width, level)
        for width in widths
        for level in levels
        if full or width in WIDTHS_OF_ALL_LEVELS or level in LEVELS_OF_ALL_WIDTHS
    ]


def means_of(rows: list[Errors]) -> dict[str, Any]:
    return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}


def spread(paths: list[Path], count: int | None) -> list[Path]:
    """So many of the paths, evenly spread; all of them if there are no more."""
    if count is None or count >= len(paths):
        return paths
    return [paths[number * len(paths) // count] for number in range(count)]


def methods_of(models: dict[str, Model], scale: int) -> dict[str, Method]:
    """All estimators for one scale, by the names that they have in the tables."""
    methods: dict[str, Method] = {
        name: functools.partial(network_errors, model=model)
        for name, model in models.items()
        if model.scale == scale
    }
    if has_wavelets():
        methods["estimate_sigma"] = lambda truth: level_errors(wavelet_level(truth.pixels), truth)
    methods["Laplacian"] = lambda truth: level_errors(laplacian_level(truth.pixels), truth)
    methods["edges"] = lambda truth: width_errors(edge_width(truth.pixels, scale), truth)
    return methods


def degraded(
    path: Path, scale: int, grid: Sequence[tuple[float, float]], seed: int
) -> Iterator[Truth]:
    """A picture in every degradation, with the noise that `dmsr evaluate` gives it."""
    hr = torch.from_numpy(read_image(path).pixels).permute(2, 0, 1).unsqueeze(0)
    hr = crop_to_multiple(hr, scale)
    clean: dict[float, Tensor] = {}
    for width, level in grid:
        if width not in clean:
            clean = {width: degrade(hr, gaussian_kernel(width), scale, 0)}
        generator = torch.Generator().manual_seed(zlib.crc32(path.stem.encode()) + seed)
        noise = torch.randn(clean[width].shape, generator=generator) * (level / 255)
        for kind in LR_KINDS:
            lr = clean[width] + noise
            if kind == "8-bit":
                lr = to_8bit(lr)
            yield Truth(kind, width, level, as_pixels(lr), as_pixels(lr - clean[width]))


def as_pixels(picture: Tensor) -> Pixels:
    return np.ascontiguousarray(picture[0].permute(1, 2, 0).numpy())


def network_errors(truth: Truth, model: Model) -> Errors:
    """All that a network gets wrong."""
    found = estimate(truth.pixels, model)
    true_kernel = gaussian_kernel(truth.kernel_width, found.kernel.shape[0])[0].numpy()
    difference = 255 * (found.noise_map.astype(np.float64) - truth.noise)
    errors = {
        "kernel_psnr": kernel_psnr(found.kernel, true_kernel),
        "map_error": float(np.sqrt(np.mean(difference**2))),
        **width_errors(found.kernel_width, truth),
        **level_errors(found.noise_level, truth),
    }
    detail = level_errors(laplacian_level(found.noise_map), truth)
    errors |= {f"detail_{name}": detail[f"level_{name}"] for name in ("error", "distance")}
    if truth.noise_level:  # else it is nothing, or what rounding left
        pair = np.corrcoef(found.noise_map.ravel(), truth.noise.ravel())
        errors["map_correlation"] = float(pair[0, 1])
    return errors


def kernel_psnr(found: Pixels, true: Pixels) -> float:
    """PSNR in dB of a kernel; the peak is the largest tap of the true one."""
    error = float(np.mean(np.square(found.astype(np.float64) - true)))
    return min(LARGEST_PSNR, 10 * float(np.log10(true.max() ** 2 / max(error, 1e-30))))


def width_errors(width: float, truth: Truth) -> Errors:
    error = width - truth.kernel_width
    return {"width_error": error, "width_distance": abs(error)}


def level_errors(level: float, truth: Truth) -> Errors:
    error = level - 255 * float(np.sqrt(np.mean(np.square(truth.noise, dtype=np.float64))))
    lost = level - truth.noise_level
    return {
        **{"level_error": error, "level_distance": abs(error)},
        **{"sigma_error": lost, "sigma_distance": abs(lost)},
    }


if __name__ == "__main__":
    main()
