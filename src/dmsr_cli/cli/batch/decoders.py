"""Which decoder a command uses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dmsr_cli.images import DirectDecoder


def decoder_for(
    inputs: Sequence[str], max_pixels: int, allow_truncated: bool, *, is_listed: bool = False
) -> DirectDecoder:
    """A decoder that the end of the command closes: a single picture is decoded in this process.

    Of a batch, no picture may end the rest: it is decoded in a process of its own, which starts
    at once.

    Args:
        inputs: the arguments of the command; a folder or a pattern may stand for several.
        max_pixels: of every picture.
        allow_truncated: take what is there of a picture that is cut short.
        is_listed: a list names more.
    """
    from dmsr_cli.cli.batch.inputs import PIPE
    from dmsr_cli.images import DirectDecoder, IsolatedDecoder, Limits

    limits = Limits(max_pixels, allow_truncated)
    is_alone = len(inputs) == 1 and not is_listed and (inputs[0] == PIPE or _is_file(inputs[0]))
    decoder = DirectDecoder(limits) if is_alone else IsolatedDecoder(limits)
    return click.get_current_context().with_resource(decoder)


def _is_file(name: str) -> bool:
    return os.path.isfile(name)  # noqa: PTH113 - pathlib raises for a name that is too long
