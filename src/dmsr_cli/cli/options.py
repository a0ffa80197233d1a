"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dmsr_cli.config import SCALES

Command = TypeVar("Command", bound=Callable[..., Any])


class ScaleType(click.Choice[int]):
    """One of the scales, also in the spelling x4."""

    def __init__(self) -> None:
        super().__init__(list(SCALES))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """ "4" and "x4" are 4."""
        text = str(value)
        return super().convert(text[1:] if text[:1] in ("x", "X") else text, param, ctx)


class TileType(click.ParamType[int | str]):
    """`auto`, or a number of LR pixels (0 for the whole picture)."""

    name = "auto|0|N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Numbers become int."""
        if value == "auto":
            return "auto"
        try:
            number = int(value)
        except ValueError:
            number = -1
        if number != 0 and number < 16:
            self.fail(f"{value!r} is not auto, 0, or a number of LR pixels from 16 up", param, ctx)
        return number


def model_options(command: Command) -> Command:
    """-s, --model, --device, --precision: which network, and where it runs."""
    for option in (
        click.option(
            "--precision",
            type=click.Choice(["auto", "fp32", "fp16", "bf16"]),
            default="auto",
            show_default=True,
            help="Arithmetic of the convolutions.",
        ),
        click.option(
            "--device",
            default="auto",
            show_default=True,
            metavar="auto|cpu|cuda|cuda:N|mps",
            help="Where to compute.",
        ),
        click.option(
            "--model",
            metavar="NAME|FILE|hf://OWNER/REPO[/FILE][@REVISION]",
            help="Which weights to use.  [default: dmsr-lite]",
        ),
        scale_option,
    ):
        command = option(command)
    return command


def scale_option(command: Command) -> Command:
    """-s / --scale."""
    return click.option(
        "-s", "--scale", type=ScaleType(), help="Magnification.  [default: the model's, else 4]"
    )(command)


def input_options(command: Command) -> Command:
    """INPUT..., -r: which pictures."""
    command = click.option(
        "-r", "--recursive", is_flag=True, help="Take the folders inside folders, too."
    )(command)
    return click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")(command)


def debug_option(command: Command) -> Command:
    """--debug: read by `main` before anything else, so that it works for every error."""
    return click.option(
        "--debug", is_flag=True, help="Show where an error comes from (traceback)."
    )(command)
