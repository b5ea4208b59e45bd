"""The control server: what a client that reads slowly, or not at all, gets."""

import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator

import pytest

from prefork.master.control import Client, ControlServer, Request
from prefork.master.sources import Sources
from prefork.policy.events import Event

LONG = 3 << 20  # bytes, more than the kernel keeps for a socket


class Desk:
    """Does with each client what the test says."""

    def __init__(self) -> None:
        self.then: Callable[[Client], None] = lambda client: None

    def take_request(self, client: Client, request: Request) -> Iterable[Event]:
        self.then(client)
        return ()


class Office:
    """A control server, turned by hand, with one client."""

    def __init__(self) -> None:
        self.sources = Sources()
        self.desk = Desk()
        self.server = ControlServer("auto", self.sources, self.desk)
        self.client = socket.socket(socket.AF_UNIX)
        self.client.connect(f"\0prefork/{os.getuid()}/{os.getpid()}")
        self.turn()
        self.client.sendall(b'{"command": "status"}\n')

    def turn(self) -> None:
        while (source := self.sources.next_ready()) is not None:
            list(source.events())

    def read(self) -> bytes:
        """Read to the end, while the server writes what there is room for."""
        received = []
        while some := self.client.recv(1 << 16):
            received.append(some)
            self.turn()
        return b"".join(received)


@pytest.fixture
def office() -> Iterator[Office]:
    made = Office()
    made.client.settimeout(30)
    yield made
    made.client.close()
    made.server.close()
    made.sources.close()


def test_an_answer_may_be_longer_than_what_a_follower_may_leave_unread(office: Office) -> None:
    office.desk.then = lambda client: client.answer("x" * LONG)
    office.turn()

    assert json.loads(office.read()) == {"ok": True, "result": "x" * LONG}


def test_a_follower_that_does_not_read_is_hung_up_on(office: Office) -> None:
    def follow(client: Client) -> None:
        client.following = "reload"
        client.tell("x" * LONG, 0.0, {})

    office.desk.then = follow
    office.turn()

    assert office.server.followers() == []
    assert len(office.read()) < LONG
