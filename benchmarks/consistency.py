"""How far results explain their inputs, and which pictures are said to be damaged otherwise.

    python benchmarks/consistency.py --data Set14 B100 [--scales 2 3 4] [--pictures N]
    python benchmarks/consistency.py --plain real                   # pictures as they are
    python benchmarks/consistency.py --calibrate --data val         # src/.../calibration.py

The pictures of --data are degraded in 26 ways, some as the models expect and some not
(`damages.py`). Printed is, for each way, the consistency (median, and 5 % to 95 %), the share of
pictures that get the warning, and the estimated noise level. --calibrate prints the constants that
`consistency/calibration.py` holds. The limit of a test lies two thirds of the way
(of the logarithm) from what 99.5 % of the pictures in range stay below to what 95 % of those with
the damage that it is for exceed: a needless warning is worse than a missing one, and a JPEG of good
quality needs none. If the two overlap, it is the former.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from damages import IN_RANGE, samples_of
from dmsr_cli import Model, estimate, load_model, read_image, upscale
from dmsr_cli.consistency import Consistency, check_consistency
from dmsr_cli.consistency.calibration import UNEXPLAINED_FLOOR, UNEXPLAINED_SHARE
from dmsr_cli.consistency.damage import TESTS, Planes, leniency_of
from dmsr_cli.consistency.redegradation import redegraded
from dmsr_cli.images import find_images

FALSE_ALARMS = 0.005
"""Of each test, on the pictures that it is calibrated with."""
MISSED = 0.05
TOWARDS_DAMAGE = 2 / 3
CAUGHT_BY_TEST = (
    ("salt and pepper",),
    ("JPEG 10", "JPEG 20", "JPEG 30", "JPEG 40"),
    ("motion 7 px", "motion 10 px", "motion 15 px"),
)
"""How the kinds begin that each of `TESTS` is for."""


@dataclass(frozen=True)
class Measured:
    """One picture, restored and checked."""

    kind: str
    noise_level: float
    """As estimated."""
    found: Consistency
    unexplained: float
    """Root mean square, 0-255 scale."""
    strengths: NDArray[np.float64]
    """Of the tests, as they would be in a large picture."""
    seconds: tuple[float, float]
    """To estimate and restore it, and to check it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders of HR pictures")
    parser.add_argument("--plain", type=Path, nargs="*", default=[], help="folders of LR pictures")
    parser.add_argument("--pictures", type=int, help="so many of each folder, spread over it")
    parser.add_argument("--model", default="dmsr-lite")
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--calibrate", action="store_true")
    options = parser.parse_args()
    models = [load_model(options.model, options.device, scale=scale) for scale in options.scales]
    for folder in options.plain:
        print_plain(folder, models)
    measured = [
        measure(sample.kind, sample.pixels, model)
        for model in models
        for folder in options.data
        for sample in samples_of(folder, model.scale, options.pictures)
    ]
    if options.calibrate:
        print_constants(measured)
    elif measured:
        print_table(measured)


def measure(kind: str, pixels: NDArray[np.float32], model: Model) -> Measured:
    """Restore a picture and see how far the result explains it."""
    start = time.perf_counter()
    degradation = estimate(pixels, model)
    result = upscale(pixels, model, degradation)
    restored = time.perf_counter()
    kernel, noise = degradation.kernel, degradation.noise_map
    found = check_consistency(pixels, result, kernel, noise, model.scale, model.device)
    checked = time.perf_counter()
    explained = redegraded(result, kernel, model.scale, model.device)
    planes = Planes(
        *((plane.mean(axis=2) * 255) for plane in (pixels - explained, noise, explained))
    )
    leniency = leniency_of(*pixels.shape[:2])
    expected = np.hypot(UNEXPLAINED_FLOOR, UNEXPLAINED_SHARE * degradation.noise_level)
    return Measured(
        kind,
        degradation.noise_level,
        found,
        float(np.sqrt(np.mean(np.square(found.map)))) * float(expected),
        np.array([test.strength(planes) / leniency for test in TESTS]),
        (restored - start, checked - restored),
    )


def print_table(measured: list[Measured]) -> None:
    """One row for each kind of damage, and one for all that are in range."""
    kinds: dict[str, list[Measured]] = defaultdict(list)
    for one in measured:
        kinds[one.kind].append(one)
    kinds["all in range"] = in_range(measured)
    print("| damage | pictures | consistency (5 % to 95 %) | warned of | estimated noise |")
    print("|---|---|---|---|---|")
    for kind, ones in kinds.items():
        low, median, high = np.quantile([one.found.decibels for one in ones], [0.05, 0.5, 0.95])
        warned = np.mean([one.found.is_in_range is False for one in ones])
        noise = np.median([one.noise_level for one in ones])
        print(
            f"| {kind} | {len(ones)} | {median:.1f} ({low:.1f} to {high:.1f}) | {warned:.1%} | "
            f"{noise:.1f} |"
        )
    restoring, checking = np.sum([one.seconds for one in measured], axis=0)
    print(f"\nchecking took {checking / restoring:.1%} of the time of estimating and restoring")


def print_plain(folder: Path, models: list[Model]) -> None:
    """What is said of pictures as they are."""
    print(f"| {folder.name} | scale | consistency | noise | warned of |\n|---|---|---|---|---|")
    for path in find_images(folder):
        for model in models:
            one = measure("as it is", read_image(path).pixels, model)
            print(
                f"| {path.name} | {model.scale} | {one.found.decibels:.1f} | "
                f"{one.noise_level:.1f} | {one.found.reason or ''} |",
                flush=True,
            )
    print()


def print_constants(measured: list[Measured]) -> None:
    """What `consistency/calibration.py` holds."""
    usual = in_range(measured)
    floor, share = fitted_unexplained(usual)
    print(f"UNEXPLAINED_FLOOR = {floor:.2g}\nUNEXPLAINED_SHARE = {share:.2g}")
    names = ("PEAKS_LIMIT", "GRID_LIMIT", "DIRECTION_LIMIT")
    for number, (name, kinds) in enumerate(zip(names, CAUGHT_BY_TEST, strict=True)):
        others = [one for one in measured if one.kind.startswith(kinds)]
        most = np.quantile([one.strengths[number] for one in usual], 1 - FALSE_ALARMS)
        least = np.quantile([one.strengths[number] for one in others], MISSED)
        limit = float(most * max(1, least / most) ** TOWARDS_DAMAGE)
        print(f"{name} = {limit:.2g}  # in range up to {most:.3g}, {kinds[0]}: from {least:.3g}")


def fitted_unexplained(usual: list[Measured]) -> tuple[float, float]:
    """Floor a and share b so that sqrt(a^2 + (b noise)^2) has the median ratio 1 to what is left.

    The floor is the median of what is left of pictures without noise; the share is the median of
    what is needed beyond that where noise is strong.
    """
    floor = float(np.median([one.unexplained for one in usual if one.kind == f"{IN_RANGE} 0"]))
    noisy = [one for one in usual if one.noise_level > 15]
    shares = [np.sqrt(max(0.0, one.unexplained**2 - floor**2)) / one.noise_level for one in noisy]
    return floor, float(np.median(shares))


def in_range(measured: list[Measured]) -> list[Measured]:
    return [one for one in measured if one.kind.startswith(IN_RANGE)]


if __name__ == "__main__":
    main()
