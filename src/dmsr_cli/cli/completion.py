"""`dmsr completion`: the script that lets a shell complete the command line."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from dmsr_cli.cli.options import debug_option

SHELLS = ("bash", "zsh", "fish", "powershell")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@debug_option
def completion(shell: str, debug: bool) -> None:
    """Print the script with which a shell completes dmsr's commands, options and models.

    In ~/.bashrc: eval "$(dmsr completion bash)", in ~/.zshrc: eval "$(dmsr completion zsh)"; for
    fish: dmsr completion fish > ~/.config/fish/completions/dmsr.fish
    """
    from dmsr_cli.cli.main import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this release of click knows no {shell}: pip install -U click")
    # Bytes: text on Windows would get line ends that no shell takes.
    click.echo(kind(cli, {}, "dmsr", "_DMSR_COMPLETE").source().encode(), nl=False)
