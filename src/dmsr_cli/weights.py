"""Weights: from a name to a weight file on this computer, with nothing taken on trust.

`weights.toml` lists the published models with their SHA-256. What a weight file is, and how it is
read and written, is in `weight_file`. Pickles are never opened. torch and the Hub library are
imported on first use.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dmsr_cli import hub
from dmsr_cli.errors import SettingsError, WeightsError
from dmsr_cli.files import display_name
from dmsr_cli.safetensors_header import ONLY_SAFETENSORS
from dmsr_cli.weight_file import file_sha256 as file_sha256
from dmsr_cli.weight_file import load_hashed_weights as load_hashed_weights
from dmsr_cli.weight_file import load_weights as load_weights
from dmsr_cli.weight_file import read_config as read_config
from dmsr_cli.weight_file import save_weights as save_weights
from dmsr_cli.weight_file import verify_sha256
from dmsr_cli.weights_table import ModelEntry as ModelEntry
from dmsr_cli.weights_table import find_weights_table as find_weights_table
from dmsr_cli.weights_table import read_weights_table as read_weights_table

BUNDLED_FOLDER = Path(__file__).parent / "bundled"
"""Weights that travel with the package, found before the Hub is asked."""

_PICKLE_SUFFIXES = {".pth", ".pt", ".ckpt", ".bin", ".pkl", ".pickle"}


@dataclass(frozen=True)
class ResolvedWeights:
    """A weight file on this computer. `sha256` is what it must have, None if nobody said."""

    name: str
    path: Path
    sha256: str | None


def resolve_model(spec: str, scale: int | None = None) -> ResolvedWeights:
    """Find the weight file that `spec` means, fetching it from the Hub if need be.

    Args:
        spec: a name of weights.toml ("dmsr-lite-x4"), a family of it ("dmsr-lite", with `scale`,
            4 if None), a safetensors file, or "hf://owner/repo[/file][@revision]".
        scale: the magnification that the model must have; None takes what the model has.

    Raises:
        SettingsError: the name is unknown, or the model is for another scale.
        WeightsError: the file is missing, not safetensors, damaged, or cannot be fetched.
    """
    if spec.startswith(hub.HUB_PREFIX):
        where = hub.parse_hub_address(spec)
        _refuse_pickle_name(where.file or "", spec)
        if where.file is None:
            where = dataclasses.replace(where, file=hub.find_weights(where, scale))
        return _of_scale(ResolvedWeights(str(where), hub.download(where), None), scale)
    table = {} if _looks_like_file(spec) else read_weights_table()
    entry = table.get(spec) or table.get(f"{spec}-x{scale or 4}")
    if entry is not None and scale in (None, entry.scale):
        return ResolvedWeights(entry.name, fetch_weights(entry), entry.sha256)
    if entry is not None:
        sibling = f"{entry.family}-x{scale}"
        other = f" or --model {sibling}" if sibling in table else ""
        raise SettingsError(f"{entry.name} is a x{entry.scale} model; use -s {entry.scale}{other}")
    # os.path.isfile says no, where Path.is_file raises for a name that is too long.
    if _looks_like_file(spec) or os.path.isfile(spec):  # noqa: PTH113
        path = Path(spec)
        _refuse_pickle_name(path.name, spec)
        return _of_scale(ResolvedWeights(display_name(path.name), path, None), scale)
    raise SettingsError(_unknown_model(spec, scale, table))


def models_by_scale(spec: str) -> dict[int, str]:
    """Addresses of the models of a Hub repository that holds several, one for each scale; else {}.

    Raises:
        SettingsError: an address of another form.
        WeightsError: the Hub cannot be asked.
    """
    where = hub.parse_hub_address(spec) if spec.startswith(hub.HUB_PREFIX) else None
    if where is None or where.file is not None:
        return {}
    files = hub.weights_by_scale(where)
    return {scale: str(dataclasses.replace(where, file=file)) for scale, file in files.items()}


def _looks_like_file(spec: str) -> bool:
    return Path(spec).suffix.lower() in {".safetensors", *_PICKLE_SUFFIXES}


def _refuse_pickle_name(file: str, spec: str) -> None:
    if Path(file).suffix.lower() in _PICKLE_SUFFIXES:
        raise WeightsError(f"{display_name(spec)}: {ONLY_SAFETENSORS}")


def _of_scale(weights: ResolvedWeights, scale: int | None) -> ResolvedWeights:
    """The same, once its header says that it is a weight file of that scale."""
    has = read_config(weights.path).scale
    if scale not in (None, has):
        raise SettingsError(f"{weights.name} is a x{has} model; use -s {has} or another --model")
    return weights


def _unknown_model(spec: str, scale: int | None, table: Mapping[str, ModelEntry]) -> str:
    families = {entry.family for entry in table.values()}
    if spec in families:
        scales = sorted(entry.scale for entry in table.values() if entry.family == spec)
        known = ", ".join(f"-s {has}" for has in scales)
        return f"there is no x{scale or 4} model of {spec}; use {known}"
    close = difflib.get_close_matches(spec, [*table, *sorted(families)], n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return (
        f"unknown model {spec!r}; {hint}known are {', '.join(sorted(table)) or 'none'}, "
        "a .safetensors file, or hf://owner/repo"
    )


def find_local_weights(entry: ModelEntry) -> Path | None:
    """An intact copy of a published model on this computer, bundled or cached; else None."""
    bundled = BUNDLED_FOLDER / entry.file
    if bundled.is_file() and file_sha256(bundled) == entry.sha256:
        return bundled
    cached = hub.find_cached(hub_file(entry))
    return cached if cached is not None and file_sha256(cached) == entry.sha256 else None


def fetch_weights(
    entry: ModelEntry, *, force: bool = False, on_bytes: hub.OnBytes | None = None
) -> Path:
    """The path of a published model with the SHA-256 that weights.toml demands.

    A bundled file is taken first, then the Hub cache, then the Hub. No request is made if there
    is an intact copy; a damaged copy in the cache is moved aside.

    Args:
        entry: the model.
        force: fetch it from the Hub into the cache whatever is on this computer.
        on_bytes: told of the progress of the transfer.

    Raises:
        WeightsError: the file cannot be fetched, or what came has another SHA-256.
    """
    local = None if force else find_local_weights(entry)
    if local is not None:
        return local
    where = hub_file(entry)
    if hub.is_offline():
        raise WeightsError(hub.not_on_this_computer(where))
    cached = hub.find_cached(where)
    if cached is not None and file_sha256(cached) != entry.sha256:
        hub.set_aside(cached)
    path = hub.download(where, force=force, on_bytes=on_bytes)
    found = file_sha256(path)
    if found != entry.sha256:
        hub.set_aside(path)
    advice = "try again later, or install the newest dmsr-cli"
    verify_sha256(found, entry.sha256, str(where), advice)
    return path


def hub_file(entry: ModelEntry) -> hub.HubFile:
    """Where a published model is on the Hub."""
    return hub.HubFile(entry.repo, entry.file, entry.revision)
