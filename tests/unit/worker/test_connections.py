"""Connections that tell of their end, whoever ends them and however."""

import os
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from prefork.worker.connections import Connections
from tests.unit.worker.conftest import Notes


class Bench:
    def __init__(self) -> None:
        self.notes = Notes()
        self.changes = 0
        self.connections = Connections(self.notes, 9, threading.RLock())
        self.connections.on_change = self._count_change
        self.ours, self.theirs = socket.socketpair()
        self.connections.follow(self.ours)
        self.connections.opened(self.ours, 1, "peer")

    def _count_change(self) -> None:
        self.changes += 1

    def close(self) -> None:
        self.theirs.close()
        self.ours.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_a_connection_ends_when_it_is_closed(bench: Bench) -> None:
    assert (len(bench.connections), bench.changes) == (1, 0)

    bench.ours.close()
    bench.ours.close()

    assert (len(bench.connections), bench.changes) == (0, 1)
    assert bench.notes.lines == [("opened", 9, 1), ("closed", 9, False)]


def test_a_connection_ends_when_its_last_file_is_closed(bench: Bench) -> None:
    file = bench.ours.makefile("rb")
    bench.ours.close()
    assert len(bench.connections) == 1

    file.close()
    assert len(bench.connections) == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_connection_ends_when_it_is_forgotten(bench: Bench) -> None:
    bench.ours = bench.theirs

    assert len(bench.connections) == 0


def test_a_connection_ends_when_its_descriptor_is_taken_away(bench: Bench) -> None:
    descriptor = bench.ours.detach()

    assert len(bench.connections) == 0
    os.close(descriptor)


def test_a_connection_goes_on_when_tls_takes_it_over(bench: Bench) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with context.wrap_socket(bench.ours, server_side=True, do_handshake_on_connect=False) as wrapped:
        assert len(bench.connections) == 1
        bench.connections.cut()
        assert bench.theirs.recv(1) == b""
        assert isinstance(wrapped, ssl.SSLSocket)

    assert len(bench.connections) == 0
    assert bench.notes.lines == [("opened", 9, 1), ("closed", 9, False)]


def test_a_handshake_that_fails_ends_the_connection(bench: Bench) -> None:
    bench.theirs.sendall(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_socket(bench.ours, server_side=True)

    assert len(bench.connections) == 0


def test_a_failure_is_remembered_until_the_end(bench: Bench) -> None:
    bench.connections.note_failure("somebody else")
    bench.connections.note_failure("peer")
    bench.ours.close()

    assert bench.notes.lines[-1] == ("closed", 9, True)


def test_what_a_forked_child_closes_is_still_open(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: -1)
    bench.connections.closed(id(bench.ours))

    assert len(bench.connections) == 1


def test_a_datagram_ends_when_it_is_said(bench: Bench) -> None:
    request = (b"data", bench.ours)
    bench.connections.opened(request, 2, "peer")
    assert len(bench.connections) == 2
    bench.connections.cut()

    bench.connections.closed(id(request))
    assert len(bench.connections) == 1


def test_a_followed_connection_is_what_it_was(bench: Bench) -> None:
    assert isinstance(bench.ours, socket.socket)
    assert type(bench.ours).__name__ == "socket"
    bench.ours.sendall(b"x")
    assert bench.theirs.recv(1) == b"x"
