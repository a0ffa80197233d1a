"""`dmsr weights verify`: every copy against weights.toml."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from dmsr_cli.cli.completing import complete_models
from dmsr_cli.cli.options import debug_option
from dmsr_cli.cli.weights.choosing import chosen_entries
from dmsr_cli.errors import WeightsError
from dmsr_cli.files import display_name

if TYPE_CHECKING:
    from dmsr_cli.copies import Copy
    from dmsr_cli.weights_table import ModelEntry


@click.command(short_help="Check the models that are here.")
@click.argument("names", nargs=-1, shell_complete=complete_models, metavar="[NAME...]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file on stdout.")
@debug_option
def verify(names: tuple[str, ...], as_json: bool, debug: bool) -> int:
    """Check the models on this computer against their SHA-256; no request is made.

    A bad file in the Hub cache is moved aside, as NAME.bad, so that it is fetched anew. A bad
    bundled file stays: install dmsr-cli again. Exit status 1 if any file was bad.
    """
    status = 0
    for record in _records(chosen_entries(names)):
        if as_json:
            click.echo(json.dumps(record))
        else:
            click.echo(_line(record))
        status |= record["status"] == "bad"
    return int(status)


def _records(entries: list[ModelEntry]) -> Iterator[dict[str, Any]]:
    from dmsr_cli.copies import find_copies

    for entry in entries:
        copies = find_copies(entry)
        if not copies:
            yield {"name": entry.name, "status": "missing", "path": None, "fault": None}
        for copy in copies:
            yield _record(entry, copy)


def _record(entry: ModelEntry, copy: Copy) -> dict[str, Any]:
    from dmsr_cli.hub import set_aside

    record: dict[str, Any] = {
        "name": entry.name,
        "status": "intact" if copy.fault is None else "bad",
        "place": copy.place,
        "path": str(copy.path),
        "fault": copy.fault,
    }
    if copy.fault is not None and copy.place == "cached":
        try:
            record["moved_to"] = str(set_aside(copy.path))
        except WeightsError as error:
            record["fault"] = f"{copy.fault}; {error}"
    return record


def _line(record: dict[str, Any]) -> str:
    name = record["name"]
    if record["status"] == "missing":
        return f"{name}: not here; dmsr weights pull {name} fetches it"
    shown = display_name(record["path"])
    if record["status"] == "intact":
        return f"{name}: intact, {record['place']}\n    {shown}"
    text = f"{name}: BAD, {record['place']}: {record['fault']}\n    {shown}"
    if record["place"] == "bundled":
        return f"{text}\n    it is not used; install dmsr-cli again"
    if "moved_to" in record:
        aside = display_name(record["moved_to"])
        return f"{text}\n    moved to {aside}\n    it is fetched anew when it is needed"
    return text
