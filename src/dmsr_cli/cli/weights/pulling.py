"""`dmsr weights pull`: models into the Hub cache, several at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from dmsr_cli.cli.completing import complete_models
from dmsr_cli.cli.options import debug_option, offline_option
from dmsr_cli.cli.weights.choosing import chosen_entries, entries_of, size_text
from dmsr_cli.errors import DmsrError
from dmsr_cli.files import display_name

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress

    from dmsr_cli import hub
    from dmsr_cli.weights_table import ModelEntry

AT_ONCE = 4
"""Files that are fetched at the same time."""


@dataclass(frozen=True)
class Wanted:
    """One file to fetch, or what is wrong with what was asked for."""

    name: str
    source: ModelEntry | hub.HubFile | DmsrError


@click.command(short_help="Fetch models.")
@click.argument(
    "names",
    nargs=-1,
    shell_complete=complete_models,
    metavar="[NAME|hf://OWNER/REPO[/FILE][@REVISION]...]",
)
@click.option(
    "--force",
    is_flag=True,
    help="Fetch from the Hub what is here already, too, for instance to fill an HF_HOME that is "
    "to be carried to another computer.",
)
@offline_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file on stdout.")
@debug_option
def pull(names: tuple[str, ...], force: bool, as_json: bool, debug: bool) -> int:
    """Fetch models into the Hub cache, verified; without a name, all that `list` shows.

    Bundled models are here already. Of a repository, all its weight files are fetched. A connection
    that is cut is taken up where it ended. One bad name or file does not stop the others; exit
    status 1 if there was one.
    """
    from dmsr_cli.hub import is_offline

    if force and is_offline():
        raise click.UsageError("--force fetches from the Hub, which must not be asked")
    wanted = _all_wanted(names)
    records = _fetch_all(wanted, force, debug)
    for record in records:
        if as_json:
            click.echo(json.dumps(record))
        elif record["status"] == "failed":
            click.echo(f"dmsr: error: {_named(record)}", err=True)
        else:
            click.echo(_line(record))
    return int(any(record["status"] == "failed" for record in records))


def _all_wanted(names: Sequence[str]) -> list[Wanted]:
    if not names:
        return [Wanted(entry.name, entry) for entry in chosen_entries(())]
    found: dict[str, Wanted] = {}
    for name in names:
        for wanted in _wanted(name):
            found.setdefault(wanted.name, wanted)
    return list(found.values())


def _wanted(name: str) -> list[Wanted]:
    from dmsr_cli import hub

    try:
        if not name.startswith(hub.HUB_PREFIX):
            return [Wanted(entry.name, entry) for entry in entries_of(name)]
        where = hub.parse_hub_address(name)
        files = hub.list_weights(where) if where.file is None else [where.file]
    except DmsrError as error:
        return [Wanted(name, error)]
    each = [hub.HubFile(where.repo, file, where.revision) for file in files]
    return [Wanted(str(one), one) for one in each]


def _fetch_all(wanted: Sequence[Wanted], force: bool, debug: bool) -> list[dict[str, Any]]:
    """What came of each, in their order; bars on standard error if it is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    pool = ThreadPoolExecutor(AT_ONCE)
    with _bars(console) as bars:
        tasks = [bars.add_task(one.name, total=None, visible=False) for one in wanted]

        def show(task: Any) -> Callable[[int, int | None], None]:
            return lambda done, total: bars.update(task, completed=done, total=total, visible=True)

        try:
            futures = [
                pool.submit(_fetch, one, force, show(task), debug)
                for one, task in zip(wanted, tasks, strict=True)
            ]
            return [future.result() for future in futures]
        finally:  # after Ctrl-C nothing more begins
            pool.shutdown(wait=False, cancel_futures=True)


def _fetch(
    wanted: Wanted, force: bool, on_bytes: Callable[[int, int | None], None], debug: bool
) -> dict[str, Any]:
    record: dict[str, Any] = {"name": wanted.name, "status": "failed", "path": None, "size": None}
    record["error"] = None
    try:
        path, was_there = _file(wanted.source, force, on_bytes)
    except DmsrError as error:
        if debug:
            raise
        return {**record, "error": str(error)}
    status = "there" if was_there else "fetched"
    return {**record, "status": status, "path": str(path), "size": path.stat().st_size}


def _file(
    source: ModelEntry | hub.HubFile | DmsrError,
    force: bool,
    on_bytes: Callable[[int, int | None], None],
) -> tuple[Path, bool]:
    """The path of a file, and whether nothing had to be fetched."""
    from dmsr_cli import hub
    from dmsr_cli.weights import fetch_weights, find_local_weights, read_config

    if isinstance(source, DmsrError):
        raise source
    if isinstance(source, hub.HubFile):
        before = hub.find_cached(source)
        path = hub.download(source, force=force, on_bytes=on_bytes)
        read_config(path)
        return path, path == before and not force
    found = None if force else find_local_weights(source)
    if found is not None:
        return found, True
    return fetch_weights(source, force=force, on_bytes=on_bytes), False


def _bars(console: Any) -> Progress:
    from rich import progress
    from rich.table import Column

    name = Column(no_wrap=True, overflow="ellipsis", max_width=40)
    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False, table_column=name),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # a pipe gets no bar
    )


def _named(record: dict[str, Any]) -> str:
    """The error, which names the file in most cases."""
    name, error = record["name"], record["error"]
    return error if name in error else f"{name}: {error}"


def _line(record: dict[str, Any]) -> str:
    what = "here already" if record["status"] == "there" else "fetched"
    shown = display_name(record["path"])
    return f"{display_name(record['name'])}: {what}, {size_text(record['size'])}\n    {shown}"
