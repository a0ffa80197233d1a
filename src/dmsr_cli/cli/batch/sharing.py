"""One batch shared by the processes that torchrun started, on one machine or several.

The first process, rank 0, plans the jobs and leaves them in torchrun's store. Every process draws
the next one from a counter there, however long each takes. What they have to tell goes to rank 0,
which alone speaks.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, NoReturn

import click

from dmsr_cli.errors import DmsrError, SharingError
from dmsr_cli.processes import (
    Pulses,
    check_launch,
    launched_here,
    launched_rank,
    launched_size,
    lost_contact,
    meeting_place,
    own_device,
)

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

    from dmsr_cli.cli.batch.jobs import Job
    from dmsr_cli.cli.batch.report import BatchReport

LOOK_EVERY = 0.05
"""Seconds between two looks into the store: waiting in it would block the other threads."""
PATIENCE = 30.0
"""Seconds without a sign of life after which a process is taken to be gone."""
SHORT_PATIENCE = 5.0
"""The same when somebody wants the end: torchrun kills what is there 30 s later."""
PATIENCE_TO_REFUSE = 3.0
"""Seconds that the others have to hear that there is nothing to do."""
NO_MORE = 1 << 40
"""Moves the counter behind all jobs."""

Records = Callable[["Job"], dict[str, Any]]


class Alone:
    """The one process of an ordinary batch; what several have to arrange costs it nothing."""

    leads = True

    def device(self, name: str) -> str:
        """The device that this process takes of those that the name means."""
        return name

    def agree(self, plan: Callable[[], Sequence[Job]]) -> Sequence[Job]:
        """The jobs, which rank 0 alone plans, in every process."""
        return plan()

    def draw(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Job]]:
        """The jobs that fall to this process, each with its place in the batch."""
        return iter(enumerate(jobs))

    def report(self, as_json: bool) -> BatchReport:
        """Where the work on pictures says what it has to."""
        from dmsr_cli.cli.batch.report import BatchReport

        return BatchReport(as_json)

    @contextlib.contextmanager
    def telling(
        self, report: BatchReport, should_stop: Callable[[], bool], record_of: Records
    ) -> Iterator[None]:
        """While the block runs, tell what is done; it ends when nothing more will come.

        Args:
            report: of this process.
            should_stop: somebody wants the end.
            record_of: what is known of a job that a process took with it.
        """
        yield

    def status(self, own: int) -> int:
        """The exit status of this process, where that of its own work is `own`."""
        return own


class Team(Alone):
    """One of several processes that share a batch."""

    def __init__(self, store: Store, rank: int, size: int) -> None:
        from dmsr_cli.cli.batch.messages import Desk

        self.leads = rank == 0
        self.rank = rank
        self.name = f"process {rank} of {size}"
        self._agreed = False
        self._store = store
        self._others = range(1, size)
        self.pulses = Pulses(store, rank)
        self._desk = Desk(store)
        self._jobs: Sequence[Job] = []

    def device(self, name: str) -> str:
        """A GPU of its own, or its share of the processor's cores."""
        import torch

        from dmsr_cli.device import choose_device

        device = own_device(choose_device(name))
        # torchrun says 1 where nobody says anything; what else is there, somebody meant.
        if device.type == "cpu" and os.environ.get("OMP_NUM_THREADS", "1") == "1":
            torch.set_num_threads(max(1, _cores() // launched_here()))
        return str(device)

    def agree(self, plan: Callable[[], Sequence[Job]]) -> Sequence[Job]:
        """Plan the jobs and leave them for the others, or fetch them."""
        from dmsr_cli.cli.batch.messages import Jobs, leave_jobs

        if self.leads:
            self._jobs = plan()
            leave_jobs(self._store, self._jobs)
            self._store.set("verdict", "agreed")
        elif self._hears_of_jobs():
            self._jobs = Jobs(self._store)
        else:
            raise click.exceptions.Exit(0)
        self._agreed = True
        return self._jobs

    def draw(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Job]]:
        """Each job falls to the process that asks for it first."""
        while (number := self._store.add("drawn", 1) - 1) < len(jobs):
            self._desk.check()
            yield number, jobs[number]

    def report(self, as_json: bool) -> BatchReport:
        """Of rank 0, or one that goes to it."""
        from dmsr_cli.cli.batch.messages import RemoteReport

        return super().report(as_json) if self.leads else RemoteReport(as_json, self._store)

    @contextlib.contextmanager
    def telling(
        self, report: BatchReport, should_stop: Callable[[], bool], record_of: Records
    ) -> Iterator[None]:
        """Rank 0 tells what all have done, in the order of the jobs, and waits for the others."""
        if not self.leads:
            yield
            self._leave(should_stop())
            return
        with self._desk.opened(report):
            yield
            self._wait_for_the_others(should_stop)
        for number in [] if should_stop() else report.untold(len(self._jobs)):
            job = self._jobs[number]
            report.run(record_of(job), partial(_refuse_lost, job), debug=False, number=number)
        report.tell_the_rest()

    def status(self, own: int) -> int:
        """Rank 0 answers for the batch."""
        return own if self.leads else 0

    def give_up(self) -> None:
        """Rank 0 cannot go on: tell the others that there is nothing (more) to do."""
        self._store.add("drawn", NO_MORE)
        if not self._agreed:
            self._store.set("verdict", "refused")
            give_up = time.monotonic() + PATIENCE_TO_REFUSE
            while self._store.add("heard", 0) < len(self._others) and time.monotonic() < give_up:
                time.sleep(LOOK_EVERY)

    def refused(self) -> bool:
        """Whether rank 0, too, failed before there were any jobs; then it has said why."""
        return not self._agreed and not self._hears_of_jobs()

    def _hears_of_jobs(self) -> bool:
        while not self._store.check(["verdict"]):
            time.sleep(LOOK_EVERY)
        self._store.add("heard", 1)
        return bool(self._store.get("verdict") == b"agreed")

    def _wait_for_the_others(self, should_stop: Callable[[], bool]) -> None:
        stopped = False
        while True:
            if should_stop() and not stopped:
                stopped = bool(self._store.add("drawn", NO_MORE))
            patience = SHORT_PATIENCE if stopped else PATIENCE
            if not any(self.pulses.is_at_work(rank, patience) for rank in self._others):
                return
            time.sleep(LOOK_EVERY)

    def _leave(self, was_stopped: bool) -> None:
        """Say goodbye; when it was told to end, see first whether there is somebody to say it."""
        if was_stopped and not self.pulses.is_felt(0, SHORT_PATIENCE):
            raise SharingError(
                f"{self.name} lost the first one: the same command with --skip-existing goes on"
            )
        self.pulses.leave()


def refuse_several(what: str) -> None:
    """Raise UsageError, if torchrun started several processes, for what they cannot share."""
    if launched_size() > 1:
        raise click.UsageError(f"several processes cannot share {what}: leave torchrun out")


def shared(command: Callable[..., int]) -> Callable[..., int]:
    """Give the command a `team`: the process alone, or what torchrun started, once all are here."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> int:
        with joined() as team:
            return team.status(command(*arguments, **options, team=team))

    return run


@contextlib.contextmanager
def joined() -> Iterator[Alone]:
    """Find the other processes, if torchrun started any.

    What they all meet before there are jobs, as a usage error, rank 0 alone says.

    Raises:
        SettingsError: WORLD_SIZE is set, but not by torchrun.
        SharingError: the others could not be reached, or rank 0 went away.
        click.exceptions.Exit: rank 0 has ended it, and said why.
    """
    if launched_size() == 1:
        yield Alone()
        return
    # PyTorch's own words about lost connections, with addresses in memory, would come before ours.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    check_launch()
    rank, size = launched_rank(), launched_size()
    try:
        team = Team(meeting_place(rank, size), rank, size)
        with team.pulses.beating(), _same_errors_once(team):
            yield team
    except RuntimeError as error:
        if not lost_contact(error):
            raise
        raise SharingError(
            f"process {rank} of {size} lost the others: the same command with --skip-existing "
            "goes on"
        ) from error


@contextlib.contextmanager
def _same_errors_once(team: Team) -> Iterator[None]:
    try:
        yield
    except (DmsrError, click.ClickException):
        if not team.leads and team.refused():
            raise click.exceptions.Exit(0) from None
        raise
    finally:
        if team.leads:
            with contextlib.suppress(RuntimeError):  # the others have gone before
                team.give_up()


def _refuse_lost(job: Job, record: dict[str, Any]) -> NoReturn:
    raise SharingError(
        f"{job.source_name}: the process that worked on it has ended; the same command with "
        "--skip-existing goes on"
    )


def _cores() -> int:
    """Of those that this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
