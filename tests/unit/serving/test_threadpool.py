"""Servers with a pool, run alone."""

import functools
import http.server
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import prefork.serving
from prefork.serving import (
    ThreadPoolMixIn,
    ThreadPoolTCPServer,
    ThreadPoolUDPServer,
    ThreadPoolUnixDatagramServer,
    ThreadPoolUnixStreamServer,
)
from prefork.serving.pool import Pool
from prefork.serving.poolthread import PoolThread
from prefork.serving.threadpool import call_on_drain
from tests.unit.serving.conftest import LOOPBACK, PATIENCE, Echo, Notes

FOR_EVER = 3600.0


class StandardPoolServer(ThreadPoolMixIn, socketserver.TCPServer):
    """The mix-in in front of the standard library's class."""


LINEAGES = pytest.mark.parametrize("server_class", [ThreadPoolTCPServer, StandardPoolServer], ids=["ours", "standard"])


@contextmanager
def serving(server: Any, poll_interval: float = FOR_EVER) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=server.serve_forever, args=(poll_interval,))
    thread.start()
    try:
        yield thread
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def connect(server: Any) -> socket.socket:
    client = socket.socket(server.address_family, server.socket_type)
    client.settimeout(PATIENCE)
    client.connect(server.server_address)
    return client


def ask(client: socket.socket, text: bytes = b"x") -> bytes:
    client.sendall(text)
    return client.recv(100)


@LINEAGES
def test_it_serves_until_shutdown_and_again(server_class: Any) -> None:
    with server_class(LOOPBACK, Echo) as server:
        for _ in range(2):
            with serving(server), connect(server) as client:
                assert ask(client) == b"x"


@LINEAGES
def test_connections_are_served_at_the_same_time_in_at_most_so_many_threads(server_class: Any) -> None:
    with server_class(LOOPBACK, Echo) as server:
        server.threads = 2
        with serving(server), connect(server) as first, connect(server) as second, connect(server) as third:
            assert [ask(first), ask(second)] == [b"x", b"x"]
            third.sendall(b"y")
            third.setblocking(False)
            with pytest.raises(BlockingIOError):
                third.recv(1)
            first.close()
            third.settimeout(PATIENCE)
            assert third.recv(1) == b"y"


@LINEAGES
def test_shutdown_before_serve_forever_makes_it_return_at_once(server_class: Any) -> None:
    with server_class(LOOPBACK, Echo) as server:
        waiting = threading.Thread(target=server.shutdown)
        waiting.start()
        while not server._BaseServer__shutdown_request:
            pass
        server.serve_forever(FOR_EVER)
        waiting.join(PATIENCE)

        assert not waiting.is_alive()


