"""Two machines and the wire between them, made of network namespaces; one can do to the wire what one likes.

The test's own thread, and so every server that it starts, is on the server's machine. Clients' sockets are made on the
other one, and are ordinary objects.
"""

import ctypes
import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from prefork.testing import Address
from tests.support import tools
from tests.support.clients import TIME_LIMIT, LineClient

SERVER = "10.77.0.1"
CLIENT = "10.77.0.2"

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000  # setns(2)
_numbers = itertools.count(1)


class Network:
    """The wire is `server` at one end and `client` at the other."""

    def __init__(self, server: str, client: str) -> None:
        self._server = server
        self._client = client

    def connect(self, address: Address, *options: tuple[int, int, int]) -> LineClient:
        """Open a TCP connection from the client's machine, with socket options set before."""
        connection = self._on_client(lambda: socket.socket(socket.AF_INET))
        connection.settimeout(TIME_LIMIT)
        for option in options:
            connection.setsockopt(*option)
        connection.connect(address)
        return LineClient.over(connection)

    def on_server(self, *words: str) -> None:
        """Run `ip` for the server's machine."""
        tools.run(["ip", "-n", self._server, *words])

    def slow_down(self) -> None:
        """Let only a megabit a second leave the client's machine."""
        shape = ["tbf", "rate", "1mbit", "burst", "10kb", "latency", "400ms"]
        tools.run(["tc", "-n", self._client, "qdisc", "add", "dev", "client", "root", *shape])

    def filter(self, rule: str) -> None:
        """Apply a rule of nft to all that comes to and goes from the client's machine."""
        chains = "".join(
            f"chain {hook} {{ type filter hook {hook} priority 0; {rule}; }}\n" for hook in ("input", "output")
        )
        rules = f"table inet faults {{\n{chains}}}\n"
        tools.run(["ip", "netns", "exec", self._client, "nft", "-f", "-"], stdin=rules.encode())

    def _on_client(self, make: Callable[[], T]) -> T:
        """Do something in a thread that is on the client's machine."""
        made: list[T] = []

        def enter_and_make() -> None:
            _enter(f"/run/netns/{self._client}")
            made.append(make())

        thread = threading.Thread(target=enter_and_make)
        thread.start()
        thread.join()
        return made[0]


@contextmanager
def network() -> Iterator[Network]:
    """Make the machines, and be on the server's during the block."""
    tools.require_root()
    tools.require("ip", "nft", "tc")
    number = f"{os.getpid()}-{next(_numbers)}"
    server, client = f"prefork-server-{number}", f"prefork-client-{number}"
    made = []
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        for name in (server, client):
            _make(name)
            made.append(name)
        _wire(server, client)
        _enter(f"/run/netns/{server}")
        yield Network(server, client)
    finally:
        _set_namespace(here)
        os.close(here)
        for name in made:
            tools.run(["ip", "netns", "del", name])


def _make(name: str) -> None:
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tools.unavailable(f"no network namespace can be made: {done.stderr.strip()}")


def _wire(server: str, client: str) -> None:
    tools.run(["ip", "-n", server, "link", "add", "server", "type", "veth", "peer", "name", "client", "netns", client])
    for name, end, address in ((server, "server", SERVER), (client, "client", CLIENT)):
        tools.run(["ip", "-n", name, "addr", "add", f"{address}/24", "dev", end])
        tools.run(["ip", "-n", name, "link", "set", end, "up"])
        tools.run(["ip", "-n", name, "link", "set", "lo", "up"])


def _enter(path: str) -> None:
    """Move the calling thread into a namespace."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _set_namespace(descriptor)
    finally:
        os.close(descriptor)


def _set_namespace(descriptor: int) -> None:
    # os.setns is there from Python 3.12 on.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns failed")
