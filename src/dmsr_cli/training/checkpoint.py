"""The full state of a run on disk: enough to go on as if it had never stopped."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from dmsr_cli.errors import CheckpointError
from dmsr_cli.files import atomic_write, display_name
from dmsr_cli.training.settings import Recipe

FORMAT = 2

# Settings that may differ between the run and its continuation: they change how long it goes on
# and what is shown, not what a step does.
MAY_CHANGE = {"minutes", "iterations", "validate_every", "compile"}


def save_checkpoint(path: Path, recipe: Recipe, state: dict[str, Any]) -> None:
    """Write tensors, numbers and the recipe; the file at `path` is whole at every moment."""
    buffer = io.BytesIO()  # torch reports a full disk in its own way, Python as an OSError
    torch.save({"format": FORMAT, "recipe": dataclasses.asdict(recipe), **state}, buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path, recipe: Recipe, pictures: str) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU; no code in the file is ever run.

    Raises:
        CheckpointError: damaged, or made with other pictures or with settings that change the
            steps (each difference is named).
    """
    shown = display_name(path)
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself checks no sums
            intact = archive.testzip() is None
        state: dict[str, Any] = dict(torch.load(path, map_location="cpu", weights_only=True))
        version = state["format"]
        saved_pictures = state.get("pictures", "unknown")
        saved = {table: dict(values) for table, values in state["recipe"].items()}
    except Exception:  # a damaged file makes torch raise about every class there is
        intact = False
    if not intact:
        raise CheckpointError(
            f"{shown} is damaged or not a checkpoint of this program: start a new run elsewhere, "
            "with --init-from if its weights are there"
        )
    if version != FORMAT:
        raise CheckpointError(f"{shown} is of another version of dmsr: start a new run")
    differences = [
        f"{key} was {saved.get(table, {}).get(key)!r}, is {value!r}"
        for table, values in dataclasses.asdict(recipe).items()
        for key, value in values.items()
        if key not in MAY_CHANGE and saved.get(table, {}).get(key) != value
    ]
    if saved_pictures != pictures:
        differences.append(f"pictures were {saved_pictures}, are {pictures}")
    if differences:
        raise CheckpointError(
            f"{shown} was made with other settings: {'; '.join(differences)}; "
            "use the same, or start anew with --init-from"
        )
    return state
