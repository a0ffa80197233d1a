"""What the processes of a shared batch leave for each other in their store.

All of it is JSON: whoever reaches the store may at most spoil a batch, not run a program.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from dmsr_cli.cli.batch.jobs import Job
from dmsr_cli.cli.batch.report import BatchReport
from dmsr_cli.errors import DmsrError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store


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


class RemoteReport(BatchReport):
    """Sends what there is to tell of a picture to rank 0; what concerns no picture rank 0 knows."""

    def __init__(self, as_json: bool, store: Store) -> None:
        super().__init__(as_json)
        self.console.quiet = True
        self._store = store
        self._said: dict[int, list[tuple[str, str]]] = {}

    def write_to(self, path: Path, jobs: Iterable[Job], resume: bool | None, replace: bool) -> None:
        """Rank 0 does."""

    def say(self, text: str, style: str = "", number: int | None = None) -> None:
        """Keep it until the picture has ended."""
        if number is not None:
            self._said.setdefault(number, []).append((text, style))

    def tell(self, record: dict[str, Any], text: str, number: int | None = None) -> None:
        """Send it."""
        assert number is not None, "of several processes none knows which picture is the next"
        said = self._said.pop(number, [])
        place = self._store.add("announced", 1)
        self._store.set(f"message/{place}", json.dumps([number, record, text, said]))


class Desk:
    """Where rank 0 gets what the others have to tell."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._announced = 0
        self._on_the_way: set[int] = set()
        self._errors: list[BaseException] = []

    @contextlib.contextmanager
    def opened(self, report: BatchReport) -> Iterator[None]:
        """Pass it on while the block runs, in a thread, and once more; raises what that raised."""
        over = threading.Event()

        def work() -> None:
            try:
                while not over.wait(COLLECT_EVERY):
                    self._collect(report)
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=work, name="dmsr-desk", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        self.check()
        self._collect(report)

    def check(self) -> None:
        """Raise what ended it."""
        if self._errors:
            raise self._errors[0]

    def _collect(self, report: BatchReport) -> None:
        announced = self._store.add("announced", 0)
        self._on_the_way.update(range(self._announced + 1, announced + 1))
        self._announced = announced
        for place in sorted(self._on_the_way):
            key = f"message/{place}"
            if not self._store.check([key]):
                continue
            number, record, text, said = json.loads(self._store.get(key))
            self._store.delete_key(key)
            self._on_the_way.remove(place)
            for line, style in said:
                report.say(line, style, number)
            report.tell(record, text, number)
