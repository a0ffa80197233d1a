"""The copies of published models on this computer: which there are, and whether they are intact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dmsr_cli import hub, weights
from dmsr_cli.errors import WeightsError
from dmsr_cli.weights_table import ModelEntry


@dataclass(frozen=True)
class Copy:
    """A file on this computer that should be a published model."""

    place: Literal["bundled", "cached"]
    path: Path
    fault: str | None
    """What is wrong with it; None if it is intact."""


def find_copies(entry: ModelEntry) -> list[Copy]:
    """All copies of a published model, the one that would be used first; no request is made."""
    found = []
    bundled = weights.BUNDLED_FOLDER / entry.file
    if bundled.is_file():
        found.append(Copy("bundled", bundled, find_fault(bundled, entry)))
    cached = hub.find_cached(weights.hub_file(entry))
    if cached is not None:
        found.append(Copy("cached", cached, find_fault(cached, entry)))
    return sorted(found, key=lambda copy: copy.fault is not None)


def find_fault(path: Path, entry: ModelEntry) -> str | None:
    """Why a file is not the published model, size first, then SHA-256; None if it is."""
    try:
        size = path.stat().st_size
        if size != entry.size:
            return f"{size:,} bytes instead of {entry.size:,}"
        found = weights.file_sha256(path)
    except OSError as error:
        return str(error.strerror or error)
    except WeightsError as error:
        return str(error)
    if found != entry.sha256:
        return f"SHA-256 {found[:12]}... instead of {entry.sha256[:12]}..."
    return None
