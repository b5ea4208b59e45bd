"""Answers to datagrams leave from the address that was asked."""

import errno
import os
import socket
import socketserver
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from prefork.serving import asked
from prefork.serving.asked import Answering
from prefork.serving.threadpool import ThreadPoolUDPServer
from tests.unit.serving.conftest import LOOPBACK, PATIENCE
from tests.unit.serving.test_threadpool import serving


class Reply(socketserver.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.packet.upper())


class SixServer(ThreadPoolUDPServer):
    """At a wildcard that takes IPv4, too."""

    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def asks(server: ThreadPoolUDPServer, host: str) -> socket.socket:
    """Return a client that hears nobody but this address of the server (udp(7): it is connected)."""
    client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(PATIENCE)
    client.connect((host, server.server_address[1]))
    return client


@pytest.fixture
def wildcard() -> Iterator[ThreadPoolUDPServer]:
    with ThreadPoolUDPServer(("0.0.0.0", 0), Reply) as server:
        yield server


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.99.0.3"])
def test_a_wildcard_answers_from_the_address_that_was_asked(wildcard: ThreadPoolUDPServer, host: str) -> None:
    with serving(wildcard), asks(wildcard, host) as client:
        client.send(b"x")
        assert client.recv(10) == b"X"


@pytest.mark.parametrize("host", ["::1", "127.0.0.2"])
def test_so_does_a_wildcard_of_both_families(host: str) -> None:
    with SixServer(("::", 0), Reply) as server, serving(server), asks(server, host) as client:
        client.send(b"x")
        assert client.recv(10) == b"X"


def test_a_listener_with_one_address_is_given_to_handlers_as_it_is() -> None:
    with ThreadPoolUDPServer(LOOPBACK, Reply) as server, asks(server, "127.0.0.1") as client:
        client.send(b"x")
        (_, answering), _ = server.get_request()

        assert answering is server.socket


def test_a_handler_may_answer_as_with_any_socket(wildcard: ThreadPoolUDPServer) -> None:
    with asks(wildcard, "127.0.0.2") as client:
        client.send(b"x")
        (_, answering), client_address = wildcard.get_request()

        assert answering.sendto(b"one", client_address) == 3
        assert answering.sendto(b"two", socket.MSG_DONTWAIT, client_address) == 3
        assert answering.getsockname() == wildcard.server_address
        assert answering.fileno() == wildcard.fileno()
        assert [client.recv(10), client.recv(10)] == [b"one", b"two"]


@pytest.mark.parametrize("ours", ["224.0.0.1", "255.255.255.255", "192.0.2.1"], ids=["group", "broadcast", "gone"])
def test_what_nobody_can_send_from_is_answered_as_without_it(wildcard: ThreadPoolUDPServer, ours: str) -> None:
    source = (socket.IPPROTO_IP, asked._IP_PKTINFO, struct.pack("=I4s4s", 0, socket.inet_aton(ours), bytes(4)))
    with asks(wildcard, "127.0.0.1") as client:
        Answering(wildcard.socket, source).sendto(b"x", client.getsockname())

        assert client.recv(10) == b"x"


def test_a_datagram_that_is_too_long_is_the_handlers_error(wildcard: ThreadPoolUDPServer) -> None:
    with asks(wildcard, "127.0.0.2") as client:
        client.send(b"x")
        (_, answering), client_address = wildcard.get_request()

        with pytest.raises(OSError, match=os.strerror(errno.EMSGSIZE)):
            answering.sendto(bytes(70_000), client_address)


@pytest.mark.parametrize(
    ("asked_for", "interface"),
    [("fe80::1", 7), ("2001:db8::1", 0), ("::1", 0)],
    ids=["link-local", "global", "loopback"],
)
def test_the_interface_is_kept_where_an_address_needs_it(asked_for: str, interface: int) -> None:
    told = (socket.inet_pton(socket.AF_INET6, asked_for), 7)
    level, kind, data = found(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16sI", *told))

    assert (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
    assert struct.unpack("=16sI", data) == (told[0], interface)


def test_what_else_comes_with_a_datagram_is_no_address() -> None:
    assert asked._source_of(socket.SOL_SOCKET, 2, bytes(12)) is None
    assert asked._source_of(socket.IPPROTO_IP, asked._IP_PKTINFO, bytes(3)) is None


def found(*ancillary: Any) -> asked.Ancillary:
    source = asked._source_of(*ancillary)
    assert source is not None
    return source
