"""Connections with a message handler: parked between messages, and what becomes of them."""

import os
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from prefork.serving import MessageRequestHandler, ThreadPoolMixIn, ThreadPoolTCPServer, ThreadPoolUnixStreamServer
from prefork.serving.pool import Pool
from prefork.serving.poolthread import PoolThread
from prefork.socketserver import ThreadingTCPServer
from tests.unit.serving.conftest import LOOPBACK, PATIENCE, Bench, Changes, Echo, make_server


class Lines(MessageRequestHandler):
    """Greets, answers each line with its number, and says what it is told; `bye` ends it."""

    def setup(self) -> None:
        super().setup()
        self.count = 0
        self.wfile.write(b"hello\n")

    def handle_message(self) -> None:
        line = self.rfile.readline()
        self.count += 1
        if line == b"fail\n":
            raise ValueError("told to")
        self.wfile.write(b"%d %b" % (self.count, line))
        self.close_connection = line == b"bye\n"

    def finish(self) -> None:
        super().finish()
        self.server.told("finish")  # type: ignore[attr-defined]


class StandardPoolServer(ThreadPoolMixIn, socketserver.TCPServer):
    pass


class Told:
    """What handlers say of themselves, and what a test waits for."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.changes = Changes()

    def __call__(self, word: str) -> None:
        self.words.append(word)
        self.changes()

    def wait_for(self, *words: str) -> bool:
        return self.changes.wait_until(lambda: self.words == list(words))


@contextmanager
def serving(server: Any) -> Iterator[Any]:
    server.told = Told()
    thread = threading.Thread(target=server.serve_forever, args=(3600.0,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        server.server_close()


class Client:
    """A connection as lines."""

    def __init__(self, server: Any) -> None:
        self.socket = socket.socket(server.address_family)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(server.server_address)
        self.lines = self.socket.makefile("rb")

    def say(self, line: bytes) -> bytes:
        self.socket.sendall(line)
        return self.lines.readline()

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connect(stack: ExitStack, server: Any) -> Client:
    client = Client(server)
    stack.callback(client.close)
    return client


def wait_until_parked(server: Any, count: int) -> None:
    """Wait for the threads to leave their connections, which they do by themselves within moments."""
    while server._pool is None or len(server._pool._parking) != count:
        os.sched_yield()


def wait_until_one_is_parked(pool: Pool) -> None:
    while not len(pool._parking):
        os.sched_yield()


LINEAGES = pytest.mark.parametrize(
    "server_class", [ThreadPoolTCPServer, StandardPoolServer, ThreadingTCPServer], ids=["ours", "standard", "threading"]
)


@LINEAGES
def test_one_handler_carries_a_connection_through_its_messages(server_class: Any, stack: ExitStack) -> None:
    server = stack.enter_context(serving(server_class(LOOPBACK, Lines)))
    client = connect(stack, server)

    assert client.lines.readline() == b"hello\n"
    assert [client.say(b"a\n"), client.say(b"b\n")] == [b"1 a\n", b"2 b\n"]
    assert client.say(b"bye\n") == b"3 bye\n"
    assert client.lines.read() == b""
    assert server.told.wait_for("finish")


@LINEAGES
def test_messages_that_came_together_are_all_served(server_class: Any, stack: ExitStack) -> None:
    server = stack.enter_context(serving(server_class(LOOPBACK, Lines)))
    client = connect(stack, server)
    client.socket.sendall(b"x\n" * 1000)
    client.socket.shutdown(socket.SHUT_WR)

    assert client.lines.read() == b"hello\n" + b"".join(b"%d x\n" % n for n in range(1, 1001))


@LINEAGES
def test_the_end_of_the_file_ends_the_connection(server_class: Any, stack: ExitStack) -> None:
    server = stack.enter_context(serving(server_class(LOOPBACK, Lines)))
    client = connect(stack, server)
    client.socket.shutdown(socket.SHUT_WR)

    assert client.lines.read() == b"hello\n"
    assert server.told.wait_for("finish")


@LINEAGES
def test_an_exception_is_handled_as_of_any_handler(
    server_class: Any, stack: ExitStack, capsys: pytest.CaptureFixture[str]
) -> None:
    server = stack.enter_context(serving(server_class(LOOPBACK, Lines)))
    client = connect(stack, server)
    client.say(b"a\n")

    client.socket.sendall(b"fail\n")
    assert client.lines.read() == b"1 a\n"
    assert server.told.wait_for("finish")
    assert "ValueError: told to" in capsys.readouterr().err


def test_parked_connections_hold_no_thread(stack: ExitStack) -> None:
    server = ThreadPoolTCPServer(LOOPBACK, Lines, bind_and_activate=False)
    server.request_queue_size = 100
    server.server_bind()
    server.server_activate()
    server.threads = 2
    stack.enter_context(serving(server))
    clients = [connect(stack, server) for _ in range(50)]
    assert {client.lines.readline() for client in clients} == {b"hello\n"}

    wait_until_parked(server, 50)
    assert server._pool is not None
    assert server._pool.open_connections == 50
    for number in range(1, 4):
        assert {client.say(b"x\n") for client in clients} == {b"%d x\n" % number}
    threads = [thread for thread in threading.enumerate() if isinstance(thread, PoolThread)]
    assert len([thread for thread in threads if thread.pool is server._pool]) <= 2


def test_a_parked_connection_has_no_buffer_and_gets_it_back(stack: ExitStack) -> None:
    handlers: list[Lines] = []

    class Known(Lines):
        def setup(self) -> None:
            super().setup()
            handlers.append(self)

    server = stack.enter_context(serving(ThreadPoolTCPServer(LOOPBACK, Known)))
    client = connect(stack, server)
    assert [client.say(b"x\n"), client.lines.readline()] == [b"hello\n", b"1 x\n"]
    wait_until_parked(server, 1)
    size = handlers[0].rfile.__sizeof__()

    assert size < 1024
    client.socket.sendall(b"y" * 5000 + b"\n")
    assert len(client.lines.readline()) == 5003


def test_a_client_that_always_has_more_lets_others_have_their_turn(stack: ExitStack) -> None:
    server = ThreadPoolTCPServer(LOOPBACK, Lines)
    server.threads = 1
    stack.enter_context(serving(server))
    chatty, quiet = connect(stack, server), connect(stack, server)
    stop = threading.Event()

    def chat() -> None:
        while not stop.is_set():
            chatty.socket.sendall(b"x\n" * 500)
            for _ in range(500):
                chatty.lines.readline()

    chatting = threading.Thread(target=chat)
    chatting.start()
    try:
        assert quiet.lines.readline() == b"hello\n"
        assert [quiet.say(b"q\n") for _ in range(5)] == [b"%d q\n" % n for n in range(1, 6)]
    finally:
        stop.set()
        chatting.join(PATIENCE)


def test_unread_bytes_wait_for_a_thread_not_for_the_client(bench: Bench) -> None:
    class Gated(MessageRequestHandler):
        def handle_message(self) -> None:
            self.wfile.write(self.rfile.read(1))

    server = make_server(Gated, ThreadPoolTCPServer)
    pool = bench.pool(server, threads=1)
    clients = [bench.connect() for _ in range(2)]
    for client in clients:
        client.sendall(b"0123456789" * 10)

    for client in clients:
        answer = b""
        while len(answer) < 100:
            answer += client.recv(100)
        assert answer == b"0123456789" * 10
    assert pool.open_connections == 2


def test_a_client_that_is_idle_for_too_long_is_left(stack: ExitStack) -> None:
    server = ThreadPoolTCPServer(LOOPBACK, Lines)
    server.idle_timeout = 0.05
    stack.enter_context(serving(server))
    clients = [connect(stack, server) for _ in range(3)]

    for client in clients:
        assert client.lines.read() == b"hello\n"
    assert server.told.wait_for("finish", "finish", "finish")  # type: ignore[attr-defined]


def test_shutdown_ends_parked_connections(stack: ExitStack) -> None:
    server: Any = ThreadPoolTCPServer(LOOPBACK, Lines)
    with serving(server):
        clients = [connect(stack, server) for _ in range(3)]
        for client in clients:
            client.lines.readline()
        wait_until_parked(server, 3)

    assert [client.lines.read() for client in clients] == [b"", b"", b""]
    assert server.told.words == ["finish"] * 3


def test_a_drain_leaves_parked_connections_alone(bench: Bench) -> None:
    server = make_server(Echoes, ThreadPoolTCPServer)
    pool = bench.pool(server)
    held = bench.hold()
    wait_until_one_is_parked(pool)

    pool.drain()
    assert bench.changes.wait_until(lambda: not pool.accepting)
    for _ in range(3):
        assert bench.talk(held, b"still") == b"still"
    assert pool.open_connections == 1
    held.close()
    assert bench.changes.wait_until(lambda: pool.open_connections == 0)
    assert pool.ended.wait(PATIENCE)


def test_a_drain_while_a_message_is_served_leaves_its_connection_alone(bench: Bench) -> None:
    server = make_server(Echoes, ThreadPoolTCPServer)
    pool = bench.pool(server, threads=1)
    held = bench.hold()
    pool.drain()
    assert bench.changes.wait_until(lambda: not pool.accepting)
    wait_until_one_is_parked(pool)

    assert bench.talk(held, b"still") == b"still"


def test_a_message_that_came_before_the_parting_is_served(bench: Bench) -> None:
    class Gated(Echoes):
        def handle_message(self) -> None:
            begun.set()
            go_on.wait(PATIENCE)
            super().handle_message()

    begun, go_on = threading.Event(), threading.Event()
    server = make_server(Gated, ThreadPoolTCPServer)
    pool = bench.pool(server, threads=1)
    blocking, other = bench.connect(), bench.connect()
    blocking.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)  # or the second waits for the first's ACK
    blocking.sendall(b"1")
    assert begun.wait(PATIENCE)
    blocking.sendall(b"2")

    pool.drain({0})
    pool.part()
    go_on.set()

    with blocking.makefile("rb") as answers:
        assert answers.read() == b"12"
    assert other.recv(1) == b""
    assert pool.ended.wait(PATIENCE)


def test_abort_ends_parked_connections(bench: Bench) -> None:
    pool = bench.pool(make_server(Echoes, ThreadPoolTCPServer))
    clients = [bench.hold() for _ in range(3)]

    pool.abort()

    assert [client.recv(1) for client in clients] == [b"", b"", b""]
    assert pool.ended.wait(PATIENCE)


def test_parked_handlers_are_told_of_a_drain(stack: ExitStack) -> None:
    class Polite(Lines):
        def on_drain(self) -> None:
            self.wfile.write(b"closing\n")

    server: Any = ThreadPoolTCPServer(LOOPBACK, Polite)
    with serving(server):
        client = connect(stack, server)
        assert [client.say(b"x\n"), client.lines.readline()] == [b"hello\n", b"1 x\n"]
        wait_until_parked(server, 1)

    assert client.lines.read() == b"closing\n"
    assert server._handlers_at_work == {}


def test_a_client_that_resets_its_parked_connection_is_forgotten(bench: Bench) -> None:
    pool = bench.pool(make_server(Echoes, ThreadPoolTCPServer))
    client = bench.hold()
    wait_until_one_is_parked(pool)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()

    pool.drain()
    assert pool.ended.wait(PATIENCE)


def test_the_activity_is_told(bench: Bench) -> None:
    pool = bench.pool(make_server(Echoes, ThreadPoolTCPServer), threads=1)
    client = bench.hold()
    wait_until_one_is_parked(pool)
    bench.talk(client)
    client.close()
    pool.drain()
    assert pool.ended.wait(PATIENCE)

    names = [line[0] for line in bench.notes.lines]
    assert names[0] == "opened"
    assert names[-1] == "closed"
    assert names.count("message") >= 2
    assert names.count("parked") == names.count("resumed") > 0


def test_a_server_with_a_process_request_of_its_own_keeps_its_thread(bench: Bench) -> None:
    class Own(ThreadPoolTCPServer):
        def process_request(self, request: Any, client_address: Any) -> None:
            self.finish_request(request, client_address)
            self.shutdown_request(request)

    class Later(Own, ThreadPoolTCPServer):
        pass

    pool = bench.pool(make_server(Echoes, Later), threads=1)
    held = bench.hold()

    assert bench.talk(held, b"y") == b"y"
    assert not len(pool._parking)


def test_over_unix_sockets(stack: ExitStack, tmp_path: Path) -> None:
    server = stack.enter_context(serving(ThreadPoolUnixStreamServer(str(tmp_path / "s"), Lines)))
    client = connect(stack, server)

    assert client.lines.readline() == b"hello\n"
    wait_until_parked(server, 1)
    assert client.say(b"a\n") == b"1 a\n"


def test_what_tls_has_decrypted_already_is_served(stack: ExitStack) -> None:
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(ours)
    authority.configure_trust(theirs)

    class Small(Lines):
        rbufsize = 16  # so that most of a record stays in the layer below

    class TlsServer(ThreadPoolTCPServer):
        def get_request(self) -> Any:
            request, client_address = super().get_request()
            return ours.wrap_socket(request, server_side=True), client_address

    server = stack.enter_context(serving(TlsServer(LOOPBACK, Small)))
    with (
        socket.create_connection(server.server_address, PATIENCE) as plain,
        theirs.wrap_socket(plain, server_hostname="localhost") as client,
        client.makefile("rb") as lines,
    ):
        assert lines.readline() == b"hello\n"
        for start in (1, 201):
            client.sendall(b"x\n" * 200)
            assert [lines.readline() for _ in range(200)] == [b"%d x\n" % n for n in range(start, start + 200)]
            wait_until_parked(server, 1)


def test_a_handler_may_read_its_connection_itself(bench: Bench) -> None:
    bench.pool(make_server(Direct, ThreadPoolTCPServer), threads=1)
    client = bench.hold()

    assert bench.talk(client, b"y") == b"y"
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""


def test_a_handler_may_close_its_connection_itself(bench: Bench) -> None:
    class Closes(Echoes):
        def handle_message(self) -> None:
            super().handle_message()
            self.connection.close()

    pool = bench.pool(make_server(Closes, ThreadPoolTCPServer))
    with bench.hold():
        pool.drain()
        assert pool.ended.wait(PATIENCE)


def test_other_handlers_are_served_beside(bench: Bench) -> None:
    messages, plain = make_server(Echoes, ThreadPoolTCPServer), make_server(Echo)
    bench.pool(messages, plain, threads=2)
    held = [bench.hold(messages) for _ in range(3)]
    busy = bench.hold(plain)

    assert [bench.talk(client, b"z") for client in [*held, busy]] == [b"z"] * 4


class Echoes(MessageRequestHandler):
    def handle_message(self) -> None:
        self.wfile.write(self.rfile.read1(100))


class Direct(MessageRequestHandler):
    rbufsize = 0

    def handle_message(self) -> None:
        data = self.connection.recv(100)
        self.connection.sendall(data)
        self.close_connection = not data


def test_nothing_is_lost_whatever_the_threads_do(bench: Bench) -> None:
    server = make_server(Echoes, ThreadPoolTCPServer)
    pool: Pool = bench.pool(server, threads=3)
    clients = [bench.connect() for _ in range(20)]

    def talk(some: list[socket.socket]) -> None:
        for number in range(100):
            for client in some:
                client.sendall(b"%03d" % number)
            for client in some:
                answers.append(client.recv(3) == b"%03d" % number)

    answers: list[bool] = []
    talkers = [threading.Thread(target=talk, args=(clients[start::4],)) for start in range(4)]
    for talker in talkers:
        talker.start()
    for talker in talkers:
        talker.join(PATIENCE)

    assert answers == [True] * 2000
    assert pool.open_connections == 20
