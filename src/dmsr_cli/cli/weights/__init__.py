"""`dmsr weights`: the models, on this computer and on the Hub."""

from __future__ import annotations

import click

from dmsr_cli.cli.weights.listing import list_models
from dmsr_cli.cli.weights.locating import print_path
from dmsr_cli.cli.weights.pulling import pull
from dmsr_cli.cli.weights.pushing import push
from dmsr_cli.cli.weights.verifying import verify


@click.group()
def weights() -> None:
    """List, fetch, verify and publish models.

    NAME is a model as `dmsr weights list` shows it, or a family of them, as dmsr-lite. The settings
    of the Hub library hold: HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE.
    """


for _command in (list_models, pull, verify, print_path, push):
    weights.add_command(_command)
