"""Ending a batch between two pictures, when somebody asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from dmsr_cli.interruption import Interruption, finish_first


def stoppable(
    is_batch: bool, announce: Callable[[], None]
) -> contextlib.AbstractContextManager[Interruption]:
    """While the block runs, the first Ctrl-C or SIGTERM asks for its end after the running picture.

    The second ends the process at once.

    Args:
        is_batch: there are several pictures; a single one ends at once.
        announce: called when the signal comes, in a thread of its own.
    """
    return finish_first(announce) if is_batch else contextlib.nullcontext(Interruption())
