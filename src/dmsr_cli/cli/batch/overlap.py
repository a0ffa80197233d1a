"""Reads the next, computes the present and writes the last ones of a batch at the same time."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")
Source = TypeVar("Source")
Result = TypeVar("Result")
Value = TypeVar("Value")


class Outcome(Generic[Value]):
    """What a call returned, or the error that it raised, for the one who takes it."""

    def __init__(self, values: list[Value], errors: list[Exception]) -> None:
        self._values = values
        self._errors = errors

    def measured(self, size_of: Callable[[Value], int]) -> int:
        """Bytes of what is there to take; an error has none."""
        return sum(map(size_of, self._values))

    def take(self) -> Value:
        """Give it away, once: nothing here keeps a picture in memory, or the frames of an error."""
        if self._errors:
            raise self._errors.pop()
        return self._values.pop()


def attempt(call: Callable[[], Value]) -> Outcome[Value]:
    """Call it; an error is kept. What ends a program, as Ctrl-C does, is let through."""
    try:
        return Outcome([call()], [])
    except Exception as error:
        return Outcome([], [error])


class Stopwatch:
    """Adds up the time of one picture's own work, in whatever threads, without its waiting."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of the block."""
        started = monotonic()
        try:
            yield
        finally:
            self.seconds += monotonic() - started


@dataclass(frozen=True)
class Lanes:
    """How much happens beside the work: more only pays where the work leaves the CPU free."""

    readers: int = 1
    """How many jobs are read ahead, each in a thread of its own."""
    writers: int = 1
    """How many results are written at the same time, each in a thread of its own."""
    waiting_bytes: int = 2**29
    """Results that are being written hold no more than this, unless it is a single one."""


ONE_OF_EACH = Lanes()


def in_order(
    jobs: Iterable[Job],
    read: Callable[[Job], Source],
    work: Callable[[Job, Outcome[Source]], Result],
    write: Callable[[Job, Outcome[Result]], None],
    may_read_ahead: Callable[[Job, Sequence[Job]], bool],
    should_stop: Callable[[], bool] = lambda: False,
    lanes: Lanes = ONE_OF_EACH,
    size_of: Callable[[Result], int] = lambda result: 0,
) -> None:
    """Read, work and write each job; work happens in their order, and in the calling thread.

    While a job is worked on, others are read ahead and results are written, as many as `lanes`
    says. What has nothing to happen beside it, as all that a single job needs, happens in the
    calling thread.

    Args:
        jobs: what to do; the next one is drawn when it can be read ahead, or worked on.
        read: its error belongs to the job: `work` takes it.
        work: the same; `write` takes it.
        write: called for every job that was worked on, also where there is only an error to tell;
            with one writer for one after the other. An error of its own ends everything.
        may_read_ahead: called with a job and those under way, which are not written yet, the ones
            that were read ahead included. Where it says no, the job is read when everything
            before it is written.
        should_stop: from when it says yes, no job is drawn or worked on, also if it is read.
        lanes: how much happens at the same time.
        size_of: bytes of a result.

    Raises:
        BaseException: what `write` raises, and Ctrl-C. A reading or a writing that has begun is
            finished first.
    """
    with (
        _Writers(write, lanes, size_of) as writers,
        _Readers(jobs, read, lanes.readers, may_read_ahead) as readers,
    ):
        while not should_stop():
            following = readers.take()
            if following is None or should_stop():
                break
            job, source = following
            readers.read_ahead([*writers.under_way, job])
            result = attempt(partial(work, job, source))
            writers.write(job, result, is_alone=not readers.ahead)


class _Readers(Generic[Job, Source]):
    """Draws jobs, and reads some of them before it is their turn."""

    def __init__(
        self,
        jobs: Iterable[Job],
        read: Callable[[Job], Source],
        count: int,
        may_read_ahead: Callable[[Job, Sequence[Job]], bool],
    ) -> None:
        self.ahead: deque[tuple[Job, Future[Outcome[Source]]]] = deque()
        self._jobs = iter(jobs)
        self._refused: list[Job] = []
        self._read = read
        self._count = count
        self._may_read_ahead = may_read_ahead
        self._threads = _Threads("reader", count)

    def __enter__(self) -> _Readers[Job, Source]:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.close()

    def take(self) -> tuple[Job, Outcome[Source]] | None:
        """The next job, and what was read; None at the end.

        What was not read ahead is read now: then nothing was ahead before, and all is written.
        """
        if self.ahead:
            job, reading = self.ahead.popleft()
            return job, reading.result()
        for job in itertools.chain(self._refused, self._jobs):
            self._refused = []
            return job, attempt(partial(self._read, job))
        return None

    def read_ahead(self, under_way: list[Job]) -> None:
        """Begin to read as much as there may be."""
        room = 0 if self._refused else self._count - len(self.ahead)
        for job in itertools.islice(self._jobs, room):
            ahead = [other for other, _ in self.ahead]
            if not self._may_read_ahead(job, [*under_way, *ahead]):
                self._refused.append(job)
                return
            reading = self._threads.start(partial(attempt, partial(self._read, job)))
            self.ahead.append((job, reading))


class _Writers(Generic[Job, Result]):
    """Writes results, and lets no more of them wait than the memory bears."""

    def __init__(
        self,
        write: Callable[[Job, Outcome[Result]], None],
        lanes: Lanes,
        size_of: Callable[[Result], int],
    ) -> None:
        self._write = write
        self._lanes = lanes
        self._size_of = size_of
        self._writing: dict[Future[None], tuple[Job, int]] = {}
        self._threads = _Threads("writer", lanes.writers)

    def __enter__(self) -> _Writers[Job, Result]:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.close()
        if error[0] is None:
            self.drain()

    @property
    def under_way(self) -> list[Job]:
        """The jobs whose results are being written."""
        return [job for job, _ in self._writing.values()]

    def write(self, job: Job, result: Outcome[Result], is_alone: bool) -> None:
        """Begin to write, or do it here if nothing else is to be done meanwhile."""
        if is_alone:
            self.drain()
            self._write(job, result)
            return
        size = result.measured(self._size_of)
        self._wait_for_room(size)
        self._writing[self._threads.start(partial(self._write, job, result))] = job, size

    def drain(self) -> None:
        """Wait until all is written; raises what a writing raised."""
        for writing in list(self._writing):
            writing.result()
            del self._writing[writing]

    def _wait_for_room(self, size: int) -> None:
        while self._writing:
            waiting = sum(size for _, size in self._writing.values())
            full = len(self._writing) >= self._lanes.writers
            if not full and waiting + size <= self._lanes.waiting_bytes:
                return
            for writing in wait(self._writing, return_when=FIRST_COMPLETED).done:
                del self._writing[writing]
                writing.result()


class _Threads:
    """Threads for some tasks at a time; they start with the first, and `close` waits for the last.

    Ctrl-C, however often, does not cut a task short. The tasks are waited for, not the threads: in
    Python up to 3.12 a `join` that Ctrl-C interrupts takes the thread for ended.
    """

    def __init__(self, name: str, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=f"dmsr-{name}")
        self._tasks: set[Future[Any]] = set()

    def start(self, call: Callable[[], Value]) -> Future[Value]:
        """Begin with a task as soon as a thread is free."""
        task = self._executor.submit(call)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def close(self) -> None:
        """Wait for the tasks that have begun, and forget the others."""
        try:
            self._wait()
        finally:
            self._executor.shutdown()

    def _wait(self) -> None:
        try:
            for task in list(self._tasks):
                task.exception()
        except KeyboardInterrupt:
            self._wait()
            raise
