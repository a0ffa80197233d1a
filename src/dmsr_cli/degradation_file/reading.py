"""Reads degradation files, which people edit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from dmsr_cli.degradation_file.fields import checked_fields
from dmsr_cli.degradation_file.kernels import read_small_file
from dmsr_cli.degradation_file.settings import DegradationSettings
from dmsr_cli.errors import SettingsError
from dmsr_cli.files import display_name

WIDTH_TOLERANCE = 0.01 + 1e-9
"""How far `kernel_width` may be from that of `kernel`: it is found in steps of 0.01."""
LEVEL_TOLERANCE = 0.01 + 1e-9
"""How far `noise_level` may be from that of `noise_levels`: both may be rounded."""
_USED = {field.name for field in dataclasses.fields(DegradationSettings)}
"""What is left of a file: the others say what it is and where it comes from."""


def read_degradation(path: str | Path) -> DegradationSettings:
    """Read a degradation file, as it was written or edited.

    Raises:
        SettingsError: it cannot be read, is of a newer version, has a field that is unknown or
            wrong, or two that contradict each other.
    """
    content = read_small_file(Path(path), "degradation")
    try:
        fields = checked_fields(content)
        settings = DegradationSettings(**{name: fields[name] for name in fields if name in _USED})
        _refuse_contradictions(settings)
    except ValueError as error:
        raise SettingsError(f"{display_name(path)}: {error}") from None
    return settings


def _refuse_contradictions(settings: DegradationSettings) -> None:
    """ValueError for two fields about the same thing that differ by more than rounding."""
    width, level = settings.kernel_width, settings.noise_level
    if settings.kernel is not None and width is not None:
        from dmsr_cli.pipeline import Degradation  # imports torch, which takes seconds

        own = Degradation(settings.kernel, np.zeros((1, 1, 3), np.float32)).kernel_width
        _compare(("kernel_width", width), ("kernel", own), WIDTH_TOLERANCE)
    if settings.noise_levels is not None and level is not None:
        own = float(np.sqrt(np.mean(np.square(settings.noise_levels))))
        _compare(("noise_level", level), ("noise_levels", own), LEVEL_TOLERANCE)


def _compare(one: tuple[str, float], other: tuple[str, float], tolerance: float) -> None:
    if abs(one[1] - other[1]) > tolerance:
        raise ValueError(
            f"{one[0]} is {one[1]:g}, but {other[0]} makes it {other[1]:.4g}: delete the one that "
            "is not meant"
        )
