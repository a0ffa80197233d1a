"""Options that put something else in the place of what is estimated."""

from __future__ import annotations

from pathlib import Path

import click

from dmsr_cli.cli.options import Command


def steering_options(command: Command) -> Command:
    """--degradation, --kernel, --kernel-width, --noise-level, --denoise: other than estimated."""
    for option in (
        click.option(
            "--denoise",
            type=click.FloatRange(0, 100),
            help="Scale the estimated noise, or that of --degradation, by this factor: 1 is as it "
            "is, more takes away more.",
        ),
        click.option(
            "--noise-level",
            type=click.FloatRange(0, 255),
            help="Scale the estimated noise to this standard deviation (0 to 255).",
        ),
        click.option(
            "--kernel-width",
            type=click.FloatRange(0, 20, min_open=True),
            help="Use a Gaussian blur kernel of this width in HR pixels instead of the estimated "
            "kernel.",
        ),
        click.option(
            "--kernel",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Use this blur kernel instead of the estimated one: 15x15 numbers, in HR pixels, "
            "as a .npy array, a grey PNG picture, or text.",
        ),
        click.option(
            "--degradation",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Use blur and noise level of this file instead of the estimated ones, for all "
            "inputs: dmsr estimate -o NAME.dmsr.json makes one, and it may be edited. The options "
            "that follow override it.",
        ),
    ):
        command = option(command)
    return command
