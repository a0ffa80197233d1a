"""The fields of a degradation file, each with what it may be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from dmsr_cli.config import SCALES
from dmsr_cli.degradation_file.kernels import Pixels, normalised

FORMAT = "dmsr-degradation"
VERSION = 1
MOST_DENOISE = 100.0
MOST_NOISE = 255 * MOST_DENOISE
"""What was used may be more than a picture can have: --denoise multiplies it."""
_CORRECT = "correct or delete it"
_MAKE_ONE = "make one with dmsr estimate -o NAME.dmsr.json"


def checked_fields(content: bytes) -> dict[str, Any]:
    """The fields that a file has, each checked for itself.

    Raises:
        ValueError: it is no degradation file, is of a newer version, or has a field that is
            unknown or wrong; the caller puts the file's name before it.
    """
    try:
        fields = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_doubles)
    except UnicodeDecodeError:
        raise ValueError(f"it is no UTF-8 text; {_MAKE_ONE}") from None
    except ValueError as error:
        raise ValueError(f"it is no JSON ({error}); correct it") from None
    except RecursionError:
        raise ValueError(f"it is nested too deeply; {_MAKE_ONE}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"it is no JSON object; {_MAKE_ONE}")
    _version(fields.get("version", VERSION))  # what a newer one has besides is not a mistake
    for field in fields:
        if field not in _CHECKS:
            known = ", ".join(_CHECKS)
            raise ValueError(f"{_shown(field)} is no known field ({known}); delete it")
    return {field: _CHECKS[field](value) for field, value in fields.items()}


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for field, value in pairs:
        if field in fields:
            raise ValueError(f"{_shown(field)} is there twice")
        fields[field] = value
    return fields


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _number(field: str, value: Any, low: float, high: float, low_counts: bool = True) -> float:
    if not (_is_number(value) and low <= value <= high and (low_counts or value > low)):
        start = f"from {low:g}" if low_counts else f"above {low:g}"
        raise ValueError(
            f"{field} must be a number {start} to {high:g}, not {_shown(value)}; {_CORRECT}"
        )
    return float(value)


def _format(value: Any) -> Any:
    if value != FORMAT:
        raise ValueError(f"format must be {FORMAT}, not {_shown(value)}; name a degradation file")
    return value


def _version(value: Any) -> int:
    if type(value) is int and value > VERSION:
        raise ValueError(
            f"it is of version {_shown(value)}, made by a newer dmsr than this one, which reads "
            f"version {VERSION}: install the newer one, or estimate again"
        )
    if type(value) is not int or value < 1:
        raise ValueError(f"version must be {VERSION}, not {_shown(value)}; correct it")
    return value


def _scale(value: Any) -> int:
    if type(value) is not int or value not in SCALES:
        raise ValueError(
            f"scale must be one of {', '.join(map(str, SCALES))}, not {_shown(value)}; {_CORRECT}"
        )
    return value


def _text(field: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{field} must be text, not {_shown(value)}; {_CORRECT}")
        return value

    return check


def _kernel(value: Any) -> Pixels:
    is_square = (
        isinstance(value, list)
        and len(value) % 2 == 1
        and all(isinstance(row, list) and len(row) == len(value) for row in value)
    )
    if not is_square or not all(_is_number(tap) for row in value for tap in row):
        raise ValueError(f"kernel must be 15 rows of 15 numbers each; {_CORRECT}")
    try:
        return normalised(np.array(value, np.float64))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"kernel cannot be used: {error}") from None


def _noise_levels(value: Any) -> tuple[float, float, float]:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError(
            f"noise_levels must be three numbers, of red, green and blue, not {_shown(value)}; "
            f"{_CORRECT}"
        )
    red, green, blue = (_number("noise_levels", level, 0, MOST_NOISE) for level in value)
    return red, green, blue


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "format": _format,
    "version": _version,
    "scale": _scale,
    "model": _text("model"),
    "source": _text("source"),
    "kernel_width": lambda value: _number("kernel_width", value, 0, 20, low_counts=False),
    "kernel": _kernel,
    "noise_level": lambda value: _number("noise_level", value, 0, MOST_NOISE),
    "noise_levels": _noise_levels,
    "denoise": lambda value: _number("denoise", value, 0, MOST_DENOISE),
}
"""The fields of a file in their order, each with what gives its value, or raises ValueError."""


def _shown(value: Any) -> str:
    """A value as messages show it: on one line, and not for long."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
