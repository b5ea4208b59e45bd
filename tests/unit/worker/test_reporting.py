"""Whose fault it is that a connection has failed."""

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from prefork.worker.reporting import peer_is_gone
from tests.support.authorities import Authority

Pair = tuple[ssl.SSLSocket, ssl.SSLSocket]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Both ends of a connection over TLS, the server's first."""
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("localhost"))
    ours, theirs = socket.socketpair()
    with ExitStack() as stack:
        wrap = context.wrap_socket
        server = stack.enter_context(wrap(ours, server_side=True, do_handshake_on_connect=False))
        shaking = threading.Thread(target=server.do_handshake)
        shaking.start()
        client = authority.client_context().wrap_socket(theirs, server_hostname="localhost")
        shaking.join()
        yield server, stack.enter_context(client)


def error_of(act: Callable[[], object]) -> BaseException:
    """Return what it raises."""
    try:
        act()
    except OSError as error:
        return error
    raise AssertionError("nothing was raised")


def write_below(connection: ssl.SSLSocket) -> None:
    os.write(connection.fileno(), b"no record of TLS")


def test_a_client_that_breaks_its_tls_is_gone(pair: Pair) -> None:
    server, client = pair
    write_below(client)
    error = error_of(lambda: server.recv(10))

    assert isinstance(error, ssl.SSLError)
    assert peer_is_gone(error)


def test_a_client_that_hangs_up_below_its_tls_is_gone(pair: Pair) -> None:
    server, client = pair
    client.close()
    error = error_of(lambda: server.sendall(b"text"))

    assert peer_is_gone(error)


def test_a_server_that_breaks_the_tls_of_a_handler_as_its_client_is_the_failure_of_the_handler(pair: Pair) -> None:
    server, client = pair
    write_below(server)
    client.settimeout(10)
    error = error_of(lambda: client.recv(10))

    assert isinstance(error, ssl.SSLError)
    assert not peer_is_gone(error)


def test_a_handler_that_does_not_wait_has_to_handle_that_itself(pair: Pair) -> None:
    server, _ = pair
    server.setblocking(False)

    assert not peer_is_gone(error_of(lambda: server.recv(10)))
