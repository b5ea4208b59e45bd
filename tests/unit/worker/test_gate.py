"""The gate: who may take from a listener, and when the last one has."""

import errno
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from prefork.worker.gate import Gate, State, gates
from tests.unit.worker.conftest import PATIENCE


class Bench:
    """A gate before a listener, and a client."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.gate = Gate(0, self.listener.fileno(), datagrams=False)
        gates[self.listener.fileno()] = self.gate
        self.gate.prepare()
        self.clients: list[socket.socket] = []
        self.taken: list[Any] = []

    def connect(self) -> None:
        self.clients.append(socket.create_connection(self.listener.getsockname(), PATIENCE))

    def take(self) -> None:
        self.taken.append(self.gate.take(lambda: self.listener.accept()[0]))

    def close(self) -> None:
        for one in (*self.clients, *self.taken, self.listener):
            one.close()
        self.gate.release()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_taking_waits_as_a_blocking_socket_does(bench: Bench) -> None:
    thread = threading.Thread(target=bench.take)
    thread.start()
    bench.connect()
    thread.join(PATIENCE)

    assert len(bench.taken) == 1


def test_taking_waits_no_longer_than_the_time_out_of_the_socket(bench: Bench) -> None:
    bench.gate.timeout = 0.01
    with pytest.raises(TimeoutError):
        bench.take()

    bench.gate.timeout = 0.0
    with pytest.raises(BlockingIOError):
        bench.take()


def test_taking_does_not_wait_in_a_loop_that_waits_itself(bench: Bench) -> None:
    bench.gate.waiting_threads.add(threading.get_ident())

    with pytest.raises(BlockingIOError):
        bench.take()


def test_who_waits_is_sent_away_when_the_gate_closes(bench: Bench) -> None:
    failures = []

    def take() -> None:
        try:
            bench.take()
        except OSError as error:
            failures.append(error.errno)

    thread = threading.Thread(target=take)
    thread.start()
    bench.gate.leave()
    thread.join(PATIENCE)

    assert failures == [errno.EINVAL]


def test_nothing_is_taken_once_it_has_closed(bench: Bench) -> None:
    bench.connect()
    bench.gate.leave()

    with pytest.raises(OSError, match="Invalid argument"):
        bench.take()
    # Nor by whoever does not ask: the descriptor is no listener any more.
    with pytest.raises(OSError, match="Operation not supported"):
        bench.listener.accept()


def test_it_closes_when_the_queue_has_been_taken(bench: Bench) -> None:
    left = []
    bench.gate.on_left = lambda: left.append(bench.gate.state)
    bench.connect()
    bench.connect()
    bench.gate.finish()
    assert bench.gate.state is State.FINISHING

    bench.take()
    assert bench.gate.accepting
    bench.take()

    assert left == [State.LEFT]
    assert not bench.gate.accepting


def test_it_closes_when_others_have_taken_the_queue(bench: Bench) -> None:
    bench.connect()
    bench.gate.finish()
    bench.taken.append(bench.listener.accept()[0])  # by another worker
    bench.gate.timeout = 0.0

    with pytest.raises(BlockingIOError):
        bench.take()
    assert bench.gate.state is State.LEFT


def test_it_counts_as_used_until_the_last_attempt_is_over(bench: Bench) -> None:
    changes = []
    bench.gate.on_change = lambda: changes.append(bench.gate.accepting)
    with bench.gate.attempt():
        bench.gate.leave()
        assert bench.gate.accepting

    assert changes == [False]


def test_a_closed_socket_is_not_silenced(bench: Bench) -> None:
    descriptor = bench.listener.fileno()
    bench.gate.close(descriptor, bench.listener.close)
    with socket.socket() as stranger:
        if stranger.fileno() != descriptor:
            os.dup2(stranger.fileno(), descriptor)
        inode = os.fstat(descriptor).st_ino

        bench.gate.leave()
        assert os.fstat(descriptor).st_ino == inode
        if stranger.fileno() != descriptor:
            os.close(descriptor)
