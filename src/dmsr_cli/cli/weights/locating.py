"""`dmsr weights path`: where a model is, for scripts."""

from __future__ import annotations

import os

import click

from dmsr_cli.cli.completing import complete_models
from dmsr_cli.cli.options import ScaleType, debug_option
from dmsr_cli.cli.weights.choosing import entries_of
from dmsr_cli.errors import SettingsError, WeightsError


@click.command("path", short_help="Print where a model is.")
@click.argument("name", shell_complete=complete_models, metavar="NAME|hf://OWNER/REPO/FILE")
@click.option("-s", "--scale", type=ScaleType(), help="Which model of a family.  [default: 4]")
@debug_option
def print_path(name: str, scale: int | None, debug: bool) -> None:
    """Print the path of a model's verified file, and nothing else; no request is made."""
    from dmsr_cli import hub
    from dmsr_cli.weights import find_local_weights, read_config

    if name.startswith(hub.HUB_PREFIX):
        where = hub.parse_hub_address(name)
        with hub.offline():
            path = hub.download(where)
        read_config(path)
    else:
        entries = entries_of(name)
        fitting = [e for e in entries if e.scale == (scale or 4)] if len(entries) > 1 else entries
        if not fitting or (scale is not None and fitting[0].scale != scale):
            raise SettingsError(f"there is no x{scale or 4} model of {name}")
        found = find_local_weights(fitting[0])
        if found is None:
            raise WeightsError(
                f"no intact copy of {fitting[0].name} is on this computer: dmsr weights pull "
                f"{fitting[0].name}"
            )
        path = found
    click.echo(os.fsencode(path))
