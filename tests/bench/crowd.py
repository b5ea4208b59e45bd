"""Clients that are connected and say nothing: each has sent a line and had its answer, so that it is parked."""

from __future__ import annotations

import resource
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from prefork import testing
from tests.support.addresses import host_and_port

_IP_BIND_ADDRESS_NO_PORT = 24  # <linux/in.h>: else a port would be taken that nobody else can use, to whatever address
_LINE, _ANSWER = b"PING\r\n", b"+PONG\r\n"


@contextmanager
def crowd(server: testing.Server, number: int) -> Iterator[None]:
    """Hold so many clients of a server whose handlers can park and say PONG, during the block."""
    with clients_of(server, number, _LINE, _ANSWER):
        yield


@contextmanager
def clients_of(server: testing.Server, number: int, line: bytes, answer: bytes = b"") -> Iterator[list[socket.socket]]:
    """Hold so many clients, each of which has said this and had this answer, or whatever it was."""
    with ExitStack() as stack:
        clients = []
        for _ in range(number):
            client = stack.enter_context(_connect(server))
            client.sendall(line)
            assert client.recv(100).startswith(answer)
            clients.append(client)
        while parked(server) < number:
            select.select([], [], [], 0.01)
        yield clients


def _connect(server: testing.Server) -> socket.socket:
    """Connect from another address than those who are measured, whose search for a free port would take ever longer."""
    client = socket.socket()
    client.settimeout(60)
    client.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    client.bind(("127.0.0.2", 0))
    client.connect(host_and_port(server))
    return client


def parked(server: testing.Server) -> int:
    return sum(worker["parked"] for worker in server.workers())


def allow_many_descriptors() -> None:
    """Raise our limit, which the servers inherit, as far as we may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
