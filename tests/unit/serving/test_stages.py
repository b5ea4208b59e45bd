"""The way of a connection to its handler: header, handshake, and every way in which it does not get there."""

import logging
import socket
import socketserver
import ssl
from pathlib import Path
from typing import Any

import pytest

from prefork.serving.pool import Pool
from prefork.serving.poolthread import PoolThread
from prefork.serving.proxy import TrustedProxies
from prefork.serving.stages import StagesMixIn
from prefork.serving.threadpool import ThreadPoolMixIn, ThreadPoolTCPServer
from tests.support.authorities import Authority
from tests.support.proxies import BINARY_HEADER, CLIENT, LOCAL, TEXT_HEADER, binary
from tests.unit.serving.conftest import LOOPBACK, PATIENCE, Bench, Echo


class Server(StagesMixIn, ThreadPoolTCPServer):
    errors: list[Any]

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.errors.append(client_address)


class StandardServer(StagesMixIn, ThreadPoolMixIn, socketserver.TCPServer):
    pass


class Telling(socketserver.StreamRequestHandler):
    """Tells its client who it is, and what it said."""

    def handle(self) -> None:
        header = self.server.proxy_header(self.request)  # type: ignore[attr-defined]  # of the server under test
        told = f"{self.client_address} {header and header.version} {self.request.gettimeout()} "
        self.wfile.write(told.encode() + self.rfile.readline())


class Flooding(socketserver.BaseRequestHandler):
    """Sends more than its client will ever read."""

    def handle(self) -> None:
        self.request.settimeout(0.1)
        self.request.sendall(bytes(50_000_000))


class Raising(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        raise ValueError


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("localhost"))
    return context


def make(bench: Bench, handler: Any = Telling, server_class: Any = Server, **stages: Any) -> Pool:
    server = server_class(LOOPBACK, handler)
    server.socket.setblocking(False)
    server.errors = []
    server.handshake_timeout = PATIENCE
    for name, value in stages.items():
        setattr(server, name, value)
    return bench.pool(server)


def refused(bench: Bench) -> bool:
    return ("refused", 0) in bench.notes.lines


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


PROXIES = {"trusted_proxies": TrustedProxies(["127.0.0.0/8"])}
HEARD = f"{CLIENT} 2 None hello\n".encode()


@pytest.mark.parametrize("server_class", [Server, StandardServer])
def test_the_handler_sees_the_client_behind_the_proxy(bench: Bench, server_class: Any) -> None:
    make(bench, server_class=server_class, **PROXIES)
    client = bench.connect()

    client.sendall(BINARY_HEADER + b"hello\n")

    assert client.recv(100) == HEARD
    assert ("identified", 0, CLIENT) in bench.notes.lines


def test_of_a_local_connection_the_handler_sees_the_proxy(bench: Bench) -> None:
    make(bench, **PROXIES)
    client = bench.connect()

    client.sendall(binary(b"", LOCAL, 0) + b"hello\n")

    assert client.recv(100) == f"{client.getsockname()} 2 None hello\n".encode()


def test_without_a_proxy_there_is_no_header(bench: Bench) -> None:
    make(bench)
    client = bench.connect()

    client.sendall(b"hello\n")

    assert client.recv(100) == f"{client.getsockname()} None None hello\n".encode()


def test_the_handler_talks_tls(bench: Bench, authority: Authority, context: ssl.SSLContext) -> None:
    make(bench, tls_context=context)

    with authority.client_context().wrap_socket(bench.connect(), server_hostname="localhost") as client:
        client.sendall(b"hello\n")

        assert client.recv(100) == f"{client.getsockname()} None None hello\n".encode()


def test_the_header_comes_before_the_handshake(bench: Bench, authority: Authority, context: ssl.SSLContext) -> None:
    make(bench, tls_context=context, **PROXIES)
    connection = bench.connect()
    connection.sendall(BINARY_HEADER)

    with authority.client_context().wrap_socket(connection, server_hostname="localhost") as client:
        client.sendall(b"hello\n")

        assert client.recv(100) == HEARD


def test_the_deadline_may_be_waived(bench: Bench, authority: Authority, context: ssl.SSLContext) -> None:
    make(bench, tls_context=context, handshake_timeout=0, **PROXIES)
    connection = bench.connect()
    connection.sendall(BINARY_HEADER)

    with authority.client_context().wrap_socket(connection, server_hostname="localhost") as client:
        client.sendall(b"hello\n")

        assert client.recv(100) == HEARD


