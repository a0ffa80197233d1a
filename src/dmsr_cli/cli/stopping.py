"""Ending a batch between two pictures, when somebody asks for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from dmsr_cli.training.interruption import Interruption, watch_for_interruption

LOOK_EVERY = 0.1
"""Seconds between two looks for the signal: a handler itself may not print."""


@contextlib.contextmanager
def stoppable(is_batch: bool, announce: Callable[[], None]) -> Iterator[Interruption]:
    """While the block runs, the first Ctrl-C or SIGTERM asks for its end after the running picture.

    Args:
        is_batch: there are several pictures; a single one ends at once.
        announce: called when the signal comes, in a thread of its own.
    """
    if not is_batch:
        yield Interruption()
        return
    with _finish_the_running_one(announce) as interruption:
        yield interruption


@contextlib.contextmanager
def _finish_the_running_one(announce: Callable[[], None]) -> Iterator[Interruption]:
    over = threading.Event()
    with watch_for_interruption() as interruption:

        def look() -> None:
            while not over.wait(LOOK_EVERY):
                if interruption.requested:
                    announce()
                    return

        watcher = threading.Thread(target=look, name="dmsr-stopping", daemon=True)
        watcher.start()
        try:
            yield interruption
        finally:
            over.set()
            watcher.join()
