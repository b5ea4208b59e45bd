"""For how long the master's loop hears nobody."""

import os

import pytest

from prefork.master.turns import Turns


class Clock:
    """The time, and how much of it the thread has waited for a processor."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.delayed = 7.0
        monkeypatch.setattr("prefork.master.turns.time.monotonic", lambda: self.now)
        monkeypatch.setattr("prefork.master.turns.os.pread", lambda *_: b"5 %d 3\n" % (1e9 * self.delayed))

    def turn(self, told: Turns, seconds: float, delayed: float = 0.0) -> None:
        told.begin()
        self.now += seconds / 2
        told.begin()  # for another of those that had something to say
        self.now += seconds / 2
        self.delayed += delayed
        told.end()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_the_longest_turn_is_remembered(clock: Clock) -> None:
    told = Turns()
    for seconds in (0.01, 0.04, 0.02):
        clock.turn(told, seconds)
        clock.now += 60  # of waiting

    assert told.longest == pytest.approx(0.04)
    told.close()


def test_the_wait_for_a_processor_is_not_counted(clock: Clock) -> None:
    told = Turns()
    clock.turn(told, 2.0, delayed=1.97)

    assert told.longest == pytest.approx(0.03)
    told.close()


def test_where_the_kernel_does_not_tell_all_of_it_counts(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Turns()
    told.begin()

    def gone(*_: object) -> bytes:
        raise OSError

    monkeypatch.setattr("prefork.master.turns.os.pread", gone)
    told.end()
    assert told.longest == 0.0
    clock.turn(told, 0.5)
    assert told.longest == 0.5


def test_it_owns_one_descriptor() -> None:
    before = set(os.listdir("/proc/self/fd"))
    told = Turns()
    told.begin()
    told.end()
    told.close()

    assert told.longest < 1
    assert set(os.listdir("/proc/self/fd")) <= before