@LINEAGES
def test_the_flag_that_code_sets_itself_ends_the_loop(server_class: Any) -> None:
    with server_class(LOOPBACK, Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with connect(server) as client:
            ask(client)
            server._BaseServer__shutdown_request = True
            thread.join(PATIENCE)

        assert not thread.is_alive()


@LINEAGES
def test_shutdown_may_be_called_by_a_handler(server_class: Any) -> None:
    def stop(request: Any, client_address: Any, server: Any) -> None:
        server.shutdown()
        request.sendall(b"stopped")

    with server_class(LOOPBACK, stop) as server:
        thread = threading.Thread(target=server.serve_forever, args=(FOR_EVER,))
        thread.start()
        with connect(server) as client:
            assert client.recv(100) == b"stopped"
        thread.join(PATIENCE)

        assert not thread.is_alive()


@LINEAGES
def test_service_actions_are_called_by_the_thread_of_serve_forever(server_class: Any) -> None:
    called: list[threading.Thread] = []
    enough = threading.Event()

    class Server(server_class):  # type: ignore[misc]  # either lineage
        def service_actions(self) -> None:
            called.append(threading.current_thread())
            if len(called) == 3:
                enough.set()

    with Server(LOOPBACK, Echo) as server, serving(server, 0.001) as thread:
        assert enough.wait(PATIENCE)

    assert set(called) == {thread}


@LINEAGES
def test_a_thread_that_the_system_did_not_have_is_started_from_the_loop(
    server_class: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot_start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with server_class(LOOPBACK, Echo) as server, serving(server, 0.01), connect(server) as first:
        assert ask(first) == b"x"  # another thread leads now
        with connect(server) as second:
            with monkeypatch.context() as scarce:
                scarce.setattr(PoolThread, "start", cannot_start)
                assert ask(second) == b"x"
            with connect(server) as third:
                assert ask(third) == b"x"


@LINEAGES
def test_handle_request_serves_one_in_the_calling_thread(server_class: Any) -> None:
    threads: list[threading.Thread] = []

    with server_class(LOOPBACK, lambda *_: threads.append(threading.current_thread())) as server, connect(server):
        server.handle_request()

    assert threads == [threading.current_thread()]


@LINEAGES
def test_open_connections_go_on_after_shutdown_and_server_close_waits_for_them(server_class: Any) -> None:
    server = server_class(LOOPBACK, Echo)
    with connect(server) as client:
        with serving(server):
            assert ask(client) == b"x"
        closing = threading.Thread(target=server.server_close)
        closing.start()
        assert ask(client) == b"x"
        assert closing.is_alive()
    closing.join(PATIENCE)
    assert not closing.is_alive()


def test_server_close_waits_for_nobody_if_told_so() -> None:
    server = ThreadPoolTCPServer(LOOPBACK, Echo)
    server.block_on_close = False
    with connect(server) as client:
        with serving(server):
            ask(client)
        server.server_close()


def test_a_handler_may_close_its_server() -> None:
    def close(request: Any, client_address: Any, server: Any) -> None:
        server.shutdown()
        server.server_close()
        request.sendall(b"closed")

    server = ThreadPoolTCPServer(LOOPBACK, close)
    with connect(server) as client:
        server.serve_forever(FOR_EVER)
        assert client.recv(100) == b"closed"


def test_a_server_of_datagrams() -> None:
    class Reply(socketserver.DatagramRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.packet.upper())

    with ThreadPoolUDPServer(LOOPBACK, Reply) as server, serving(server), connect(server) as client:
        assert ask(client, b"x") == b"X"


def test_a_server_of_unix_streams(tmp_path: Path) -> None:
    with ThreadPoolUnixStreamServer(str(tmp_path / "s"), Echo) as server, serving(server), connect(server) as client:
        assert ask(client) == b"x"


def test_a_server_of_unix_datagrams_waits_when_its_client_is_slow(tmp_path: Path) -> None:
    class Flood(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            for number in range(500):
                self.request[1].sendto(b"%d" % number, self.client_address)

    with ThreadPoolUnixDatagramServer(str(tmp_path / "s"), Flood) as server, serving(server):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.bind("")
            client.settimeout(PATIENCE)
            client.sendto(b"go", server.server_address)
            assert [int(client.recv(10)) for _ in range(500)] == list(range(500))


def test_the_handlers_of_http_server_are_served(tmp_path: Path) -> None:
    class Server(ThreadPoolMixIn, http.server.HTTPServer):
        pass

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    (tmp_path / "page").write_text("hello")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with Server(LOOPBACK, handler) as server, serving(server), connect(server) as client:
        client.sendall(b"GET /page HTTP/1.0\r\n\r\n")
        with client.makefile("rb") as answer:
            assert answer.read().endswith(b"hello")


class Leaver(socketserver.StreamRequestHandler):
    """Says goodbye when it is told of a drain."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)

    def on_drain(self) -> None:
        self.wfile.write(f"421 bye {self.server.draining}\n".encode())  # type: ignore[attr-defined]  # of the mix-in


@LINEAGES
def test_a_drain_is_told_to_the_handlers_of_open_connections(server_class: Any) -> None:
    with server_class(LOOPBACK, Leaver) as server:
        assert not server.draining
        with connect(server) as client:
            with serving(server):
                ask(client, b"x\n")
            assert client.recv(100) == b"421 bye True\n"
        server.server_close()
        assert server._handlers_at_work == {}


def test_a_drain_is_told_to_the_server_and_exceptions_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Server(ThreadPoolTCPServer):
        told = 0

        def on_drain(self) -> None:
            self.told += 1
            raise ValueError("no")

    with Server(LOOPBACK, Echo) as server:
        call_on_drain(server)

        assert server.told == 1
    assert "on_drain failed: ValueError: no" in caplog.text


def test_a_handler_whose_client_has_gone_need_not_say_goodbye(caplog: pytest.LogCaptureFixture) -> None:
    class Gone:
        def on_drain(self) -> None:
            raise BrokenPipeError

    class Ended:
        def on_drain(self) -> None:
            handlers.clear()
            raise ValueError("I/O operation on closed file")

    with ThreadPoolTCPServer(LOOPBACK, Echo) as server:
        handlers = vars(server)["_handlers_at_work"] = {id(one): one for one in (Gone(), Ended())}
        call_on_drain(server)

    assert caplog.records == []


def test_a_handler_that_is_not_a_plain_class_is_made_as_ever() -> None:
    class Meta(type):
        def __call__(cls, *args: Any) -> Any:
            made.append(args)
            return super().__call__(*args)

    class Handler(Echo, metaclass=Meta):
        def on_drain(self) -> None:
            pass

    made: list[Any] = []
    with ThreadPoolTCPServer(LOOPBACK, Handler) as server, serving(server), connect(server) as client:
        assert ask(client) == b"x"

    assert len(made) == 1


def test_a_finish_request_of_its_own_makes_the_handler() -> None:
    class Base(socketserver.TCPServer):
        def finish_request(self, request: Any, client_address: Any) -> None:
            request.sendall(b"own")

    class Server(ThreadPoolMixIn, Base):
        pass

    with Server(LOOPBACK, Leaver) as server, serving(server), connect(server) as client:
        assert client.recv(100) == b"own"


def test_tags_and_failures_belong_to_the_row_of_their_thread() -> None:
    def fail(request: Any, client_address: Any, server: Any) -> None:
        server.tag("GET /")
        server.extend_deadline(60.0)
        raise ValueError

    class Server(ThreadPoolTCPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    notes = Notes()
    with Server(LOOPBACK, fail) as server, connect(server) as client:
        server.tag("nobody's")
        server.extend_deadline(1.0)
        pool = Pool(1, notes)
        pool.add(server, 7)
        pool.start()
        assert client.recv(1) == b""
        pool.drain()
        assert pool.ended.wait(PATIENCE)

    assert notes.lines == [("opened", 0, 7), ("tagged", 0, "GET /"), ("extended", 0, 60.0), ("closed", 0, True)]


def test_the_names_are_offered_where_users_look() -> None:
    for name in prefork.serving.__all__:
        assert getattr(prefork.serving, name).__name__ == name
    with pytest.raises(AttributeError):
        prefork.serving.absent  # noqa: B018  the look-up is the test
