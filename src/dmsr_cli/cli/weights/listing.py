"""`dmsr weights list`: the models, and where they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from dmsr_cli.cli.options import debug_option
from dmsr_cli.cli.weights.choosing import chosen_entries, size_text

if TYPE_CHECKING:
    from rich.table import Table

    from dmsr_cli.copies import Copy
    from dmsr_cli.weights_table import ModelEntry

SHOWN_TEST = "Set5 [1.3, 15]"
"""Whose PSNR the table has: moderate blur and moderate noise."""


@click.command("list", short_help="Show the models and where they are.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per model on stdout.")
@debug_option
def list_models(as_json: bool, debug: bool) -> int:
    """Show the published models and where they are on this computer; no request is made.

    The PSNR is that of Set5 with kernel width 1.3 and noise level 15. With --json it is there for
    each test, as are the SHA-256 and the address on the Hub.
    """
    from dmsr_cli.copies import find_copies

    found = [(entry, find_copies(entry)) for entry in chosen_entries(())]
    if as_json:
        for entry, copies in found:
            click.echo(json.dumps(_record(entry, copies)))
        return 0
    _print(_table(found))
    return 0


def _record(entry: ModelEntry, copies: list[Copy]) -> dict[str, Any]:
    best = copies[0] if copies else None
    return {
        "name": entry.name,
        "family": entry.family,
        "scale": entry.scale,
        "size": entry.size,
        "parameters": entry.parameters,
        "place": best.place if best else None,
        "path": str(best.path) if best else None,
        "fault": best.fault if best else None,
        "psnr": entry.psnr,
        "license": entry.license,
        "sha256": entry.sha256,
        "hub": f"hf://{entry.repo}/{entry.file}",
        "revision": entry.revision,
    }


def _table(found: list[tuple[ModelEntry, list[Copy]]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.MARKDOWN)
    table.add_column("model", no_wrap=True)
    for column in ("scale", "size", "parameters"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("where", no_wrap=True)
    table.add_column(f"PSNR {SHOWN_TEST}", justify="right")
    table.add_column("licence")
    for entry, copies in found:
        psnr = entry.psnr.get(SHOWN_TEST)
        table.add_row(
            *(entry.name, f"x{entry.scale}", size_text(entry.size), f"{entry.parameters:,}"),
            *(_where(copies), "" if psnr is None else f"{psnr:.2f} dB", entry.license),
        )
    return table


def _where(copies: list[Copy]) -> str:
    if not copies:
        return "not here"
    return copies[0].place if copies[0].fault is None else f"{copies[0].place}, damaged"


def _print(table: Table) -> None:
    from rich.console import Console

    # A pipe has no width: the table must not be folded to fit one.
    console = Console(highlight=False)
    console.print(table) if console.is_terminal else Console(width=120).print(table)
