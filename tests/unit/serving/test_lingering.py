"""What becomes of a reply when its reader had sent more than was read."""

import os
import socket
import socketserver
from typing import Any

import pytest

from prefork.serving import lingering
from prefork.serving.threadpool import ThreadPoolTCPServer, ThreadPoolUnixStreamServer
from tests.unit.serving.conftest import LOOPBACK, PATIENCE, Bench


class Hasty(socketserver.BaseRequestHandler):
    """Answers at length as soon as it has read a byte."""

    def handle(self) -> None:
        self.request.recv(1)
        self.request.sendall(b"reply" * 10_000)


@pytest.mark.parametrize("kind", [ThreadPoolTCPServer, ThreadPoolUnixStreamServer])
def test_unread_input_does_not_destroy_the_reply(bench: Bench, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "_LONGEST", PATIENCE)
    server = kind(LOOPBACK if kind is ThreadPoolTCPServer else f"\0prefork-test-lingering-{os.getpid()}", Hasty)
    server.socket.setblocking(False)
    bench.pool(server)
    client = bench.connect()
    client.sendall(b"x" * 100_000)

    with client.makefile("rb") as answer:
        assert answer.read() == b"reply" * 10_000


def test_a_peer_that_talks_on_is_not_listened_to_for_long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "_LONGEST", 0.05)
    server = ThreadPoolTCPServer(LOOPBACK, Hasty)
    server.socket.setblocking(False)
    bench.pool(server)
    client = bench.connect()
    client.sendall(b"x" * 10)

    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            client.sendall(b"x" * 1000)


def test_with_nothing_unread_nothing_is_waited_for() -> None:
    here, there = socket.socketpair()
    with here, there:
        lingering.linger_if_unread(here)

        here.sendall(b"x")  # it would be an error after a shutdown
        assert there.recv(1) == b"x"


def test_what_is_closed_already_does_no_harm() -> None:
    here, there = socket.socketpair()
    here.close()
    there.close()

    lingering.linger_if_unread(here)
