"""Parked connections that one pool hands over to another. Between them is a ferry that the test controls."""

import errno
import http.server
import os
import socket
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from prefork.serving import MessageRequestHandler, ThreadPoolTCPServer, moving
from prefork.serving.conversation import Conversation
from prefork.serving.pool import Pool
from tests.support.clients import eventually
from tests.unit.serving.conftest import LOOPBACK, PATIENCE, Bench, Changes

FULL = 2**64 - 2  # eventfd(2): nothing can be written then


class NamedServer(ThreadPoolTCPServer):
    name = b""
    finished: Changes


class Counting(MessageRequestHandler):
    """Answers with what it is and the number of messages; `hold` makes it wait for another line."""

    count = 0
    keeps = False

    def handle_message(self) -> None:
        line = self.rfile.readline()
        self.count += 1
        if line == b"hold\n":
            self.wfile.write(b"holding\n")
            line = self.rfile.readline()
        self.keeps = (self.keeps or line == b"keep\n") and line != b"go\n"
        self.wfile.write(b"%b %d\n" % (self.server.name, self.count))  # type: ignore[attr-defined]

    def hand_over(self) -> bytes | None:
        return None if self.keeps else b"%d" % self.count

    def take_over(self, state: bytes) -> None:
        self.count = int(state) + 100

    def on_drain(self) -> None:
        self.wfile.write(b"closing\n")

    def finish(self) -> None:
        super().finish()
        self.server.finished()  # type: ignore[attr-defined]


class Pages(http.server.BaseHTTPRequestHandler):
    """A handler of the standard library's, which knows nothing of parking, with the two methods."""

    protocol_version = "HTTP/1.1"
    count = 0

    def do_GET(self) -> None:
        self.count += 1
        self.send_response(200, f"{self.server.name.decode()} {self.count}")  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...

    def hand_over(self) -> bytes:
        return b"%d" % self.count

    def take_over(self, state: bytes) -> None:
        self.count = int(state) + 100


