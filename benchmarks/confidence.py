"""How probable it is that estimates are right: finds the coefficients of assessment/confidence.py.

    python benchmarks/confidence.py --data val [--model dmsr-lite] [--cases 1800]

Parts of the pictures of --data, of 3 to 128 LR pixels a side, some with less contrast, some flat,
some too bright, are degraded (widths 0.2 to 3, noise 0 to 75, 8-bit) and estimated. An estimate is
good if its kernel width is within 0.3 pixels, or its noise level within 10 % or 1 level. Printed
are the coefficients, and for five equal parts of the cases what is predicted and what is observed,
each picture predicted by coefficients that were found without it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dmsr_cli import Model, estimate, load_model, read_image
from dmsr_cli.assessment.clues import Clues, find_clues
from dmsr_cli.assessment.confidence import (
    KERNEL_TERMS,
    LEVEL_SHARE,
    LEVEL_TOLERANCE,
    NOISE_TERMS,
    WIDTH_TOLERANCE,
)
from dmsr_cli.degradation import (
    KERNEL_WIDTHS,
    NOISE_LEVELS,
    degrade,
    gaussian_kernel,
    to_8bit,
)
from dmsr_cli.images import find_images

Values = NDArray[np.float64]

SCALES = (2, 3, 4)
SIDES = (3, 128)
"""Of a part, in LR pixels."""
MARGIN = 16
"""HR pixels around a part, which are cut off after it was degraded: they have a border."""
FOLDS = 5
PENALTY = 1.0
"""On the squares of the coefficients of terms with deviation 1."""


class Case(NamedTuple):
    """A degraded part of a picture, and how well it was estimated."""

    picture: int
    clues: Clues
    kernel_is_good: bool
    noise_is_good: bool


class Formula(NamedTuple):
    """A logistic formula of terms that are held in a range."""

    intercept: float
    weights: Values
    low: Values
    high: Values

    def probabilities(self, terms: Values) -> Values:
        """Of each row of terms."""
        totals = self.intercept + terms.clip(self.low, self.high) @ self.weights
        result: Values = 1 / (1 + np.exp(-totals))
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="HR pictures")
    parser.add_argument("--model", default="dmsr-lite", help="a family of models")
    parser.add_argument("--cases", type=int, default=1800)
    parser.add_argument("--scales", type=int, nargs="+", default=SCALES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pictures = [as_tensor(read_image(path).pixels) for path in find_images(options.data)]
    cases: list[Case] = []
    for scale in options.scales:
        model = load_model(options.model, "cpu", scale=scale)
        cases += cases_of(pictures, model, options.cases // len(options.scales))
    for name, terms, good in (
        ("kernel", KERNEL_TERMS, [case.kernel_is_good for case in cases]),
        ("noise", NOISE_TERMS, [case.noise_is_good for case in cases]),
    ):
        values = np.array([[term(case.clues) for term in terms.values()] for case in cases])
        show(name, list(terms), values, np.array(good), np.array([case.picture for case in cases]))


def as_tensor(pixels: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)


def cases_of(pictures: Sequence[Tensor], model: Model, count: int) -> list[Case]:
    """The pictures by turns, with draws that are the same each time."""
    random = np.random.default_rng(model.scale)
    return [
        case_of(number % len(pictures), pictures[number % len(pictures)], model, random)
        for number in range(count)
    ]


def case_of(number: int, picture: Tensor, model: Model, random: np.random.Generator) -> Case:
    scale = model.scale
    hr = repainted(part_of(picture, scale, random), random)
    width = float(random.uniform(*KERNEL_WIDTHS))
    # Strong noise is rarer than weak noise, and a fifth of the pictures has none.
    level = 0.0 if random.random() < 0.2 else NOISE_LEVELS[1] * float(random.random()) ** 1.5
    generator = torch.Generator().manual_seed(int(random.integers(2**31)))
    lr = to_8bit(degrade(hr, gaussian_kernel(width), scale, level, generator))
    cut = -(-MARGIN // scale)
    pixels = np.ascontiguousarray(lr[0, :, cut:-cut, cut:-cut].permute(1, 2, 0).numpy())
    found = estimate(pixels, model)
    return Case(
        number,
        find_clues(found, pixels),
        abs(found.kernel_width - width) <= WIDTH_TOLERANCE,
        abs(found.noise_level - level) <= max(LEVEL_TOLERANCE, LEVEL_SHARE * level),
    )


def part_of(picture: Tensor, scale: int, random: np.random.Generator) -> Tensor:
    """A part with a margin, its sides multiples of the scale; small ones are as frequent."""
    margin = 2 * -(-MARGIN // scale) * scale
    rows, columns = (
        min(round(float(np.exp(random.uniform(*np.log(SIDES))))), (length - margin) // scale)
        for length in picture.shape[-2:]
    )
    height, width = rows * scale + margin, columns * scale + margin
    top = int(random.integers(picture.shape[-2] - height + 1))
    left = int(random.integers(picture.shape[-1] - width + 1))
    return picture[..., top : top + height, left : left + width]


def repainted(hr: Tensor, random: np.random.Generator) -> Tensor:
    """Most as they are; some with less contrast, some quite flat, some too bright."""
    kind = random.random()
    contrast = 0.0 if kind < 0.05 else float(np.exp(random.uniform(np.log(0.03), 0)))
    mean = hr.mean()
    if kind < 0.35:
        hr = (hr - mean) * contrast + mean
    if random.random() < 0.2:
        hr = hr * float(random.uniform(1, 2.5))
    return hr.clamp(0, 1)


def fitted(terms: Values, good: NDArray[np.bool_]) -> Formula:
    """The most probable coefficients, by Newton's method, with a slight pull to 0."""
    finite = np.where(np.isfinite(terms), terms, np.nan)
    low, high = np.nanpercentile(finite, 1, axis=0), np.nanpercentile(finite, 99, axis=0)
    held = terms.clip(low, high)
    mean, deviation = held.mean(axis=0), held.std(axis=0) + 1e-9
    inputs = np.c_[np.ones(len(held)), (held - mean) / deviation]
    pull = PENALTY * np.diag([0.0] + [1.0] * held.shape[1])
    weights = np.zeros(inputs.shape[1])
    for _ in range(30):
        likely = 1 / (1 + np.exp(-inputs @ weights))
        curvature = (inputs.T * (likely * (1 - likely))) @ inputs + pull + 1e-9 * np.eye(len(pull))
        weights += np.linalg.solve(curvature, inputs.T @ (good - likely) - pull @ weights)
    scaled = weights[1:] / deviation
    return Formula(float(weights[0] - mean @ scaled), scaled, low, high)


def show(
    name: str, terms: Sequence[str], values: Values, good: NDArray[np.bool_], pictures: Values
) -> None:
    """The coefficients as Python has them, and the table."""
    formula = fitted(values, good)
    print(f"{name.upper()}_INTERCEPT = {formula.intercept:.3f}")
    print(f"{name.upper()}_COEFFICIENTS: Mapping[str, Coefficient] = {{")
    for term, *numbers in zip(terms, formula.weights, formula.low, formula.high, strict=True):
        print(f'    "{term}": Coefficient({", ".join(f"{one:.3f}" for one in numbers)}),')
    print("}\n")
    predicted = np.empty(len(good))
    for fold in range(FOLDS):
        tested = pictures % FOLDS == fold
        if tested.any():
            predicted[tested] = fitted(values[~tested], good[~tested]).probabilities(values[tested])
    print(f"| {name}: cases | predicted | observed |\n|---|---|---|")
    for part in np.array_split(np.argsort(predicted), 5):
        print(f"| {len(part)} | {predicted[part].mean():.2f} | {good[part].mean():.2f} |")
    print(f"| {len(good)} | {predicted.mean():.2f} | {good.mean():.2f} |\n")


if __name__ == "__main__":
    main()
