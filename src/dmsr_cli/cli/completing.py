"""What a shell offers for an argument when Tab is pressed; without torch, as it must be quick."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem[Any]]"]
"""Takes the context, the parameter, and what of the word is there already."""


def complete_files(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[Any]]:
    """Names of files and folders, which the shell finds itself."""
    return [CompletionItem(incomplete, type="file")]


def complete_folders(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[Any]]:
    """Names of folders, which the shell finds itself."""
    return [CompletionItem(incomplete, type="dir")]


def complete_words(*words: str, or_files: bool = False) -> Completer:
    """These words; if none of them begins that way and files are possible, names of files."""

    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem[Any]]:
        found = [CompletionItem(word) for word in words if word.startswith(incomplete)]
        return found or (complete_files(context, parameter, incomplete) if or_files else [])

    return complete


def complete_models(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[Any]]:
    """Names and families of weights.toml, else files."""
    return complete_words(*_models(), or_files=True)(context, parameter, incomplete)


def _models() -> list[str]:
    """None if the table is missing or wrong: who presses Tab cannot read what is the matter."""
    from dmsr_cli.errors import DmsrError
    from dmsr_cli.weights_table import read_weights_table

    try:
        table = read_weights_table()
    except DmsrError:
        return []
    return [*table, *sorted({entry.family for entry in table.values()})]
