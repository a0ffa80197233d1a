"""Which models the arguments of `dmsr weights` mean."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dmsr_cli.errors import SettingsError

if TYPE_CHECKING:
    from dmsr_cli.weights_table import ModelEntry


def entries_of(name: str) -> list[ModelEntry]:
    """The published models that a name or a family means.

    Raises:
        SettingsError: it is neither.
    """
    from dmsr_cli.weights_table import read_weights_table

    table = read_weights_table()
    found = [entry for entry in table.values() if name in (entry.name, entry.family)]
    if found:
        return found
    close = difflib.get_close_matches(name, [*table, *{e.family for e in table.values()}], n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise SettingsError(f"unknown model {name!r}; {hint}dmsr weights list shows them")


def chosen_entries(names: Sequence[str]) -> list[ModelEntry]:
    """The published models that are meant, each once; all of them without a name."""
    from dmsr_cli.weights_table import read_weights_table

    if not names:
        return list(read_weights_table().values())
    found = {entry.name: entry for name in names for entry in entries_of(name)}
    return list(found.values())


def size_text(size: float) -> str:
    """A number of bytes for people."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
