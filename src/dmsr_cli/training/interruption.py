"""Stopping between two steps: a signal may come in the middle of one, the state may not."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what job schedulers and `kill` send."""


@dataclass
class Interruption:
    """Tells whether somebody asked the run to stop."""

    requested: bool = False
    number: int = 0
    """Of the signal that asked."""


@contextlib.contextmanager
def watch_for_interruption() -> Iterator[Interruption]:
    """While the block runs, the first SIGINT or SIGTERM only sets `requested`.

    It also brings the previous handler of SIGINT back, so that a second Ctrl-C acts at once. A
    second SIGTERM changes nothing: job schedulers and torchrun send it more than once. All
    handlers are back after the block in any case. Signals that are ignored (as under nohup) or
    handled outside Python are left alone, and so are all of them outside the main thread, the
    only one that Python lets handle signals.
    """
    interruption = Interruption()
    previous = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        previous = {
            number: handler
            for number, handler in handlers.items()
            if handler not in (None, signal.SIG_IGN)
        }

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def request(number: int, frame: FrameType | None) -> None:
        interruption.requested, interruption.number = True, number
        if signal.SIGINT in previous:
            signal.signal(signal.SIGINT, previous[signal.SIGINT])

    try:
        for number in previous:
            signal.signal(number, request)
        yield interruption
    finally:
        restore()
