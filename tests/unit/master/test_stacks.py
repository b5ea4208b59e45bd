"""The stacks that the master waits for: asked for, forced, late, or never."""

import math
from collections.abc import Iterator

import pytest

from prefork.ipc import messages
from prefork.ipc.channel import Channel, make_pair
from prefork.ipc.commons import Commons
from prefork.ipc.scoreboard import Scoreboard
from prefork.master.sources import Sources
from prefork.master.stacks import PATIENCE, Stacks
from prefork.master.workers import Processes, WorkerProcess
from prefork.system.stacks import Words


class Told:
    """A worker whose process is the test itself, and what is heard of it."""

    def __init__(self) -> None:
        ours, theirs = make_pair()
        self.channel = Channel(theirs, messages.to_worker)
        self.words = Words()
        rows = Scoreboard(slots=1, threads=1, listeners=["tcp://:1"]).worker(0)
        channel = Channel(ours, messages.from_worker)
        self.commons = Commons(1)
        processes = Processes(Sources(), self.commons)
        self.worker = WorkerProcess(1, 0, 1, rows, channel, processes, self.words, [], ordered_at=0.0)
        self.texts: list[str] = []
        self.stacks = Stacks()

    def take(self, worker: WorkerProcess, text: str) -> None:
        self.texts.append(text)

    def write(self, text: bytes) -> None:
        with open(self.words.fileno(), "wb", buffering=0, closefd=False) as file:
            file.write(text)


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    yield told
    told.worker.close()
    told.channel.close()
    told.commons.close()


def test_a_worker_that_listens_is_asked_and_heard(told: Told) -> None:
    told.stacks.ask(told.worker, "somebody asked", told.take)
    told.stacks.ask(told.worker, "somebody else asked", told.take)
    asked = told.channel.receive()
    told.write(b"thread a")
    told.stacks.note_written(told.worker)

    assert asked == [messages.Dump()]
    assert told.texts == ["thread a", "thread a"]
    assert told.stacks.deadline() == math.inf


def test_a_worker_that_does_not_answer_is_read_after_its_time_twice(told: Told) -> None:
    told.stacks.ask(told.worker, "somebody asked", told.take)
    first = told.stacks.deadline()
    told.stacks.take_late(first)
    second = told.stacks.deadline()
    told.write(b"thread a")
    told.stacks.take_late(second)

    assert first < second < first + 2 * PATIENCE
    assert told.texts == ["thread a"]


def test_what_comes_too_late_is_no_part_of_what_comes_next(told: Told) -> None:
    told.write(b"thread a")
    told.stacks.note_written(told.worker)
    told.write(b"the last words")

    assert told.words.read() == "the last words"


def test_nobody_waits_for_a_worker_that_has_gone(told: Told) -> None:
    told.stacks.ask(told.worker, "somebody asked", told.take)
    told.stacks.note_gone(told.worker)

    assert told.texts == ["it died before it had written them"]
    assert told.stacks.deadline() == math.inf


def test_a_worker_that_writes_nothing_is_not_waited_for_for_ever(told: Told) -> None:
    told.stacks.force(told.worker, "no beat")
    told.stacks.take_late(told.stacks.deadline())

    assert told.stacks.deadline() == math.inf