def test_the_end_of_a_tls_connection_is_said(bench: Bench, authority: Authority, context: ssl.SSLContext) -> None:
    make(bench, tls_context=context)

    with authority.client_context().wrap_socket(
        bench.connect(), server_hostname="localhost", suppress_ragged_eofs=False
    ) as client:
        client.sendall(b"hello\n")
        while client.recv(100):
            pass  # a connection that was merely cut would raise SSLEOFError


def test_a_stranger_is_refused_without_being_heard(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        make(bench, trusted_proxies=TrustedProxies(["192.0.2.1"]))
        client = bench.connect()

        assert ended(client)
    assert refused(bench)
    assert "its address is not one of trusted_proxies" in caplog.text


@pytest.mark.parametrize("said", [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01", b"PROXY TCP4 x y 1 2\r\n"])
def test_a_proxy_without_a_header_is_refused(bench: Bench, said: bytes) -> None:
    make(bench, **PROXIES)
    client = bench.connect()

    client.sendall(said)

    assert ended(client)
    assert refused(bench)


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.0\r\n\r\n", b"\x80\x2e\x01\x00\x02", b"\0" * 100, b"\x16\x03\x01\xff\xff"]
)
def test_what_is_no_tls_is_refused(bench: Bench, context: ssl.SSLContext, said: bytes) -> None:
    make(bench, tls_context=context)
    client = bench.connect()

    client.sendall(said)
    client.shutdown(socket.SHUT_WR)

    while not ended(client):
        pass  # an alert
    assert refused(bench)


@pytest.mark.parametrize("said", [b"", TEXT_HEADER[:9], TEXT_HEADER, TEXT_HEADER + b"\x16\x03\x01"])
def test_header_and_handshake_together_have_one_deadline(
    bench: Bench, context: ssl.SSLContext, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        make(bench, tls_context=context, handshake_timeout=0.1, **PROXIES)
        client = bench.connect()

        client.sendall(said)

        assert ended(client)
    assert refused(bench)
    assert "in time" in caplog.text


def test_a_handler_that_raises_is_reported_with_the_client_behind_the_proxy(
    bench: Bench, authority: Authority, context: ssl.SSLContext
) -> None:
    make(bench, Raising, tls_context=context, **PROXIES)
    connection = bench.connect()
    connection.sendall(BINARY_HEADER)

    with authority.client_context().wrap_socket(connection, server_hostname="localhost") as client:
        assert client.recv(1) == b""

    assert bench.notes.wait_for("closed", 0, True)
    assert bench.servers[0].errors == [CLIENT]


def test_what_goes_wrong_on_the_way_is_reported_and_counted_as_failed(bench: Bench) -> None:
    def is_trusted(client_address: Any) -> bool:
        raise ValueError

    make(bench, trusted_proxies=is_trusted)
    with bench.connect() as client:
        assert ended(client)

        assert bench.notes.wait_for("closed", 0, True)
        assert bench.servers[0].errors == [client.getsockname()]


def test_an_open_tls_connection_can_be_cut(bench: Bench, authority: Authority, context: ssl.SSLContext) -> None:
    pool = make(bench, Echo, tls_context=context)
    with authority.client_context().wrap_socket(bench.connect(), server_hostname="localhost") as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"

        pool.abort()

        assert pool.ended.wait(PATIENCE)


def test_a_handshake_can_be_cut(bench: Bench, context: ssl.SSLContext) -> None:
    pool = make(bench, tls_context=context)
    client = bench.connect()
    client.sendall(b"\x16")
    assert bench.notes.wait_for("opened", 0, 0)

    pool.abort()

    assert pool.ended.wait(PATIENCE)


def test_a_client_that_reads_nothing_does_not_hold_up_the_goodbye(
    bench: Bench, authority: Authority, context: ssl.SSLContext
) -> None:
    make(bench, Flooding, tls_context=context)

    with authority.client_context().wrap_socket(bench.connect(), server_hostname="localhost"):
        assert bench.notes.wait_for("closed", 0, True)


def test_a_connection_that_becomes_another_object_during_a_cut_is_cut(bench: Bench) -> None:
    pool = make(bench, Echo)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pool.abort()

        PoolThread(pool, 0).exchange(ours)

        assert theirs.recv(1) == b""
