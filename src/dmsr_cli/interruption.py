"""Ending well when a signal asks for it: between two steps, or at once without leaving a trace."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from dmsr_cli.locks import remove_all_for_the_end

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)
"""Ctrl-C, what job schedulers and `kill` send, a terminal that is closed, Windows' Ctrl-Break."""
STATUS = 128
"""What shells add to the number of the signal that ended a process."""
SAME_REQUEST = 0.5
"""Seconds in which several signals are one request: Ctrl-C reaches torchrun, which passes it on."""
_SHOW_CURSOR = b"\r\x1b[2K\x1b[?25h"  # in place of the progress bar, which hides it


@dataclass
class Interruption:
    """Tells whether somebody asked the run to stop."""

    requested: bool = False
    number: int = 0
    """Of the signal that asked first."""

    @property
    def status(self) -> int:
        """The exit status that tells it; 0 if nobody asked."""
        return STATUS + self.number if self.requested else 0

    def request(self, number: int) -> None:
        """Ask the run to stop."""
        if not self.requested:
            self.number = number
            self.requested = True
        if number == getattr(signal, "SIGHUP", None):
            _let_go_of_the_terminal()


@contextlib.contextmanager
def watch_for_interruption() -> Iterator[Interruption]:
    """While the block runs, the first signal only sets `requested`.

    A second Ctrl-C does what it would do without the block, at once. A second SIGTERM changes
    nothing: job schedulers and torchrun send it more than once. All handlers are back after the
    block in any case. Signals that are ignored (as under nohup) or handled outside Python are left
    alone, and so are all of them outside the main thread, the only one that Python lets handle
    signals.
    """
    interruption = Interruption()
    before, requested = signal.getsignal(signal.SIGINT), 0.0

    def request(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        if isinstance(before, _Watched):
            # It cannot be brought back: its thread might take the first signal for a second one.
            if not interruption.requested:
                requested = time.monotonic()
            elif number == signal.SIGINT and time.monotonic() - requested > SAME_REQUEST:
                before.act(number)
        elif signal.getsignal(signal.SIGINT) is request:
            signal.signal(signal.SIGINT, before)
        interruption.request(number)

    with _handled_by(request):
        yield interruption


@contextlib.contextmanager
def finish_first(on_request: Callable[[], None] | None = None) -> Iterator[Interruption]:
    """While the block runs, the first signal sets `requested`, and the second ends the process.

    It ends at once, whatever its threads are doing; the files that they have not finished are
    removed. For a command line: this is no way to treat the caller of a library.

    Args:
        on_request: called after the first, in a thread of its own.
    """
    interruption = Interruption()
    with _watching(), _handled_by(_Watched(interruption, on_request)):
        yield interruption


@contextlib.contextmanager
def end_at_once() -> Iterator[None]:
    """While the block runs, a signal ends the process, and its unfinished files are removed."""
    with _watching(), _handled_by(_Watched()):
        yield


class _Watched:
    """A handler that the watching thread acts for.

    Python calls handlers in the main thread, once that has come back from what it computes, or
    encodes: this may take long.
    """

    def __init__(
        self,
        interruption: Interruption | None = None,
        on_request: Callable[[], None] | None = None,
    ) -> None:
        self._interruption = interruption
        self._on_request = on_request
        self._requested = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Nothing: the main thread has no part in it."""

    def act(self, number: int) -> None:
        """Do what the signal asks for; in the watching thread."""
        if self._interruption is None:
            _end(number)
        elif not self._interruption.requested:
            self._requested = time.monotonic()
            self._interruption.request(number)
            if self._on_request is not None:
                # Not here: it may wait for a thread that writes, and must not delay the second.
                threading.Thread(target=self._on_request, daemon=True).start()
        elif time.monotonic() - self._requested > SAME_REQUEST:
            _end(number)


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    previous = {}
    if _is_main_thread():
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        previous = {
            number: before
            for number, before in handlers.items()
            if before not in (None, signal.SIG_IGN)
        }
    try:
        for number in previous:
            signal.signal(number, handler)
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


@contextlib.contextmanager
def _watching() -> Iterator[None]:
    """While the block runs, a thread hears of each signal as it comes."""
    if not _is_main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    thread = threading.Thread(target=_watch, args=(reader,), name="dmsr-signals", daemon=True)
    with reader, writer:
        previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            writer.shutdown(socket.SHUT_RDWR)
            thread.join()


def _watch(reader: socket.socket) -> None:
    while numbers := reader.recv(64):
        for number in numbers:
            handler = signal.getsignal(number)
            if isinstance(handler, _Watched):
                handler.act(number)


def _end(number: int) -> None:
    remove_all_for_the_end()
    with contextlib.suppress(OSError):
        os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + b"dmsr: interrupted\n")
    os._exit(STATUS + number)


def _let_go_of_the_terminal() -> None:
    """Print into nothing from now on: writing to a terminal that is gone is an error."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            is_device = stat.S_ISCHR(os.fstat(descriptor).st_mode)
            if is_device and not os.isatty(descriptor):  # which it was
                os.dup2(nothing, descriptor)
    os.close(nothing)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _forget_in_child() -> None:
    """A forked child has no watching thread: signals are to end it as they end any process."""
    watched = [number for number in SIGNALS if isinstance(signal.getsignal(number), _Watched)]
    if watched:
        signal.set_wakeup_fd(-1)
    for number in watched:
        signal.signal(number, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
