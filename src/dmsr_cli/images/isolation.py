"""Two ways to read pictures: in this process, or in one that may crash."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dmsr_cli.images.limits import USUAL, Limits
from dmsr_cli.images.picture import Image
from dmsr_cli.images.reading import read_image
from dmsr_cli.images.sequences import Frame, Sequence, open_sequence
from dmsr_cli.images.serving import SEQUENCE_FIELDS
from dmsr_cli.images.worker import Worker

Source = str | Path | BinaryIO


class DirectDecoder:
    """Reads pictures in this process."""

    def __init__(self, limits: Limits = USUAL) -> None:
        self.limits = limits

    def __enter__(self) -> DirectDecoder:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing is held."""

    def read_image(self, source: Source) -> Image:
        """As the function of this name."""
        return read_image(source, self.limits)

    def open_sequence(self, source: Source) -> Sequence | IsolatedSequence | None:
        """As the function of this name."""
        return open_sequence(source, self.limits)


class IsolatedDecoder(DirectDecoder):
    """Reads pictures in worker processes; use it in a `with` statement, which ends them.

    What crashes a worker, or keeps it busy for too long, is an ImageError; the next picture gets a
    new worker. Several threads may use it: each has a worker of its own while it waits, and so has
    a sequence while it is open. Streams are read in this process.
    """

    def __init__(self, limits: Limits = USUAL) -> None:
        """The first worker starts at once, and is not waited for."""
        super().__init__(limits)
        self._lock = threading.Lock()
        self._idle = [Worker()]

    def __enter__(self) -> IsolatedDecoder:
        return self

    def __exit__(self, *exception: object) -> None:
        """End the workers."""
        with self._lock:
            while self._idle:
                self._idle.pop().end()

    def read_image(self, source: Source) -> Image:
        """As the function of this name."""
        if not isinstance(source, (str, Path)):
            return super().read_image(source)
        path = Path(source)
        with self.worker() as worker:
            image: Image = worker.ask(path, "read_image", path, self.limits)
            return image

    def open_sequence(self, source: Source) -> Sequence | IsolatedSequence | None:
        """As the function of this name; it raises ImageError if a worker is lost."""
        if not isinstance(source, (str, Path)):
            return super().open_sequence(source)
        path = Path(source)
        with contextlib.ExitStack() as stack:
            worker = stack.enter_context(self.worker())
            header = worker.ask(path, "open_sequence", path, self.limits)
            if header is None:
                return None
            return IsolatedSequence(path, worker, header, stack.pop_all())

    @contextlib.contextmanager
    def worker(self) -> Iterator[Worker]:
        """A worker for nobody else; it is kept for the next one if it can be."""
        with self._lock:
            worker = self._idle.pop() if self._idle else Worker()
        if not worker.answers():  # it has ended while nobody used it
            worker.end()
            worker = Worker()
        try:
            yield worker
        finally:
            if worker.usable:
                with self._lock:
                    self._idle.append(worker)
            else:
                worker.end()


class IsolatedSequence:
    """A `Sequence` whose frames are decoded by a worker, with the same attributes."""

    format: str
    count: int
    loop: int | None
    is_paged: bool
    comment: bytes | None
    warnings: tuple[str, ...]

    def __init__(
        self,
        path: Path,
        worker: Worker,
        header: dict[str, object],
        stack: contextlib.ExitStack,
    ) -> None:
        """`stack` gives the worker back."""
        self._path, self._worker, self._stack = path, worker, stack
        for field in SEQUENCE_FIELDS:
            setattr(self, field, header[field])

    def __enter__(self) -> IsolatedSequence:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and give the worker back."""
        with self._stack:
            if self._worker.usable:
                self._worker.ask(self._path, "close_sequence")

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """As `Sequence.frames`; it raises ImageError also if the worker is lost."""
        self._worker.ask(self._path, "frames", start, stop)
        return self._frames()

    def _frames(self) -> Iterator[Frame]:
        while (frame := self._worker.ask(self._path, "next_frame")) is not None:
            yield frame
