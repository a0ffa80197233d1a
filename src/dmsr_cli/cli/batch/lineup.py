"""The models that `dmsr upscale --compare-models` compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dmsr_cli.cli.batch.settings import Batch, Models, UpscaleOptions
from dmsr_cli.cli.batch.steering import read_steering
from dmsr_cli.config import SCALES
from dmsr_cli.errors import SettingsError, WeightsError
from dmsr_cli.files import display_name
from dmsr_cli.resizing import Enlargement

if TYPE_CHECKING:
    from dmsr_cli.images import DirectDecoder

DEFAULT_SCALE = 4
"""Of families, where nothing is said."""


@dataclass(frozen=True)
class Entrant:
    """One of the models."""

    name: str
    """As the sheet and the records have it; no two have the same, unless it is named twice."""
    batch: Batch | None
    """What runs it alone; None if its weights cannot be read, which `error` says."""
    error: WeightsError | None = None


@dataclass(frozen=True)
class Lineup:
    """All models, and what they have in common."""

    scale: int
    entrants: Sequence[Entrant]
    options: UpscaleOptions
    decoder: DirectDecoder
    text: str
    """The models as they were named."""


def line_up(
    specs: Sequence[str],
    wanted: Enlargement | None,
    where: tuple[str, str],
    options: UpscaleOptions,
    decoder: DirectDecoder,
) -> Lineup:
    """Find the models; none is loaded yet.

    Without a scale it is that of the first one that has only one, and 4 if all are families. What
    is wrong with a weight file is told in the place of its result, that others may be compared.

    Args:
        specs: names, families, files, addresses.
        wanted: the scale; None if nothing was said.
        where: device and precision, as for `load_model`.
        options: what steers the networks.
        decoder: of the pictures.

    Raises:
        SettingsError: a model is unknown or has no such scale.
        MissingDeviceError: the device is not there.
    """
    found = [_models_of(spec, *where) for spec in specs]
    known = [models for models in found if isinstance(models, Models)]
    own = [models.scales[0] for models in known if len(models.scales) == 1]
    factor = (own or [DEFAULT_SCALE])[0] if wanted is None else wanted.factor
    if factor not in SCALES:
        raise SettingsError(f"--compare-models takes -s 2, 3 or 4, not {factor}")
    scale = int(factor)
    names = [_name(one, spec, scale) for one, spec in zip(found, specs, strict=True)]
    for models in known:
        _ = models.device  # or nothing starts
    steering = read_steering(options)
    entrants = []
    for name, spec, one in zip(names, specs, found, strict=True):
        shown = display_name(name if names.count(name) == 1 else spec)
        if isinstance(one, Models):
            batch = Batch(Enlargement(scale), 1, one, options, decoder, steering=steering)
            entrants.append(Entrant(shown, batch))
        else:
            entrants.append(Entrant(shown, None, one))
    return Lineup(scale, entrants, options, decoder, ",".join(specs))


def _models_of(spec: str, device: str, precision: str) -> Models | WeightsError:
    """What a name stands for, or why it cannot be used."""
    try:
        return Models(spec, device, precision)
    except WeightsError as error:
        return error


def _name(models: Models | WeightsError, spec: str, scale: int) -> str:
    if not isinstance(models, Models):
        return spec
    if scale in models.scales:
        return models.name_of(scale)
    has = " and ".join(f"x{own}" for own in models.scales)
    raise SettingsError(
        f"{display_name(models.name)} is for {has} and cannot be compared at x{scale}: use another "
        "-s, or leave it out"
    )
