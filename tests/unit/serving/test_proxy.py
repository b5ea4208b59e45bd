"""Receiving a PROXY header: from whom, in time, and without a byte of what follows it."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork.serving.proxy import TrustedProxies, receive_header
from prefork.serving.proxy_header import ProxyHeader, ProxyHeaderError
from tests.support.proxies import ADDRESSES, BINARY_HEADER, CLIENT, LOCAL, SERVICE, TEXT_HEADER, binary, drip, tlv

PATIENCE = 30.0

HEADERS = [
    (TEXT_HEADER, ProxyHeader(1, CLIENT, SERVICE)),
    (b"PROXY UNKNOWN\r\n", ProxyHeader(1)),
    (b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n", ProxyHeader(1)),
    (BINARY_HEADER, ProxyHeader(2, CLIENT, SERVICE)),
    (binary(b"", LOCAL, 0), ProxyHeader(2)),
    (binary(bytes(65535), LOCAL), ProxyHeader(2)),
    (binary(ADDRESSES + tlv(4, bytes(65535 - 12 - 3))), ProxyHeader(2, CLIENT, SERVICE)),
]


def in_time() -> float:
    return time.monotonic() + PATIENCE


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection: the server's, then the proxy's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as proxy, listener.accept()[0] as ours:
            yield ours, proxy


def meanwhile(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


@pytest.mark.parametrize(("header", "expected"), HEADERS)
def test_a_header_is_taken_and_nothing_beyond_it(pair: Any, header: bytes, expected: ProxyHeader) -> None:
    ours, proxy = pair
    sending = meanwhile(lambda: proxy.sendall(header + b"\x16\x03\x01"))

    assert receive_header(ours, in_time()) == expected
    assert ours.recv(100) == b"\x16\x03\x01"
    sending.join()


@pytest.mark.parametrize(("header", "expected"), HEADERS[:5])
def test_a_header_in_segments_of_a_byte_is_taken(pair: Any, header: bytes, expected: ProxyHeader) -> None:
    ours, proxy = pair
    sending = meanwhile(lambda: drip(proxy, header + b"\r\n"))

    assert receive_header(ours, in_time()) == expected
    sending.join()
    assert ours.recv(2, socket.MSG_WAITALL) == b"\r\n"


@pytest.mark.parametrize(
    "said",
    [
        b"G",
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"PROXY\t",
        b"proxy TCP4",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x0c",
        b"PROXY TCP4 " + b"x" * 96,
        b"PROXY \r\n and more",
        b"PROXY     \r\n and more",
    ],
)
def test_what_cannot_become_a_header_is_refused_at_once(pair: Any, said: bytes) -> None:
    ours, proxy = pair
    proxy.sendall(said)

    with pytest.raises(ProxyHeaderError):
        receive_header(ours, in_time())


@given(
    st.sampled_from([header for header, _ in HEADERS[:5]]),
    st.integers(0, 40),
    st.integers(0, 4),
    st.binary(max_size=5) | st.sampled_from([b"\r\n", b"\r", b" "]),
)
def test_nothing_but_its_own_error_comes_out_of_what_is_received(
    header: bytes, at: int, instead_of: int, said: bytes
) -> None:
    ours, proxy = socket.socketpair()
    with ours, proxy:
        proxy.sendall(header[:at] + said + header[at + instead_of :])
        proxy.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ProxyHeaderError):
            assert isinstance(receive_header(ours, in_time()), ProxyHeader)


@pytest.mark.parametrize("length", [0, 1, 5, 11, 12, 15, 16, 27])
@pytest.mark.parametrize("header", [TEXT_HEADER, BINARY_HEADER])
def test_a_proxy_that_hangs_up_in_the_middle_is_refused(pair: Any, header: bytes, length: int) -> None:
    ours, proxy = pair
    proxy.sendall(header[:length])
    proxy.shutdown(socket.SHUT_WR)

    with pytest.raises(ProxyHeaderError, match="hung up"):
        receive_header(ours, in_time())


@pytest.mark.parametrize("length", [0, 7, 12, 14, 27])
@pytest.mark.parametrize("header", [TEXT_HEADER, BINARY_HEADER])
def test_a_silent_proxy_is_waited_for_until_the_deadline(pair: Any, header: bytes, length: int) -> None:
    ours, proxy = pair
    proxy.sendall(header[:length])

    with pytest.raises(TimeoutError):
        receive_header(ours, time.monotonic() + 0.05)


def test_a_byte_now_and_then_does_not_move_the_deadline(pair: Any) -> None:
    ours, proxy = pair
    over = threading.Event()

    def trickle() -> None:
        for byte in TEXT_HEADER:
            if over.wait(0.1):
                return
            proxy.sendall(bytes([byte]))

    deadline = time.monotonic() + 0.5
    sending = meanwhile(trickle)

    with pytest.raises(TimeoutError):
        receive_header(ours, deadline)
    over.set()
    sending.join()


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        (("10.1.2.3", 5), True),
        (("11.1.2.3", 5), False),
        (("192.0.2.1", 5), True),
        (("192.0.2.2", 5), False),
        (("::ffff:10.1.2.3", 5, 0, 0), True),
        (("::ffff:11.1.2.3", 5, 0, 0), False),
        (("fe80::1%lo", 5, 0, 1), True),
        (("fd00::1", 5, 0, 0), False),
        ("", False),
        (b"\0name", False),
    ],
)
def test_proxies_are_told_by_their_address(peer: Any, trusted: bool) -> None:
    assert TrustedProxies(["10.0.0.0/8", "192.0.2.1", "fe80::/10"])(peer) is trusted


@pytest.mark.parametrize("peer", ["", "/run/client", b"\0name"])
def test_unix_is_every_unix_socket(peer: Any) -> None:
    assert TrustedProxies(["unix"])(peer)
    assert not TrustedProxies(["unix"])(("127.0.0.1", 5))