class Ferry:
    """In one process; whoever is taken over belongs to `server` then."""

    def __init__(self) -> None:
        self.server: Any = None
        self.full = False
        self.refuses = False
        self.failures: deque[OSError] = deque()
        self.others_fewest: list[int] = []
        self.shown: list[int | None] = []
        self.changes = Changes()
        self._waiting: deque[tuple[socket.socket, Any, bytes]] = deque()
        self._arrivals = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
        self._room = os.eventfd(0, os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._arrivals

    def sending_end(self) -> int:
        return self._room

    def fill(self) -> None:
        os.eventfd_write(self._room, FULL)

    def empty(self) -> None:
        os.eventfd_read(self._room)

    def show(self, parked: int | None) -> None:
        self.shown.append(parked)

    def fewest(self) -> int | None:
        if len(self.others_fewest) > 1:
            return self.others_fewest.pop(0)
        return self.others_fewest[0] if self.others_fewest else None

    def send(self, conversation: Conversation, state: bytes) -> bool:
        conversation.stays = self.refuses
        if not self.refuses:
            copy = socket.socket(fileno=os.dup(conversation.request.fileno()))
            self.put(copy, conversation.client_address, state)
        return not self.refuses

    def put(self, connection: socket.socket, client_address: Any, state: bytes) -> None:
        self._waiting.append((connection, client_address, state))
        os.eventfd_write(self._arrivals, 1)

    def receive(self) -> Conversation | None:
        if self.failures:
            raise self.failures.popleft()
        if not self._waiting:
            return None
        os.eventfd_read(self._arrivals)
        connection, client_address, state = self._waiting.popleft()
        conversation: Conversation = self.server.take_over(connection, client_address, 0)
        conversation.arriving, conversation.state = True, state
        return conversation

    def close(self) -> None:
        for connection, _, _ in self._waiting:
            connection.close()
        os.close(self._arrivals)
        os.close(self._room)


class Shore:
    """A server with a pool at either end of the ferry."""

    def __init__(self, bench: Bench, ferry: Ferry, name: bytes, **options: Any) -> None:
        self.server = NamedServer(LOOPBACK, options.pop("handler", Counting))
        self.server.socket.setblocking(False)
        self.server.name = name
        self.server.finished = Changes()
        self.bench = bench
        self.ferry = ferry
        self.pool = Pool(options.pop("threads", 4), bench.notes, ferry=ferry, **options)
        self.pool.on_change = bench.changes
        self.pool.add(self.server, 0)

    def begin(self) -> None:
        self.bench.stack.callback(self.server.server_close)
        self.pool.start()
        self.bench.stack.callback(self.bench._end, self.pool)

    def leave(self) -> None:
        self.pool.drain()
        assert self.pool.stopped.wait(PATIENCE)
        self.pool.hand_over()


@pytest.fixture
def ferry() -> Iterator[Ferry]:
    ferry = Ferry()
    yield ferry
    ferry.close()


@pytest.fixture
def old(bench: Bench, ferry: Ferry) -> Shore:
    shore = Shore(bench, ferry, b"old")
    shore.begin()
    return shore


@pytest.fixture
def new(bench: Bench, ferry: Ferry, old: Shore) -> Shore:
    """Not begun yet: only one of the two may take over."""
    shore = Shore(bench, ferry, b"new")
    ferry.server = shore.server
    return shore


def ask(client: socket.socket, line: bytes = b"x\n") -> bytes:
    client.sendall(line)
    return client.recv(1000)


def test_a_parked_connection_goes_on_elsewhere_where_it_was(bench: Bench, old: Shore, new: Shore) -> None:
    client = bench.connect(old.server)
    assert ask(client) == b"old 1\n"
    old.leave()
    assert old.pool.ended.wait(PATIENCE)
    new.begin()

    assert ask(client) == b"new 102\n"
    assert bench.notes.lines.count(("handed over", 0)) == 1
    assert old.server.finished.count == 0
    assert new.pool.open_connections == 1
    assert bench.notes.wait_for("handed over", 0)
    assert bench.notes.wait_for("taken over", 0, 0)


def test_a_connection_in_the_middle_of_a_message_goes_after_it(bench: Bench, old: Shore, new: Shore) -> None:
    client = bench.connect(old.server)
    assert ask(client, b"hold\n") == b"holding\n"
    old.leave()
    assert old.pool.open_connections == 1

    assert ask(client) == b"old 1\n"
    assert old.pool.ended.wait(PATIENCE)
    new.begin()
    assert ask(client) == b"new 102\n"


def test_without_room_it_is_served_on_until_there_is_some(bench: Bench, ferry: Ferry, old: Shore, new: Shore) -> None:
    client = bench.connect(old.server)
    assert ask(client) == b"old 1\n"
    ferry.fill()
    old.leave()
    assert ask(client) == b"old 2\n"
    assert not old.pool.ended.is_set()

    ferry.empty()
    assert old.pool.ended.wait(PATIENCE)
    new.begin()
    assert ask(client) == b"new 103\n"


def test_one_that_nobody_can_have_is_given_its_state_back_and_told(bench: Bench, ferry: Ferry, old: Shore) -> None:
    client = bench.connect(old.server)
    assert ask(client) == b"old 1\n"
    ferry.refuses = True
    old.leave()

    assert client.recv(100) == b"closing\n"
    assert ask(client) == b"old 102\n"
    old.pool.part()
    assert client.recv(100) == b""
    assert old.pool.ended.wait(PATIENCE)


def test_one_whose_handler_keeps_it_is_told_once_and_goes_when_it_may(bench: Bench, old: Shore, new: Shore) -> None:
    client = bench.connect(old.server)
    assert ask(client, b"keep\n") == b"old 1\n"
    old.leave()

    assert client.recv(100) == b"closing\n"
    assert ask(client) == b"old 2\n"
    assert ask(client, b"go\n") == b"old 3\n"
    assert old.pool.ended.wait(PATIENCE)
    new.begin()
    assert ask(client) == b"new 104\n"


def test_a_parting_ends_those_that_do_not_go(bench: Bench, ferry: Ferry, old: Shore, new: Shore) -> None:
    going, staying = bench.connect(old.server), bench.connect(old.server)
    assert ask(going) == b"old 1\n"
    assert ask(staying, b"keep\n") == b"old 1\n"
    ferry.fill()
    old.leave()
    old.pool.part()
    assert ask(going) == b"old 2\n"

    ferry.empty()
    assert staying.recv(100) == b"closing\n"
    assert staying.recv(100) == b""
    assert old.pool.ended.wait(PATIENCE)
    new.begin()
    assert ask(going) == b"new 103\n"


def test_those_of_a_listener_that_nobody_else_has_stay(bench: Bench, old: Shore) -> None:
    client = bench.connect(old.server)
    assert ask(client) == b"old 1\n"
    old.pool.drain()
    old.pool.hand_over(staying=[0])

    assert ask(client) == b"old 2\n"
    assert "handed over" not in {line[0] for line in bench.notes.lines}


def test_a_kept_connection_of_http_server_goes_on_elsewhere(bench: Bench, ferry: Ferry) -> None:
    old, new = (Shore(bench, ferry, name, handler=Pages) for name in (b"old", b"new"))
    ferry.server = new.server
    old.begin()
    client = bench.connect(old.server)
    assert b"old 1\r\n" in ask(client, b"GET / HTTP/1.1\r\n\r\n")
    old.leave()
    assert old.pool.ended.wait(PATIENCE)
    new.begin()

    assert b"new 102\r\n" in ask(client, b"GET / HTTP/1.1\r\n\r\n")


def test_who_leaves_takes_over_first_what_is_on_the_way(bench: Bench, ferry: Ferry, old: Shore) -> None:
    ferry.server = old.server
    ours, theirs = socket.socketpair()
    bench.stack.callback(theirs.close)
    ferry.failures.append(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))  # it rests, and the drain comes
    ferry.put(ours, "somebody", b"0")
    theirs.settimeout(PATIENCE)
    eventually(lambda: not ferry.failures)
    old.pool.drain()

    assert ask(theirs) == b"old 101\n"
    assert old.pool.stopped.wait(PATIENCE)


