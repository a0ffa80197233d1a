"""What `dmsr upscale` does to every picture, and the networks that it does it with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dmsr_cli.cli.batch.steering import Steering

if TYPE_CHECKING:
    import torch

    from dmsr_cli.cli.batch.results import Results
    from dmsr_cli.images import DirectDecoder
    from dmsr_cli.pipeline import Model
    from dmsr_cli.resizing import Enlargement, OutputSize
    from dmsr_cli.weights import ResolvedWeights


@dataclass(frozen=True)
class UpscaleOptions:
    """What is the same for every picture of a batch."""

    tile: int | str
    overlap: int | None
    degradation: Path | None
    """The file of --degradation."""
    kernel: Path | None
    """The file of --kernel."""
    kernel_width: float | None
    noise_level: float | None
    denoise: float | None
    save_degradation: bool
    compare: bool
    compare_mode: str | None
    """One of visual.COMPARISONS; None for the first."""
    overwrite: bool
    skip_existing: bool
    format_suffix: str | None
    """Of the format that results get; None for that of each input."""
    quality: int
    strip: bool
    provenance: bool
    frames: tuple[int, int | None]
    """First frame, and the one after the last (None: to the end), of what has several."""
    estimate_every: int | None
    debug: bool
    max_pixels: int
    """Of a picture that is read."""
    allow_truncated: bool
    """Take what is there of a picture that is cut short."""
    suffix: str | None
    """What the names of results get after the input's; None for the size, as _x4."""


class Models:
    """The networks of a batch: each is loaded when it is first needed, and kept.

    What there is to say of them without loading one needs no torch.
    """

    def __init__(self, name: str | None, device: str, precision: str) -> None:
        """Only finds the weights; whether they can be used is seen when one is loaded."""
        from dmsr_cli.default_model import default_family
        from dmsr_cli.weights import models_by_scale, resolve_model
        from dmsr_cli.weights_table import read_weights_table

        self.name = name or default_family(device)
        self._device, self._precision = device, precision
        self._loaded: dict[int, Model] = {}
        table = read_weights_table().values()
        family = {entry.scale: entry for entry in table if entry.family == self.name}
        self._names = {scale: entry.name for scale, entry in family.items()}
        self._sha256 = {scale: entry.sha256 for scale, entry in family.items()}
        self._kernel_sizes = {scale: entry.config.kernel_size for scale, entry in family.items()}
        if not family:
            self._names = models_by_scale(self.name)
        self._sources = dict.fromkeys(self._names, self.name)
        if not self._names:  # one model, whose scale is in its file
            scale = self._look_at(resolve_model(self.name))
            self._sources[scale], self.name = self.name, self._names[scale]
        self.scales = sorted(self._names)
        self.default_scale = 4 if 4 in self.scales else self.scales[0]

    def _look_at(self, weights: ResolvedWeights) -> int:
        """Note what the file of a model says; returns its scale."""
        from dmsr_cli.weights import file_sha256, read_config

        config = read_config(weights.path)
        scale = config.scale
        self._kernel_sizes[scale] = config.kernel_size
        self._names[scale] = weights.name
        self._sha256[scale] = weights.sha256 or file_sha256(weights.path)
        return scale

    def _ensure_known(self, scale: int) -> None:
        """Of several models in one repository, those that are used are fetched."""
        from dmsr_cli.weights import resolve_model

        if scale not in self._sha256:
            self._look_at(resolve_model(self._sources[scale], scale))

    @cached_property
    def device(self) -> torch.device:
        """Where they compute; MissingDeviceError if it is not there."""
        from dmsr_cli.device import choose_device

        return choose_device(self._device)

    def name_of(self, scale: int) -> str:
        """How messages call the network for one of `scales`."""
        return self._names[scale]

    def kernel_size_of(self, scale: int) -> int:
        """Side of the blur kernel that the network for one of `scales` takes."""
        self._ensure_known(scale)
        return self._kernel_sizes[scale]

    def sha256_of(self, scale: int) -> str:
        """Of the weight file for one of `scales`."""
        self._ensure_known(scale)
        return self._sha256[scale]

    def of_scale(self, scale: int) -> Model:
        """The network for one of `scales`."""
        from dmsr_cli.pipeline import load_model

        if scale not in self._loaded:
            self._loaded[scale] = load_model(
                self._sources[scale], self._device, scale=scale, precision=self._precision
            )
        return self._loaded[scale]


@dataclass(frozen=True)
class Batch:
    """What is wanted of every picture, and with what."""

    wanted: Enlargement | OutputSize
    passes: int
    models: Models
    options: UpscaleOptions
    decoder: DirectDecoder
    results: Results | None = None
    """Remembers what was made; None where nothing is to be remembered."""
    swept: set[Path] = field(default_factory=set)
    """Folders of results from which is removed what killed runs have left."""
    steering: Steering = field(default_factory=Steering)

    def scales_for(self, factor: float) -> tuple[int, ...]:
        """Those of the networks to run in turn.

        Raises:
            SettingsError: none reaches the factor, or what is to steer is for another one.
        """
        from dmsr_cli.resizing import plan_passes

        models = self.models
        scales = plan_passes(factor, models.name, models.scales, self.passes)
        first = scales[0]
        self.steering.check_fits(models.name_of(first), first, models.kernel_size_of(first))
        return scales

    def models_for(self, factor: float) -> list[Model]:
        """The networks to run, one after the other; SettingsError if none reaches the factor."""
        return [self.models.of_scale(scale) for scale in self.scales_for(factor)]

    def names_for(self, factor: float) -> str:
        """How the networks for a factor are called together."""
        return "+".join(map(self.models.name_of, self.scales_for(factor)))


def names_of(models: list[Model]) -> str:
    """How models that run one after the other are called together."""
    return "+".join(model.name for model in models)
