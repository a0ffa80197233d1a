"""Reads the next, computes the present and writes the last of a batch at the same time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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

    @property
    def failed(self) -> bool:
        """There is an error to take."""
        return bool(self._errors)

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


def in_order(
    jobs: Sequence[Job],
    read: Callable[[Job], Source],
    work: Callable[[Job, Outcome[Source]], Result],
    write: Callable[[Job, Outcome[Result]], None],
    may_read_ahead: Callable[[Job, Sequence[Job]], bool],
) -> None:
    """Read, work and write each job, in their order; work always happens in the calling thread.

    While a job is worked on, at most one is read ahead and at most the result of one is written,
    each in a thread of its own. What has nothing to happen beside it, as all that a single job
    needs, happens in the calling thread.

    Args:
        jobs: what to do.
        read: its error belongs to the job: `work` takes it.
        work: the same; `write` takes it.
        write: called for every job, one after the other, also where there is only an error to
            tell. An error of its own ends everything.
        may_read_ahead: called with a job and those under way, which are not written yet. Where it
            says no, the job is read when everything before it is written.

    Raises:
        BaseException: what `write` raises, and Ctrl-C. A reading or a writing that has begun is
            finished first.
    """
    with _Thread("reader") as reader, _Thread("writer") as writer:
        ahead: Future[Outcome[Source]] | None = None
        last: Future[None] | None = None
        for number, job in enumerate(jobs):
            source = attempt(partial(read, job)) if ahead is None else ahead.result()
            ahead = None
            if number + 1 < len(jobs):
                following, under_way = jobs[number + 1], jobs[max(number - 1, 0) : number + 1]
                if may_read_ahead(following, under_way):
                    ahead = reader.start(partial(attempt, partial(read, following)))
            result = attempt(partial(work, job, source))
            if last is not None:
                last.result()
            if ahead is None or result.failed:
                last = None
                write(job, result)
            else:
                last = writer.start(partial(write, job, result))


class _Thread:
    """A thread for one task at a time; it starts with the first, and the block waits for the last.

    Ctrl-C, however often, does not cut a task short. The tasks are waited for, not the thread: in
    Python up to 3.12 a `join` that Ctrl-C interrupts takes the thread for ended.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"dmsr-{name}")
        self._task: Future[Any] | None = None

    def start(self, call: Callable[[], Value]) -> Future[Value]:
        """Begin with a task, when the one before has ended."""
        task = self._executor.submit(call)
        self._task = task
        return task

    def __enter__(self) -> _Thread:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._wait()
        finally:
            self._executor.shutdown()

    def _wait(self) -> None:
        try:
            if self._task is not None:
                self._task.exception()
        except KeyboardInterrupt:
            self._wait()
            raise
