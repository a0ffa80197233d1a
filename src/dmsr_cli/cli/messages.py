"""What the processes of a shared batch leave for each other in their store.

All of it is JSON: whoever reaches the store may at most spoil a batch, not run a program.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from dmsr_cli.cli.jobs import Job
from dmsr_cli.cli.report import complete, warning
from dmsr_cli.errors import DmsrError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

    from dmsr_cli.cli.report import BatchReport

BLOCK = 100
"""Jobs in one value of the store, which takes 8 MiB: also with the longest names."""
COLLECT_EVERY = 0.1
"""Seconds between two looks for what the others have done."""


def leave_jobs(store: Store, jobs: Sequence[Job]) -> None:
    """Put all jobs into the store."""
    for start in range(0, len(jobs), BLOCK):
        packed = [_packed(job) for job in jobs[start : start + BLOCK]]
        store.set(f"jobs/{start // BLOCK}", json.dumps(packed))
    store.set("jobs", str(len(jobs)))


class Jobs(Sequence[Job]):
    """The jobs in the store; only the latest block is kept."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._count = int(store.get("jobs"))
        self._block: tuple[int, list[Job]] = (-1, [])

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, number: int) -> Job: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Job]: ...
    def __getitem__(self, number: int | slice) -> Job | Sequence[Job]:
        if isinstance(number, slice):
            return [self[index] for index in range(*number.indices(self._count))]
        if not 0 <= number < self._count:
            raise IndexError(number)
        block, place = divmod(number, BLOCK)
        if block != self._block[0]:
            packed = json.loads(self._store.get(f"jobs/{block}"))
            self._block = block, [_unpacked(values) for values in packed]
        return self._block[1][place]


def _packed(job: Job) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return {"path": str(value)}
        return {"error": str(value)} if isinstance(value, DmsrError) else value

    return {field.name: plain(getattr(job, field.name)) for field in dataclasses.fields(job)}


def _unpacked(values: dict[str, Any]) -> Job:
    def whole(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return Path(value["path"]) if "path" in value else DmsrError(value["error"])

    return Job(**{name: whole(value) for name, value in values.items()})


@dataclasses.dataclass(frozen=True)
class Message:
    """What there is to tell of one picture."""

    number: int
    record: dict[str, Any]
    text: str
    notes: list[tuple[str, str]]
    """Lines, and their styles, that come before it."""


class Courier:
    """Takes what the work on one picture says to the desk."""

    def __init__(self, number: int, report: BatchReport, deliver: Callable[[Message], None]):
        self._number = number
        self._report = report
        self._deliver = deliver
        self._notes: list[tuple[str, str]] = []

    @property
    def running(self) -> str | None:
        """The picture that this process works on."""
        return self._report.running

    @running.setter
    def running(self, name: str | None) -> None:
        self._report.running = name

    def run(
        self, record: dict[str, Any], work: Callable[[dict[str, Any]], str], debug: bool
    ) -> None:
        """Do the work, and send what came of it."""
        text = complete(record, work, debug)
        self._deliver(Message(self._number, record, text, self._notes))

    def say(self, text: str, style: str = "") -> None:
        """Send it with the rest."""
        self._notes.append((text, style))

    def warn(self, name: str, text: str) -> None:
        """Send it with the rest."""
        if not self._report.as_json:
            self.say(*warning(name, text))


class Desk:
    """Where rank 0 gets what there is to tell, and tells it in the order of the jobs."""

    def __init__(self, store: Store, is_here: bool) -> None:
        self._store = store
        self._is_here = is_here
        self._waiting: dict[int, Message] = {}
        self._told = 0
        self._announced = 0
        self._on_the_way: set[int] = set()
        self._errors: list[BaseException] = []

    def courier(self, number: int, report: BatchReport) -> Courier:
        """For one picture of this process."""
        return Courier(number, report, self._receive if self._is_here else self._send)

    @contextlib.contextmanager
    def opened(self, report: BatchReport) -> Iterator[None]:
        """Collect and tell while the block runs, in a thread; raises what that raised."""
        over = threading.Event()

        def collect_and_tell() -> None:
            try:
                while not over.wait(COLLECT_EVERY):
                    self._collect()
                    self._tell(report)
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=collect_and_tell, name="dmsr-desk", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        self.check()

    def check(self) -> None:
        """Raise what ended the telling."""
        if self._errors:
            raise self._errors[0]

    def close(self, report: BatchReport, count: int, lost: Callable[[int], None]) -> None:
        """Tell the rest, of so many jobs in all; `lost` is called for each that nobody told of."""
        self._collect()
        self._tell(report)
        while self._told < count:
            lost(self._told)
            self._told += 1
            self._tell(report)

    def _send(self, message: Message) -> None:
        place = self._store.add("announced", 1)
        self._store.set(f"message/{place}", json.dumps(dataclasses.asdict(message)))

    def _receive(self, message: Message) -> None:
        self.check()
        self._waiting[message.number] = message

    def _collect(self) -> None:
        announced = self._store.add("announced", 0)
        self._on_the_way.update(range(self._announced + 1, announced + 1))
        self._announced = announced
        for place in sorted(self._on_the_way):
            key = f"message/{place}"
            if self._store.check([key]):
                message = Message(**json.loads(self._store.get(key)))
                self._waiting[message.number] = message
                self._store.delete_key(key)
                self._on_the_way.remove(place)

    def _tell(self, report: BatchReport) -> None:
        """As far as the order allows."""
        while self._told in self._waiting:
            message = self._waiting.pop(self._told)
            for text, style in message.notes:
                report.say(text, style)
            report.tell(message.record, message.text)
            self._told += 1
