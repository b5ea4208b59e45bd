"""Servers and clients on loopback. Handlers wait for their client, so a test decides when one ends."""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from prefork.serving.pool import Pool

PATIENCE = 30.0
LOOPBACK = ("127.0.0.1", 0)


class Echo(socketserver.BaseRequestHandler):
    """Answers every byte until its client closes."""

    def handle(self) -> None:
        while data := self.request.recv(100):
            self.request.sendall(data)


class Notes:
    """An Activity that remembers, and lets a test wait for what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[object, ...]] = []
        self._condition = threading.Condition()
        self.advice = 0.0  # what somebody shows who is less busy
        self.asked = threading.Event()

    def opened(self, row: int, listener: int, client_address: object) -> None:
        self._note("opened", row, listener)

    def closed(self, row: int, failed: bool, listener: int | None = None, since: float | None = None) -> None:
        self._note("closed", row, failed)

    def identified(self, row: int, client_address: object) -> None:
        self._note("identified", row, client_address)

    def refused(self, row: int, listener: int | None = None) -> None:
        self._note("refused", row)

    def parked(self, row: int) -> None:
        self.lines.append(("parked", row))

    def resumed(self, row: int, listener: int, client_address: object, kept: object) -> None:
        self.lines.append(("resumed", row, listener))

    def handed_over(self, row: int) -> None:
        self._note("handed over", row)

    def taken_over(self, row: int, listener: int, client_address: object, opened_at: float) -> None:
        self._note("taken over", row, listener)

    def message_began(self, row: int) -> None:
        self.lines.append(("message", row))

    def message_ended(self, row: int, served: bool = True) -> None:
        self.lines.append(("message ended", row, served))

    def load_changed(self, busy: int | None) -> None:
        pass

    def less_busy(self) -> float:
        self.asked.set()
        return self.advice

    def tagged(self, row: int, text: str) -> None:
        self._note("tagged", row, text)

    def _note(self, *line: object) -> None:
        with self._condition:
            self.lines.append(line)
            self._condition.notify_all()

    def wait_for(self, *line: object) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: line in self.lines, PATIENCE)

    def extended(self, row: int, seconds: float) -> None:
        self.lines.append(("extended", row, seconds))


class Changes:
    """Remembers each call, and lets a test wait until something is so."""

    def __init__(self) -> None:
        self.count = 0
        self._condition = threading.Condition()

    def __call__(self) -> None:
        with self._condition:
            self.count += 1
            self._condition.notify_all()

    def wait_until(self, so: Callable[[], bool]) -> bool:
        with self._condition:
            return self._condition.wait_for(so, PATIENCE)


def make_server(handler: Any = Echo, server_class: Any = socketserver.TCPServer, address: Any = LOOPBACK) -> Any:
    """A bound server of the standard library whose listener does not block, as the pool wants it."""
    server = server_class(address, handler)
    server.socket.setblocking(False)
    return server


class Bench:
    """A pool that is drained, aborted and closed at the end of the test, with its servers and clients."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.notes = Notes()
        self.changes = Changes()
        self.servers: list[Any] = []

    def pool(self, *servers: Any, threads: int = 4, **options: Any) -> Pool:
        pool = Pool(threads, self.notes, **options)
        pool.on_change = self.changes
        for index, server in enumerate(servers):
            self.stack.callback(server.server_close)
            self.servers.append(server)
            pool.add(server, index)
        pool.start()
        self.stack.callback(self._end, pool)
        return pool

    def _end(self, pool: Pool) -> None:
        pool.abort()
        assert pool.stopped.wait(PATIENCE)
        assert pool.ended.wait(PATIENCE)

    def connect(self, server: Any = None) -> socket.socket:
        server = server or self.servers[0]
        client = socket.socket(server.socket.family)
        self.stack.callback(client.close)
        client.settimeout(PATIENCE)
        client.connect(server.server_address)
        return client

    def talk(self, client: socket.socket, text: bytes = b"x") -> bytes:
        client.sendall(text)
        return client.recv(100)

    def hold(self, server: Any = None) -> socket.socket:
        """Return a client whose handler is at work."""
        client = self.connect(server)
        assert self.talk(client) == b"x"
        return client


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    with bench.stack:
        yield bench
