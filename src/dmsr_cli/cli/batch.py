"""What `dmsr upscale` does to every picture, and the networks that it does it with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dmsr_cli.pipeline import Model
    from dmsr_cli.resizing import Enlargement, OutputSize


@dataclass(frozen=True)
class UpscaleOptions:
    """What is the same for every picture of a batch."""

    tile: int | str
    overlap: int | None
    kernel_width: float | None
    noise_level: float | None
    denoise: float | None
    save_degradation: bool
    compare: bool
    overwrite: bool
    skip_existing: bool
    suffix: str | None
    """Of the format that results get; None for that of each input."""
    quality: int
    strip: bool
    provenance: bool
    frames: tuple[int, int | None]
    """First frame, and the one after the last (None: to the end), of what has several."""
    estimate_every: int | None
    debug: bool


class Models:
    """The networks of a batch: each is loaded when it is first needed, and kept."""

    def __init__(self, name: str | None, device: str, precision: str) -> None:
        """A family's networks are not loaded yet; but a device that is not there fails at once."""
        from dmsr_cli.device import choose_device
        from dmsr_cli.pipeline import DEFAULT_FAMILY, load_model
        from dmsr_cli.weights import read_weights_table

        self.name = name or DEFAULT_FAMILY
        self.device = choose_device(device)
        self._load = partial(load_model, self.name, device, precision=precision)
        self._loaded: dict[int, Model] = {}
        table = read_weights_table().values()
        self.scales = sorted(entry.scale for entry in table if entry.family == self.name)
        self.default_scale = 4
        if not self.scales:  # one model, which knows its scale itself
            model = self._load()
            self.name, self.default_scale, self.scales = model.name, model.scale, [model.scale]
            self._loaded[model.scale] = model

    def of_scale(self, scale: int) -> Model:
        """The network for one of `scales`."""
        if scale not in self._loaded:
            self._loaded[scale] = self._load(scale=scale)
        return self._loaded[scale]


@dataclass(frozen=True)
class Batch:
    """What is wanted of every picture, and with what."""

    wanted: Enlargement | OutputSize
    passes: int
    models: Models
    options: UpscaleOptions
    swept: set[Path] = field(default_factory=set)
    """Folders of results from which is removed what killed runs have left."""

    def models_for(self, factor: float) -> list[Model]:
        """The networks to run, one after the other; SettingsError if none reaches the factor."""
        from dmsr_cli.resizing import plan_passes

        scales = plan_passes(factor, self.models.name, self.models.scales, self.passes)
        return [self.models.of_scale(scale) for scale in scales]


def names_of(models: list[Model]) -> str:
    """How models that run one after the other are called together."""
    return "+".join(model.name for model in models)
