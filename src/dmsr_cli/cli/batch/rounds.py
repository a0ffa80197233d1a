"""The loop over the pictures of a batch, once or, with --watch, again and again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dmsr_cli.cli.batch.overlap import Lanes, Stopwatch, in_order
from dmsr_cli.cli.batch.pictures import Picture, Share, may_be_read_ahead, new_record
from dmsr_cli.cli.batch.progress import BatchProgress, PatientProgress
from dmsr_cli.cli.batch.report import now
from dmsr_cli.cli.batch.stages import finish, read, restore

if TYPE_CHECKING:
    import torch

    from dmsr_cli.cli.batch.jobs import Job
    from dmsr_cli.cli.batch.moving import Moving
    from dmsr_cli.cli.batch.report import BatchReport
    from dmsr_cli.cli.batch.restoring import Restored
    from dmsr_cli.cli.batch.settings import Batch
    from dmsr_cli.cli.batch.sharing import Alone
    from dmsr_cli.images import Image

MOST_WRITERS = 8
"""A GPU computes a result in less than a tenth of the time that its PNG takes."""
MOST_READERS = 2
"""Decoding takes about as long as such a computation."""


@dataclass
class Rounds:
    """Does the jobs of a batch, in one round or several."""

    batch: Batch
    report: BatchReport
    team: Alone
    lanes: Lanes
    should_stop: Callable[[], bool]
    count: int = 0
    """Jobs of the rounds so far."""

    def do(self, jobs: Sequence[Job]) -> None:
        """Do one round; on `should_stop`, the picture that is worked on is its last."""
        first = self.count
        self.count += len(jobs)
        if not jobs:
            return
        with (
            self.report.tally.stopwatch.running(),
            self._progress(jobs) as progress,
            self.team.telling(self.report, self.should_stop, self._record),
        ):
            mine = self.team.draw(jobs)
            in_order(
                pictures_of(mine, self.batch, self.report, progress, len(jobs), first),
                *(_read, restore, finish, may_be_read_ahead),
                should_stop=self.should_stop,
                lanes=self.lanes,
                size_of=_bytes_of,
            )
        self.report.running = None

    def _record(self, job: Job) -> dict[str, Any]:
        return new_record(job, self.batch)

    @contextlib.contextmanager
    def _progress(self, jobs: Sequence[Job]) -> Iterator[PatientProgress]:
        if len(jobs) == 1 or not self.team.leads:
            with PatientProgress(self.report.console, "upscaling") as progress:
                yield progress
            return
        sizes = [_bytes_on_disk(job) for job in jobs]
        counted = BatchProgress(self.report.console, "upscaling", sizes)
        self.report.on_told = counted.told
        with counted:
            yield counted
        self.report.on_told = None


def pictures_of(
    jobs: Iterable[tuple[int, Job]],
    batch: Batch,
    report: BatchReport,
    progress: PatientProgress,
    count: int,
    first: int = 0,
) -> Iterator[Picture]:
    """Jobs, each with its number, on their way.

    Args:
        jobs: some of a round's jobs, or all.
        batch: what is wanted of them.
        report: what is told goes there.
        progress: of the round.
        count: jobs of the round.
        first: jobs of the rounds before.
    """
    for number, job in jobs:
        share = Share(report, progress, number, count, job.short_name, first + number)
        yield Picture(job, batch, new_record(job, batch), Stopwatch(), share)


def lanes_for(device: torch.device) -> Lanes:
    """What happens beside the work: on a CPU little, for it takes the work's own time."""
    if device.type == "cpu":
        return Lanes()
    cores = os.cpu_count() or 1
    return Lanes(min(MOST_READERS, cores), min(MOST_WRITERS, cores))


def _read(picture: Picture) -> Image | Moving | None:
    picture.record["started"] = now()
    return read(picture)


def _bytes_of(restored: Restored | None) -> int:
    """What a result holds in memory while it waits to be written."""
    return 0 if restored is None else restored.result.pixels.nbytes


def _bytes_on_disk(job: Job) -> int:
    with contextlib.suppress(OSError, ValueError):
        return 0 if job.is_piped_in or job.error else job.source.stat().st_size
    return 0
