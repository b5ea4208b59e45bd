"""Addresses of a test's server in the form that a client wants."""

import os
import socket
from contextlib import suppress
from pathlib import Path

from prefork.testing import Server


def host_and_port(server: Server, index: int = 0) -> tuple[str, int]:
    address = server.addresses[index]
    assert isinstance(address, tuple), f"{address} is the path of a Unix socket"
    return address


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port of 127.0.0.1 for who cannot be asked which one he chose.

    It is below those that the kernel gives to everybody, so it stays free until it is bound.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in range(lowest - 1 - os.getpid() % 5000, 1024, -1):
        with suppress(OSError), socket.socket(socket.AF_INET, kind) as free:
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
