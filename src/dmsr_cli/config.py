"""Settings as frozen dataclasses, and the reader that refuses what it does not know.

Nothing here imports torch, so that the command line can check its arguments at once.
"""

from __future__ import annotations

import dataclasses
import reprlib
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dmsr_cli.errors import SettingsError
from dmsr_cli.files import display_name, reason_of

if sys.version_info >= (3, 11):
    import tomllib
else:  # the same parser, before it joined the standard library
    import tomli as tomllib

SCALES = (2, 3, 4)
"""The magnifications that the project trains and ships."""

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class DMSRConfig:
    """Every number that shapes the network; it travels in the header of a weight file.

    The defaults are the paper's (section 4.1, tables B.6 and B.7).
    """

    scale: int = 4
    """Magnification: HR size over LR size."""
    channels: int = 64
    """Feature channels of the restorer's body."""
    groups: int = 5
    """Residual groups in the body."""
    blocks: int = 20
    """Residual channel attention blocks in each group."""
    reduction: int = 16
    """Bottleneck factor of the channel attention."""
    upsampled_channels: int = 64
    """Feature channels at HR size, after the pixel shuffle."""
    extractor_channels: int = 64
    """Feature channels of the degradation extractor."""
    extractor_blocks: int = 2
    """Residual blocks of the degradation extractor."""
    blur_channels: int = 128
    """Feature channels of the extractor's blur branch."""
    kernel_size: int = 15
    """Side of the estimated blur kernel, in HR pixels."""
    deblur_size: int = 15
    """Side of the dynamic convolution of the meta-deblur module, in HR pixels."""
    embedding: int = 15
    """Length of the kernel code that the meta-deblur module sees (C_k in the paper)."""

    @property
    def body_radius(self) -> int:
        """How far, in LR pixels, the convolutions of the restorer's body see."""
        return 1 + self.groups * (2 * self.blocks + 1) + 1

    @property
    def render_radius(self) -> int:
        """How far, in LR pixels, what comes after the body sees."""
        hr_pixels = 1 + max(1, self.deblur_size // 2) + 1
        return 1 + -(-hr_pixels // self.scale)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or not 1 <= value <= 4096:
                raise SettingsError(
                    f"model setting {field.name} must be a whole number from 1 to 4096, "
                    f"not {value!r}"
                )
        if self.scale > 8:
            raise SettingsError(f"scale must be at most 8, not {self.scale}")
        for name in ("kernel_size", "deblur_size"):
            if getattr(self, name) % 2 == 0 or getattr(self, name) > 63:
                raise SettingsError(f"{name} must be odd and at most 63, not {getattr(self, name)}")
        for name in ("channels", "upsampled_channels"):
            if getattr(self, name) < 3:  # the first three start as the colours
                raise SettingsError(f"{name} must be at least 3, not {getattr(self, name)}")
        if self.embedding > self.kernel_size**2:
            raise SettingsError(
                f"model config: embedding ({self.embedding}) must not exceed kernel_size squared "
                f"({self.kernel_size**2})"
            )
        if self.reduction > self.channels:
            raise SettingsError(
                f"reduction ({self.reduction}) must not exceed channels ({self.channels})"
            )


def from_mapping(cls: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """Build the dataclass `cls` from `values`, refusing unknown keys and wrong types.

    `where` names the origin of the values in error messages.

    Raises:
        SettingsError: a key that `cls` does not have, or a value of another type.
    """
    fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type] # any dataclass
    unknown = sorted(set(values) - fields)
    if unknown:
        raise SettingsError(
            f"{where}: unknown setting {reprlib.repr(unknown[0])}; "
            f"known are {', '.join(sorted(fields))}"
        )
    hints = typing.get_type_hints(cls)
    checked = {key: _checked(value, hints[key], f"{where}: {key}") for key, value in values.items()}
    try:
        return cls(**checked)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None
    except TypeError as error:  # a field without a default is missing
        raise SettingsError(f"{where}: {error}") from None


def _checked(value: Any, hint: Any, where: str) -> Any:
    """`value` as `hint` wants it: exact types, but a whole number may stand for a float."""
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in allowed and type(value) is int:
        return float(value)
    for kind in allowed:
        origin = typing.get_origin(kind)
        if origin is tuple and isinstance(value, list | tuple):
            element = typing.get_args(kind)[0]
            return tuple(_checked(item, element, where) for item in value)
        if origin is None and kind is not None and type(value) is kind:
            return value
        if kind is type(None) and value is None:
            return None
    names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in allowed)
    raise SettingsError(f"{where} must be of type {names}, not {reprlib.repr(value)}")


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        SettingsError: the file is missing, unreadable, or not TOML.
    """
    try:
        with path.open("rb") as file:
            tables: dict[str, Any] = tomllib.load(file)
            return tables
    except OSError as error:
        raise SettingsError(f"cannot read {display_name(path)}: {reason_of(error)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{display_name(path)} is not valid TOML: {error}") from None
