"""Peers that say nothing, nonsense or half of something cost nobody else anything, and a thread only for a while."""

import re
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from prefork.testing import Address, Server
from tests.process.conftest import Serve
from tests.support.authorities import Authority
from tests.support.clients import connect, eventually
from tests.support.proxies import BINARY_HEADER, TEXT_HEADER, binary

_CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
HOSTILE = {
    "nothing": b"",
    "garbage": bytes(range(256)) * 40,
    "plain HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS at once": _CLIENT_HELLO,
    "half a text header": TEXT_HEADER[:20],
    "half a binary header": BINARY_HEADER[:20],
    "a header that promises more": binary(bytes(65535))[:30000],
    "a header alone": TEXT_HEADER,
    "a header and half a handshake": BINARY_HEADER + _CLIENT_HELLO,
    "a header and plain HTTP": TEXT_HEADER + b"GET / HTTP/1.1\r\n\r\n",
    "a header and an old handshake": BINARY_HEADER + b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
    "two headers": TEXT_HEADER + BINARY_HEADER,
}
SHORT, LONG = 3.0, 60.0  # seconds


@pytest.fixture
def authority(project: Path) -> Authority:
    authority = Authority(project)
    authority.issue("localhost")
    return authority


Start = Callable[[float], AbstractContextManager[Server]]


@pytest.fixture
def start(serve: Serve, authority: Authority) -> Start:
    """One worker behind a proxy and TLS, with two threads more than there are hostile peers."""
    options = {"tls_cert": "cert.pem", "proxy_protocol": "on", "trusted_proxies": "127.0.0.1"}
    return lambda seconds: serve(workers=1, threads=len(HOSTILE) + 2, handshake_timeout=seconds, **options)


def ask(address: Address, authority: Authority) -> bytes:
    """Be a good client behind a good proxy."""
    connection = connect(address)
    connection.sendall(TEXT_HEADER)
    with authority.client_context().wrap_socket(connection, server_hostname="localhost") as client:
        client.sendall(b"version\n")
        return client.recv(100)


def read_to_the_end(client: socket.socket) -> None:
    try:
        while client.recv(4096):
            pass  # an alert
    except ConnectionResetError:
        pass  # closed with unread bytes


def connect_hostile_peers(server: Server, stack: ExitStack) -> list[socket.socket]:
    peers = [stack.enter_context(connect(server.address)) for _ in HOSTILE]
    for peer, said in zip(peers, HOSTILE.values(), strict=True):
        peer.sendall(said)
    return peers


@pytest.mark.fault("handshake")
def test_hostile_peers_delay_nobody(start: Start, authority: Authority) -> None:
    with start(LONG) as server, ExitStack() as stack:
        connect_hostile_peers(server, stack)

        assert {ask(server.address, authority) for _ in range(3)} == {b"1\n"}
        assert any(worker["threads_busy"] for worker in server.workers())  # with those that may say more


@pytest.mark.fault("handshake")
def test_hostile_peers_are_all_refused_in_time(start: Start) -> None:
    with start(SHORT) as server, ExitStack() as stack:
        for peer in connect_hostile_peers(server, stack):
            read_to_the_end(peer)

        eventually(lambda: not any(worker["threads_busy"] for worker in server.workers()))
        assert server.status()["totals"]["refused"] == len(HOSTILE)


@pytest.mark.fault("handshake")
def test_a_byte_now_and_then_buys_no_time(start: Start) -> None:
    over = threading.Event()
    with start(SHORT) as server, connect(server.address) as client:

        def trickle() -> None:
            for byte in BINARY_HEADER + _CLIENT_HELLO * 100:
                if over.wait(0.2):
                    return
                try:
                    client.sendall(bytes([byte]))
                except OSError:
                    return

        sending = threading.Thread(target=trickle)
        sending.start()
        read_to_the_end(client)
        over.set()
        sending.join()

        eventually(lambda: server.status()["totals"]["refused"] == 1)


def test_more_silent_peers_than_threads_are_waited_out(start: Start, authority: Authority) -> None:
    with start(SHORT) as server, ExitStack() as stack:
        for _ in range(len(HOSTILE) + 2):
            stack.enter_context(connect(server.address))

        assert ask(server.address, authority) == b"1\n"


@pytest.mark.fault("proxy-header")
def test_a_stranger_is_refused_even_with_a_good_header(serve: Serve, authority: Authority) -> None:
    options = {"proxy_protocol": "on", "trusted_proxies": ["192.0.2.1", "unix"], "log_level": "debug"}
    with serve(**options) as server, connect(server.address) as client:
        client.sendall(TEXT_HEADER + b"version\n")
        read_to_the_end(client)

        assert "peer=127.0.0.1:" in server.wait_for_log("its address is not one of trusted_proxies")
        assert server.status()["totals"]["refused"] == 1


def test_a_proxy_on_a_unix_socket_is_trusted_as_unix(serve: Serve, project: Path) -> None:
    binds = [f"unix:{project}/socket?proxy=on", "tcp://127.0.0.1:0"]
    with serve(bind=binds, trusted_proxies="unix") as server:
        with connect(server.addresses[0]) as client:
            client.sendall(TEXT_HEADER + b"version\n")
            assert client.recv(100) == b"1\n"
            peers = [request["peer"] for worker in server.workers() for request in worker["requests"]]
        with connect(server.addresses[1]) as client:
            client.sendall(b"version\n")
            assert client.recv(100) == b"1\n"

    assert peers == ["203.0.113.7:4242"]


def test_a_failed_handler_is_logged_with_the_client_behind_the_proxy(serve: Serve, project: Path) -> None:
    with serve(proxy_protocol="on", trusted_proxies="127.0.0.0/8") as server:
        with connect(server.address) as client:
            client.sendall(TEXT_HEADER + b"raise oh\n")
            read_to_the_end(client)

        assert "peer=203.0.113.7:4242" in server.wait_for_log("handler failed: ValueError: oh")


def test_the_limit_of_a_peer_is_that_of_the_client_behind_the_proxy(serve: Serve) -> None:
    other = TEXT_HEADER.replace(b"203.0.113.7", b"203.0.113.8")
    with serve(proxy_protocol="on", trusted_proxies="127.0.0.1", limit_per_peer=1) as server:
        with connect(server.address) as first, connect(server.address) as too_many, connect(server.address) as second:
            for client, header in ((first, TEXT_HEADER), (second, other)):
                client.sendall(header + b"version\n")
                assert client.recv(100) == b"1\n"
            too_many.sendall(TEXT_HEADER + b"version\n")
            read_to_the_end(too_many)

            assert "203.0.113.7" in server.wait_for_log("peer refused")
            assert server.status()["totals"]["refused"] == 1


def test_the_access_log_has_the_client_behind_the_proxy_and_who_was_refused(serve: Serve) -> None:
    with serve(proxy_protocol="on", trusted_proxies="127.0.0.1", access_log="-") as server:
        with connect(server.address) as client:
            client.sendall(TEXT_HEADER + b"version\n")
            assert client.recv(100) == b"1\n"
        with connect(server.address) as client:
            client.sendall(b"GET /")
            read_to_the_end(client)

        assert " peer=203.0.113.7:4242 " in server.wait_for_log(" connection served ")
        assert re.search(r" in=\d+ out=0 .*peer=127.0.0.1:", server.wait_for_log(" connection refused "))
