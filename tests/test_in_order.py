"""The loop that reads ahead and writes behind: its order, its errors, its end."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import pytest

from dmsr_cli.cli.batch.overlap import ONE_OF_EACH, Lanes, Outcome, attempt, in_order
from threads import threads_of_ours

LONG = 10.0
"""Seconds after which what must happen is taken for never happening."""
SHORT = 0.2
"""Seconds in which what must not happen would surely happen."""


class Line:
    """Stages that keep a log, and may be held up: `before["work 2"]` is called as it begins."""

    def __init__(self, count: int = 3, ahead: bool = True) -> None:
        self.jobs = range(1, count + 1)
        self.ahead = ahead
        self.log: list[str] = []
        self.threads: dict[str, threading.Thread] = {}
        self.before: dict[str, Callable[[], object]] = {}
        names = [f"{stage} {job}" for stage in ("read", "work", "write") for job in self.jobs]
        self.begun = {name: threading.Event() for name in names}
        self.ended = {name: threading.Event() for name in names}
        self.outcomes: list[object] = []
        self.under_way: list[list[int]] = []
        self.drawn: list[int] = []
        self.stopped = False
        self.refused: set[int] = set()
        self.size = 0

    def run(self, lanes: Lanes = ONE_OF_EACH) -> None:
        in_order(
            *(self.draw(), self.read, self.work, self.write, self.may_read_ahead),
            should_stop=lambda: self.stopped,
            lanes=lanes,
            size_of=lambda result: self.size,
        )

    def draw(self) -> Iterator[int]:
        for job in self.jobs:
            self.drawn.append(job)
            yield job

    def stop(self) -> None:
        self.stopped = True

    def read(self, job: int) -> str:
        return self._stage("read", job)

    def work(self, job: int, source: Outcome[str]) -> str:
        return f"{source.take()}, {self._stage('work', job)}"

    def write(self, job: int, result: Outcome[str]) -> None:
        try:
            text = result.take()
        except ValueError as error:
            text = str(error)
        self._stage("write", job)
        self.outcomes.append(text)

    def may_read_ahead(self, job: int, under_way: Sequence[int]) -> bool:
        self.under_way.append([job, *under_way])
        return self.ahead and job not in self.refused

    def _stage(self, stage: str, job: int) -> str:
        name = f"{stage} {job}"
        self.threads[name] = threading.current_thread()
        self.log.append(name)
        self.begun[name].set()
        self.before.get(name, lambda: None)()
        self.log.append(f"{name} ended")
        self.ended[name].set()
        return name


def wait_for(event: threading.Event) -> Callable[[], None]:
    def wait() -> None:
        assert event.wait(LONG)

    return wait


def fail(text: str) -> Callable[[], None]:
    def raise_error() -> None:
        raise ValueError(f"wrong: {text}")

    return raise_error


class TestInOrder:
    def test_the_next_is_read_while_one_is_worked_on(self) -> None:
        line = Line()
        line.before["work 1"] = wait_for(line.ended["read 2"])
        line.run()
        assert line.log.index("read 2") < line.log.index("work 1 ended")
        assert line.outcomes == [f"read {job}, work {job}" for job in (1, 2, 3)]

    def test_only_one_is_read_ahead(self) -> None:
        line = Line()
        early = []

        def work() -> None:
            assert line.ended["read 2"].wait(LONG)
            early.append(line.begun["read 3"].wait(SHORT))

        line.before["work 1"] = work
        line.run()
        assert early == [False]

    def test_one_is_written_while_the_next_is_worked_on(self) -> None:
        line = Line()
        line.before["work 2"] = wait_for(line.begun["write 1"])
        line.before["write 1"] = wait_for(line.begun["work 2"])
        line.run()
        assert line.outcomes == [f"read {job}, work {job}" for job in (1, 2, 3)]

    def test_only_one_result_waits(self) -> None:
        line = Line()
        early = []

        def write() -> None:
            assert line.ended["work 2"].wait(LONG)
            early.append(line.begun["work 3"].wait(SHORT))

        line.before["write 1"] = write
        line.run()
        assert early == [False]

    def test_work_stays_in_the_calling_thread_and_so_does_all_that_is_alone(self) -> None:
        line = Line()
        line.run()
        here = {name for name, thread in line.threads.items() if thread is threading.main_thread()}
        assert here == {"read 1", "work 1", "work 2", "work 3", "write 3"}
        alone = Line(1)
        alone.run()
        assert set(alone.threads.values()) == {threading.main_thread()}

    def test_several_are_read_ahead_and_no_more(self) -> None:
        line = Line(5)
        early = []

        def work() -> None:
            assert line.ended["read 2"].wait(LONG)
            assert line.ended["read 3"].wait(LONG)
            early.append(line.begun["read 4"].wait(SHORT))

        for job in (2, 3):  # each needs the other to be under way
            line.before[f"read {job}"] = wait_for(line.begun[f"read {5 - job}"])
        line.before["work 1"] = work
        line.before["work 2"] = lambda: early.append(line.begun["read 5"].wait(SHORT))
        line.run(Lanes(readers=2))
        assert early == [False, False]
        assert line.under_way[:2] == [[2, 1], [3, 1, 2]]
        assert sorted(map(str, line.outcomes)) == [f"read {job}, work {job}" for job in line.jobs]

    def test_several_results_are_written_at_once_and_no_more(self) -> None:
        line = Line(4)
        early = []

        def write() -> None:
            assert line.begun["write 1"].wait(LONG)
            assert line.ended["work 3"].wait(LONG)
            early.append(line.begun["work 4"].wait(SHORT))

        line.before["write 2"] = write
        line.before["write 1"] = wait_for(line.ended["write 2"])
        line.run(Lanes(writers=2))
        assert early == [False]
        assert len(line.outcomes) == 4

    @pytest.mark.parametrize(("room", "together"), [(10, True), (9, False), (1, False)])
    def test_results_that_wait_fill_no_more_than_their_memory(
        self, room: int, together: bool
    ) -> None:
        line = Line()
        line.size = 5
        seen = []
        line.before["write 1"] = lambda: seen.append(line.begun["write 2"].wait(SHORT))
        line.run(Lanes(writers=4, waiting_bytes=room))
        assert seen == [together]
        assert len(line.outcomes) == 3

    def test_an_error_of_one_writer_lets_the_others_end(self) -> None:
        line = Line(5)
        line.before["write 1"] = wait_for(line.begun["write 2"])
        line.before["write 2"] = fail("disk")
        with pytest.raises(ValueError, match="wrong: disk"):
            line.run(Lanes(writers=2))
        assert line.outcomes[0] == "read 1, work 1"
        assert "work 5" not in line.log
        assert threads_of_ours() == []

    def test_what_may_not_be_read_ahead_is_read_when_all_is_written(self) -> None:
        line = Line(ahead=False)
        line.run()
        names = [f"{stage} {job}" for job in (1, 2, 3) for stage in ("read", "work", "write")]
        assert line.log[::2] == names
        assert line.under_way == [[2, 1], [3, 2]]

    @pytest.mark.parametrize("stage", ["read", "work"])
    @pytest.mark.parametrize("job", [1, 2, 3])
    def test_an_error_belongs_to_its_job(self, stage: str, job: int) -> None:
        line = Line()
        line.before[f"{stage} {job}"] = fail(stage)
        line.run()
        expected = [f"read {job}, work {job}" for job in (1, 2, 3)]
        expected[job - 1] = f"wrong: {stage}"
        assert line.outcomes == expected
        assert [entry for entry in line.log if entry in ("write 1", "write 2", "write 3")] == [
            *("write 1", "write 2", "write 3"),
        ]

    def test_the_next_is_drawn_when_it_can_be_read(self) -> None:
        line = Line(4)
        counts: list[int] = []
        for job in line.jobs:
            line.before[f"work {job}"] = lambda: counts.append(len(line.drawn))
        line.run()
        assert counts == [2, 3, 4, 4]

    @pytest.mark.parametrize("ahead", [True, False])
    def test_none_is_begun_after_it_should_stop(self, ahead: bool) -> None:
        line = Line(4, ahead)
        line.before["work 2"] = line.stop
        line.run()
        assert line.outcomes == [f"read {job}, work {job}" for job in (1, 2)]
        assert "work 3" not in line.log
        assert ("read 3" in line.log) == ahead
        assert line.drawn == [1, 2, 3]
        assert threads_of_ours() == []

    def test_what_is_read_when_it_should_stop_is_not_worked_on(self) -> None:
        line = Line(3, ahead=False)
        line.before["read 2"] = line.stop
        line.run()
        assert line.outcomes == ["read 1, work 1"]

    def test_nothing_overtakes_what_may_not_be_read_ahead(self) -> None:
        line = Line(5)
        line.refused = {3}
        line.run(Lanes(readers=2, writers=2))
        assert [entry for entry in line.log if "work" in entry][::2] == [
            f"work {job}" for job in line.jobs
        ]
        for job in (1, 2):
            assert line.log.index(f"write {job} ended") < line.log.index("read 3")
        assert line.log.index("work 3") > line.log.index("read 3 ended")
        assert line.log.index("read 4") > line.log.index("read 3 ended")

    @pytest.mark.parametrize("job", [1, 2, 3])
    def test_an_error_of_writing_ends_everything(self, job: int) -> None:
        line = Line()
        line.before[f"write {job}"] = fail("disk")
        with pytest.raises(ValueError, match="wrong: disk"):
            line.run()
        assert len(line.outcomes) == job - 1
        assert threads_of_ours() == []

    def test_an_interruption_lets_a_write_end_and_leaves_no_thread(self) -> None:
        line = Line()
        interrupted = threading.Event()

        def interrupt() -> None:
            assert line.begun["write 1"].wait(LONG)
            interrupted.set()
            raise KeyboardInterrupt

        line.before["work 2"] = interrupt
        line.before["write 1"] = wait_for(interrupted)
        with pytest.raises(KeyboardInterrupt):
            line.run()
        assert line.outcomes == ["read 1, work 1"]
        assert "work 3" not in line.log
        assert threads_of_ours() == []

    def test_a_second_interruption_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        line = Line()
        released = threading.Event()
        wait = Future.exception
        pressed: list[int] = []

        def interrupt() -> None:
            assert line.begun["write 1"].wait(LONG)
            raise KeyboardInterrupt

        def interrupted(self: Future[object]) -> object:
            if len(pressed) < 2:
                assert not line.outcomes
                pressed.append(1)
                raise KeyboardInterrupt
            released.set()
            return wait(self)

        monkeypatch.setattr(Future, "exception", interrupted)
        line.before |= {"work 2": interrupt, "write 1": wait_for(released)}
        with pytest.raises(KeyboardInterrupt):
            line.run()
        assert len(pressed) == 2
        assert line.outcomes == ["read 1, work 1"]
        assert threads_of_ours() == []

    def test_nothing_keeps_what_was_used(self) -> None:
        class Large:
            pass

        sources: list[weakref.ref[Large]] = []
        results: list[weakref.ref[Large]] = []
        alive: list[tuple[int, int]] = []

        def make(references: list[weakref.ref[Large]]) -> Large:
            large = Large()
            references.append(weakref.ref(large))
            return large

        def work(job: int, source: Outcome[Large]) -> Large:
            source.take()
            counts = [sum(one() is not None for one in past[:-2]) for past in (sources, results)]
            alive.append((counts[0], counts[1]))
            return make(results)

        def write(job: int, result: Outcome[Large]) -> None:
            result.take()

        in_order(range(6), lambda job: make(sources), work, write, lambda job, under_way: True)
        assert alive == [(0, 0)] * 6


def test_an_outcome_is_taken_once() -> None:
    outcome = attempt(lambda: "value")
    assert outcome.take() == "value"
    with pytest.raises(IndexError):
        outcome.take()