def test_a_busy_pool_stops_without_looking_for_arrivals(bench: Bench, ferry: Ferry) -> None:
    shore = Shore(bench, ferry, b"busy", threads=1)
    shore.begin()
    client = bench.connect(shore.server)
    assert ask(client, b"hold\n") == b"holding\n"

    shore.pool.drain()
    assert shore.pool.stopped.is_set()
    assert ferry.shown[-1] is None


def test_what_cannot_be_had_now_is_had_later(bench: Bench, ferry: Ferry, old: Shore) -> None:
    ferry.server = old.server
    ours, theirs = socket.socketpair()
    bench.stack.callback(theirs.close)
    theirs.settimeout(PATIENCE)
    ferry.failures.append(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    ferry.put(ours, "somebody", b"0")

    assert ask(theirs) == b"old 101\n"
    assert not ferry.failures


@pytest.mark.parametrize(("fewest", "looks"), [([0, 1, 2, 2, 2], 4), ([0, 0, 0], 2)])
def test_an_arrival_is_left_to_whoever_has_fewer_as_long_as_that_one_takes_some(
    bench: Bench, ferry: Ferry, old: Shore, monkeypatch: pytest.MonkeyPatch, fewest: list[int], looks: int
) -> None:
    monkeypatch.setattr(moving, "_SLACK", 16)
    ferry.server = old.server
    clients = [bench.connect(old.server) for _ in range(20)]
    assert {ask(client) for client in clients} == {b"old 1\n"}
    eventually(lambda: ferry.shown[-1] == 20)
    ferry.others_fewest = list(fewest)
    ours, theirs = socket.socketpair()
    bench.stack.callback(theirs.close)
    theirs.settimeout(PATIENCE)
    ferry.put(ours, "somebody", b"0")

    assert ask(theirs) == b"old 101\n"
    assert len(fewest) - len(ferry.others_fewest) == looks
