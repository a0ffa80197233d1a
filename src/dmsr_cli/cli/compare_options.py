"""Options of `dmsr upscale` for pictures that compare."""

from __future__ import annotations

import re
from typing import Any

import click
from click.shell_completion import CompletionItem

from dmsr_cli.cli.completing import complete_models
from dmsr_cli.cli.options import Command

COMPARE_MODES = ("side-by-side", "split", "zoom")
"""Ways to show a result beside its input; what makes the pictures needs numpy."""


class NamesType(click.ParamType["tuple[str, ...]"]):
    """Names with commas between them."""

    name = "A,B,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Spaces around a name are no part of it."""
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in str(value).split(","))
        if not all(names):
            self.fail(f"{value!r} is not a list of names with commas between them", param, ctx)
        return names


class CropType(click.ParamType["tuple[int, int, int, int]"]):
    """A part of a picture, X,Y,W,H, where W and H are at least 1."""

    name = "X,Y,W,H"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int, int]:
        """Left, top, width and height."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})", str(value), re.ASCII)
        left, top, width, height = map(int, match.groups()) if match else (0, 0, 0, 0)
        if not width or not height:
            self.fail(f"{value!r} is not a part of a picture, as 100,50,200,150", param, ctx)
        return left, top, width, height


def _complete_last_model(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[Any]]:
    before, comma, last = incomplete.rpartition(",")
    found = complete_models(context, parameter, last)
    if any(item.type == "file" for item in found):
        return []  # the shell would look for a file with the commas in its name
    return [CompletionItem(f"{before}{comma}{item.value}") for item in found]


def compare_options(command: Command) -> Command:
    """--compare, --compare-mode, --compare-models, --compare-crop: pictures that compare."""
    for option in (
        click.option(
            "--compare-crop",
            type=CropType(),
            help="Show this part on the contact sheet: left, top, width and height in pixels of "
            "the input.  [default: all of results up to 1024 pixels long, else the part of 512 "
            "pixels with most detail]",
        ),
        click.option(
            "--compare-models",
            type=NamesType(),
            shell_complete=_complete_last_model,
            help="Run several models, named as for --model, on each picture, and write a labelled "
            "contact sheet of what they make of it, NAME_x4_models.png, instead of a result.",
        ),
        click.option(
            "--compare-mode",
            type=click.Choice(COMPARE_MODES),
            help="What the before/after picture is like, and make one: both side by side; split, "
            "the left half before, the right half after; or zoom, the result and its part with "
            "most detail, enlarged, before and after.  [default: side-by-side]",
        ),
        click.option("--compare", is_flag=True, help="Save a before/after picture beside it."),
    ):
        command = option(command)
    return command
