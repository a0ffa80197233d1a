"""The table of published models, weights.toml."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmsr_cli import hub
from dmsr_cli.config import SCALES, DMSRConfig, from_mapping, read_toml
from dmsr_cli.errors import SettingsError, WeightsError
from dmsr_cli.safe_names import is_inner_path, is_plain_name


@dataclass(frozen=True)
class ModelEntry:
    """A published model, as weights.toml lists it."""

    name: str
    """Family and scale, as in dmsr-lite-x4."""
    repo: str
    """Hub repository, owner/name."""
    file: str
    """Plain file name in that repository and in the bundled folder."""
    revision: str
    """Branch, tag or commit of the repository."""
    sha256: str
    """SHA-256 of the file, 64 lower-case hexadecimal digits."""
    size: int
    """Size of the file in bytes."""
    scale: int
    """Magnification."""
    parameters: int
    """Number of trained values."""
    license: str
    """Licence of the weights."""
    config: DMSRConfig
    """The network that the file is for."""
    psnr: dict[str, float] = field(default_factory=dict)
    """Measured PSNR in dB for each test, for instance "Set5 [1.3, 15]"."""

    def __post_init__(self) -> None:
        plain_name = r"[\w][\w.-]*\.safetensors"
        if not is_plain_name(self.file) or not re.fullmatch(plain_name, self.file, re.ASCII):
            raise SettingsError(f"file must be a plain .safetensors file name, not {self.file!r}")
        if not is_inner_path(self.repo) or not hub.REPOSITORY_PATTERN.fullmatch(self.repo):
            raise SettingsError(f"repo must be of the form owner/name, not {self.repo!r}")
        if not is_inner_path(self.revision):
            raise SettingsError(f"revision must be a plain name, not {self.revision!r}")
        if not is_plain_name(self.name):
            raise SettingsError(f"the name of a model must be plain, not {self.name!r}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise SettingsError(f"sha256 must be 64 lower-case hex digits, not {self.sha256!r}")
        if self.size < 1 or self.parameters < 1:
            raise SettingsError("size and parameters must be positive")
        if self.scale not in SCALES or self.scale != self.config.scale:
            raise SettingsError(f"scale {self.scale} contradicts the config or is not in {SCALES}")
        if not self.name.endswith(f"-x{self.scale}"):
            raise SettingsError(f"the name must end in -x{self.scale}")

    @property
    def family(self) -> str:
        """The name without its scale: dmsr-lite for dmsr-lite-x4."""
        return self.name.removesuffix(f"-x{self.scale}")


def find_weights_table() -> Path:
    """The path of weights.toml: beside the package if installed, else at the checkout's top.

    Raises:
        WeightsError: it is in neither place.
    """
    package = Path(__file__).parent
    for candidate in (package / "weights.toml", package.parents[1] / "weights.toml"):
        if candidate.is_file():
            return candidate
    raise WeightsError(f"weights.toml is missing beside {package}; install dmsr-cli again")


def read_weights_table(path: Path | None = None) -> dict[str, ModelEntry]:
    """The published models by name, from `path` or from the table of this installation.

    Raises:
        SettingsError: the table has an unknown key, a wrong type or an impossible value.
        WeightsError: this installation has no table.
    """
    path = path or find_weights_table()
    content = read_toml(path)
    models = content.pop("models", {})
    if content or not isinstance(models, dict):
        raise SettingsError(f"{path}: only tables [models.NAME] may be there")
    return {name: _read_entry(name, values, f"{path}: {name}") for name, values in models.items()}


def entry_text(entry: ModelEntry) -> str:
    """The entry as weights.toml has it, with an empty line before it."""
    values = dataclasses.asdict(entry)
    config, psnr, key = values.pop("config"), values.pop("psnr"), values.pop("name")
    lines = ["", f"[models.{_key(key)}]"]
    lines += [f"{field} = {json.dumps(value)}" for field, value in values.items()]
    lines += ["", f"[models.{_key(key)}.config]"]
    lines += [f"{field} = {value}" for field, value in config.items()]
    if psnr:
        lines += ["", f"[models.{_key(key)}.psnr]"]
        lines += [f"{json.dumps(field)} = {value}" for field, value in psnr.items()]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    """A name as a part of a TOML table's name: quoted if there is a dot or the like in it."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _read_entry(name: str, values: Any, where: str) -> ModelEntry:
    """One table [models.NAME]; `where` names it in error messages."""
    if not isinstance(values, dict) or "name" in values:
        raise SettingsError(f"{where}: must be a table of settings, without 'name'")
    values = dict(values)
    psnr, config = values.pop("psnr", {}), values.pop("config", {})
    if not isinstance(psnr, dict) or not all(type(v) in (int, float) for v in psnr.values()):
        raise SettingsError(f"{where}: psnr must be a table of numbers")
    if not isinstance(config, dict):
        raise SettingsError(f"{where}: config must be a table")
    values["config"] = from_mapping(DMSRConfig, config, f"{where}.config")
    entry = from_mapping(ModelEntry, {"name": name, **values}, where)
    return dataclasses.replace(entry, psnr={key: float(value) for key, value in psnr.items()})
