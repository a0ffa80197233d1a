"""What a training run is made of: the recipe file and its fields."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from dmsr_cli.config import DMSRConfig, from_mapping, read_toml
from dmsr_cli.errors import SettingsError


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. The defaults are the paper's where it says something (section 4.1)."""

    minutes: float | None = None
    """Budget of wall-clock time; the learning rate reaches zero when it ends."""
    iterations: int | None = None
    """Budget of optimizer steps; exactly one of the two budgets is given."""
    batch: int = 32
    """Patches for each step."""
    patch: int = 48
    """Side of a patch in LR pixels."""
    choices: int = 1
    """Random places that are compared for each patch; the one with the most detail is taken.
    More than 1 favours blurred pictures over sharp ones (docs/experiments.md)."""
    optimizer: str = "adam"
    """adam, or muon: Muon for the convolutions of extractor and body, Adam for the rest."""
    learning_rate: float = 1e-4
    """Peak of Adam's learning rate, which fits Muon, too."""
    deblur_rate: float = 0.004
    """Factor on the learning rate of the meta conv and the last conv: their output is a sum over
    thousands of products, and at the full rate one step throws the picture about."""
    warmup: int = 500
    """Iterations of linear rise before the cosine."""
    schedule: tuple[float, ...] = (0.0, 1.0)
    """The part of the cosine that this run covers: (0.5, 1) is the second half of a training that
    another run, on another machine perhaps, began with (0, 0.5)."""
    gradient_clip: float = 0.5
    """Largest norm of the gradient of extractor, restorer, and its last convolutions, each; 0
    switches it off."""
    ema: float = 0.999
    """Decay of the averaged weights that are validated and saved; 0 saves the raw ones."""
    reconstruction_error: str = "l1"
    """What equation 6 measures: l1, as in the paper, or rmse, which is nearer to PSNR."""
    reconstruction_weight: float = 1.0
    """Weight of equation 6."""
    degradation_weight: float = 10.0
    """Weight of equation 7; 0 leaves it out."""
    consistency_weight: float = 1.0
    """Weight of the first term of equation 8 (LR pictures); 0 leaves it out."""
    kernel_consistency_weight: float = 1.0
    """Weight of the other terms of equation 8 (noise map, kernel); 0 leaves them out."""
    kernel_widths: tuple[float, ...] = (0.2, 3.0)
    """Range of Gaussian kernel widths, in HR pixels."""
    noise_levels: tuple[float, ...] = (0.0, 75.0)
    """Range of noise levels, on the 0-255 scale."""
    blur_free: float = 0.0
    """Share of patches with the narrowest kernel of `kernel_widths`: pictures that are only too
    small."""
    noise_free: float = 0.0
    """Share of patches without any noise, whatever `noise_levels` says: with a range alone, hardly
    a patch is as clean as many pictures are."""
    eight_bit: float = 0.5
    """Share of LR patches that are clipped and rounded to 8 bits, as pictures in files are."""
    frozen_extractor: bool = False
    """Leave the extractor as it is, so that its estimates stay what they were while the restorer
    goes on learning. Only with `--init-from`; equations 7 and 8 must have the weight 0."""
    told_kernels: float = 0.25
    """Share of patches that are told another kernel than their own, so that the network listens
    (model/steering.py); 0 for the paper's training."""
    seed: int = 0
    """Source of all randomness: initial weights, patches, degradations."""
    precision: str = "auto"
    """fp32, bf16, or auto; losses and softmax are always fp32."""
    compile: bool = True
    """Compile the step with torch.compile; on CUDA only."""
    validate_every: float = 3.0
    """Minutes between validations (and checkpoints)."""
    validation_crop: int = 128
    """Validation pictures are cropped to this many HR pixels a side, from the centre."""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(math.isfinite(x) for x in numbers if isinstance(x, float)):
                raise SettingsError(f"{name} must be finite, not {value}")
        if self.minutes is not None and self.iterations is not None:
            raise SettingsError("give minutes or iterations, not both")
        for name in (
            *("minutes", "iterations", "batch", "patch", "choices"),
            *("learning_rate", "validate_every"),
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise SettingsError(f"{name} must be greater than 0, not {value}")
        for name in (
            *("warmup", "deblur_rate", "gradient_clip", "seed", "reconstruction_weight"),
            *("degradation_weight", "consistency_weight", "kernel_consistency_weight"),
        ):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} must not be negative: {getattr(self, name)}")
        if self.seed >= 2**32:
            raise SettingsError(f"seed must be less than 2^32, not {self.seed}")
        if self.precision not in ("auto", "fp32", "bf16"):
            # fp16 gradients would need a loss scale; bf16 does without.
            raise SettingsError(f"precision must be auto, fp32 or bf16, not {self.precision!r}")
        if self.optimizer not in ("adam", "muon"):
            raise SettingsError(f"optimizer must be adam or muon, not {self.optimizer!r}")
        if self.reconstruction_error not in ("l1", "rmse"):
            raise SettingsError(
                f"reconstruction_error must be l1 or rmse, not {self.reconstruction_error!r}"
            )
        if self.frozen_extractor and any(
            (self.degradation_weight, self.consistency_weight, self.kernel_consistency_weight)
        ):
            raise SettingsError(
                "frozen_extractor leaves nothing to learn for degradation_weight, "
                "consistency_weight and kernel_consistency_weight: set them to 0"
            )
        if self.validation_crop < 32:
            raise SettingsError(f"validation_crop must be at least 32, not {self.validation_crop}")
        for name in ("ema", "blur_free", "noise_free", "eight_bit", "told_kernels"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        for name, low, high in (
            ("kernel_widths", 0.05, math.inf),
            ("noise_levels", 0.0, math.inf),
            ("schedule", 0.0, 1.0),
        ):
            bounds = getattr(self, name)
            if len(bounds) != 2 or not low <= bounds[0] <= bounds[1] <= high:
                reach = f"from {low:g} up" if high == math.inf else f"from {low:g} to {high:g}"
                raise SettingsError(
                    f"{name} must be two numbers, the smaller first, {reach}: not {bounds}"
                )


@dataclass(frozen=True)
class Recipe:
    """A network and how to train it: the two tables of a recipe file."""

    model: DMSRConfig = field(default_factory=DMSRConfig)
    training: TrainingSettings = field(default_factory=TrainingSettings)


def read_recipe(name_or_path: str) -> Recipe:
    """Read a shipped recipe ("lite", "full") or a TOML file with tables [model] and [training].

    Raises:
        SettingsError: no such recipe, or it has an unknown or impossible key.
    """
    shipped = resources.files("dmsr_cli") / "training" / "recipes"
    path = Path(name_or_path)
    if "/" not in name_or_path and not path.suffix:
        names = sorted(item.name[:-5] for item in shipped.iterdir() if item.name[-5:] == ".toml")
        if name_or_path not in names:
            raise SettingsError(
                f"unknown recipe {name_or_path!r}: use {', '.join(names)}, or a .toml file"
            )
        with resources.as_file(shipped / f"{name_or_path}.toml") as file:
            return _recipe_from(read_toml(file), str(file))
    return _recipe_from(read_toml(path), str(path))


def _recipe_from(tables: dict[str, Any], where: str) -> Recipe:
    unknown = sorted(set(tables) - {"model", "training"})
    if unknown:
        raise SettingsError(f"{where}: unknown table {unknown[0]!r}; known are model, training")
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise SettingsError(f"{where}: {name} must be a table, not {table!r}")
    return Recipe(
        from_mapping(DMSRConfig, tables.get("model", {}), f"{where} [model]"),
        from_mapping(TrainingSettings, tables.get("training", {}), f"{where} [training]"),
    )


def with_changes(recipe: Recipe, model: dict[str, Any], training: dict[str, Any]) -> Recipe:
    """The recipe with some fields replaced; giving one budget takes the other away."""
    if training.get("minutes") is not None:
        training = {"iterations": None, **training}
    elif training.get("iterations") is not None:
        training = {"minutes": None, **training}
    return Recipe(
        dataclasses.replace(recipe.model, **model),
        dataclasses.replace(recipe.training, **training),
    )


def recipe_text(recipe: Recipe) -> str:
    """The recipe as TOML that `read_recipe` reads back to the same values."""
    lines = []
    for table, values in dataclasses.asdict(recipe).items():
        lines.append(f"[{table}]")
        lines += [
            f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None
        ]
        lines.append("")
    return "\n".join(lines)
