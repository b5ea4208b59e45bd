"""When a leader leaves a connection in its queue because another thread of its worker computes, and for how long."""

import socketserver
from typing import Any

import pytest

from prefork.serving import interpreter
from prefork.serving.interpreter import LONGEST, MOST, Interpreter
from prefork.serving.threadpool import ThreadPoolTCPServer
from tests.unit.serving.conftest import LOOPBACK, PATIENCE, Bench, make_server
from tests.unit.serving.test_messages import Echoes, wait_until_one_is_parked
from tests.unit.serving.test_promotion import eventually

KEPT, FREE = 0.005, 0.0001  # how much longer than asked for the leader waits
BUSY = [None]


class Worker:
    """Threads that compute, or do not; what waits at the listener; and a time that passes only by waits."""

    def __init__(self, *late: float, takes_at: int = 0, tells_at: int = 0) -> None:
        self.now = 100.0
        self.used = 50.0  # seconds of a processor
        self.computes = True
        self.waits: list[float] = []
        self._late = list(late)
        self._takes_at = takes_at
        self._tells_at = tells_at
        self.interpreter = Interpreter(lambda: self.now, lambda: self.used)

    def has_other_work(self, seconds: float) -> bool:
        late = self._late.pop(0) if len(self._late) > 1 else self._late[0]
        self.waits.append(seconds)
        self.now += seconds + late
        self.used += self.computes * late
        return len(self.waits) == self._tells_at

    def is_waiting(self, intake: Any) -> bool:
        return len(self.waits) != self._takes_at

    def holds_back(self, busy: Any = BUSY, *, more: bool = False) -> bool:
        self.used += 0.002 * self.computes
        return self.interpreter.holds_back(None, self, busy, more)  # type: ignore[arg-type]  # it stands in for the wait


def test_it_is_held_back_until_the_interpreter_is_found_free() -> None:
    worker = Worker(KEPT, KEPT, FREE)

    assert not worker.holds_back()
    assert worker.waits == [0.0001, 0.001, 0.002]


def test_it_is_not_held_back_for_longer_than_that() -> None:
    worker = Worker(KEPT)
    began = worker.now

    assert not worker.holds_back()
    assert worker.now - began == pytest.approx(LONGEST, abs=0.02)


def test_what_was_interrupted_goes_on_being_held_back_for_the_rest_of_the_time() -> None:
    worker = Worker(0.02, tells_at=1)
    assert worker.holds_back()  # there is other work
    worker.now += LONGEST

    assert not worker.holds_back()
    assert len(worker.waits) == 1


def test_nobody_looks_while_nobody_is_busy() -> None:
    worker = Worker(KEPT)

    assert not worker.holds_back(busy=[])
    assert worker.waits == []


def test_nobody_looks_while_many_are_busy() -> None:
    worker = Worker(KEPT)

    assert not worker.holds_back(busy=[None] * (MOST + 1))
    assert worker.waits == []


def test_nobody_looks_while_those_that_are_busy_only_wait() -> None:
    worker = Worker(KEPT)
    worker.computes = False
    worker.used = 0.0

    assert not worker.holds_back()
    assert worker.waits == []


def test_who_has_seen_it_kept_looks_before_the_next_connections_too() -> None:
    worker = Worker(KEPT, FREE)
    assert not worker.holds_back()
    worker.computes = False

    assert not worker.holds_back()
    assert len(worker.waits) == 3


def test_a_late_wake_up_while_nobody_computes_shows_nothing() -> None:
    worker = Worker(KEPT)
    worker.computes = False  # but did before

    assert not worker.holds_back()
    assert len(worker.waits) == 1


def test_what_somebody_else_took_is_held_back_no_more() -> None:
    worker = Worker(KEPT, takes_at=1)

    assert worker.holds_back()
    assert worker.interpreter._until == 0


def test_what_is_ready_is_not_waited_beside() -> None:
    worker = Worker(KEPT)

    assert worker.holds_back(more=True)
    assert worker.waits == []


class Computes(socketserver.BaseRequestHandler):
    """Keeps the interpreter until the test has seen enough, and answers."""

    enough = False

    def handle(self) -> None:
        while not type(self).enough:  # bounded by the time limit of the test
            pass
        self.request.sendall(b"done")


@pytest.fixture
def held_back_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the second connection of `Computes` held back until something happens."""
    monkeypatch.setattr(interpreter, "LONGEST", 2 * PATIENCE)
    monkeypatch.setattr(interpreter, "_LATE", 0.0)  # whoever is busy computes
    monkeypatch.setattr(interpreter, "_MOMENTS", (0.0001, 2 * PATIENCE))  # nobody looks again in time
    monkeypatch.setattr(Computes, "enough", False)


@pytest.mark.usefixtures("held_back_for_ever")
def test_the_end_of_a_thread_that_computes_lets_the_next_connection_in(bench: Bench) -> None:
    pool = bench.pool(make_server(Computes))
    clients = [bench.connect() for _ in range(2)]
    eventually(lambda: pool._interpreter.awaited)
    Computes.enough = True

    assert [client.recv(4) for client in clients] == [b"done"] * 2


@pytest.mark.usefixtures("held_back_for_ever")
def test_a_parked_connection_is_heard_while_another_is_held_back(bench: Bench) -> None:
    talks, computes = ThreadPoolTCPServer(LOOPBACK, Echoes), make_server(Computes)
    talks.socket.setblocking(False)
    pool = bench.pool(talks, computes)
    parked = bench.connect(talks)
    assert bench.talk(parked, b"a\n") == b"a\n"
    wait_until_one_is_parked(pool)
    clients = [bench.connect(computes) for _ in range(2)]
    eventually(lambda: pool._interpreter.awaited)

    assert bench.talk(parked, b"b\n") == b"b\n"
    Computes.enough = True
    assert [client.recv(4) for client in clients] == [b"done"] * 2


@pytest.mark.usefixtures("held_back_for_ever")
def test_a_drain_is_heard_while_a_connection_is_held_back(bench: Bench) -> None:
    pool = bench.pool(make_server(Computes))
    first, _ = (bench.connect() for _ in range(2))
    eventually(lambda: pool._interpreter.awaited)
    pool.drain()

    assert pool.stopped.wait(PATIENCE)
    Computes.enough = True
    assert first.recv(4) == b"done"
