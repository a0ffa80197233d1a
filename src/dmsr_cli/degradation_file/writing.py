"""Writes degradation files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dmsr_cli.degradation_file.fields import FORMAT, VERSION
from dmsr_cli.files import atomic_write

if TYPE_CHECKING:
    from dmsr_cli.pipeline import Degradation

SUFFIX = ".dmsr.json"


def write_degradation(
    path: str | Path,
    degradation: Degradation,
    *,
    scale: int,
    model: str,
    source: str,
    replace: bool = True,
    before_rename: Callable[[Path], None] | None = None,
) -> None:
    """Write a degradation for `read_degradation`, whole or not at all.

    Unedited, and applied to the estimate that it is from, it changes nothing.

    Args:
        path: the file.
        degradation: what is to be noted; of the noise map, the levels.
        scale: of the model that estimated it.
        model: its name.
        source: the name of the picture, without folders.
        replace: a file that is there may be replaced.
        before_rename: called with the temporary path when all is in it.

    Raises:
        ExistsError: the file is there and must not be replaced.
        DmsrError: it cannot be written.
    """
    levels = degradation.noise_levels
    fields = {
        **{"format": FORMAT, "version": VERSION, "scale": scale, "model": model},
        **{"source": source, "kernel_width": degradation.kernel_width},
        "kernel": [[_shortest(tap) for tap in row] for row in degradation.kernel],
        "noise_level": _nine_digits(degradation.noise_level),
        **{"noise_levels": [_nine_digits(level) for level in levels], "denoise": 1.0},
    }
    lines = [f"  {json.dumps(field)}: {_json_of(value)}" for field, value in fields.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    with atomic_write(path, replace=replace, before_rename=before_rename) as temporary:
        temporary.write_text(text, "utf-8")


def _shortest(tap: np.float32) -> float:
    """The number with the fewest digits that is still this one as float32."""
    return float(str(tap))


def _nine_digits(level: float) -> float:
    """More than float32 has, so that a factor that should be 1 is."""
    return float(f"{level:.9g}")


def _json_of(value: Any) -> str:
    """JSON on one line, or with a line for each row of a kernel."""
    if isinstance(value, list) and isinstance(value[0], list):
        return "[\n    " + ",\n    ".join(map(json.dumps, value)) + "\n  ]"
    return json.dumps(value)
