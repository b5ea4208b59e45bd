"""Two machines and the wire between them, made of network namespaces; one can do to the wire what one likes.

The test's own thread, and so every server that it starts, is on the server's machine. Clients' sockets are made on the
other one, and are ordinary objects.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from prefork.testing import Address
from tests.support import tools
from tests.support.clients import TIME_LIMIT, LineClient
from tests.support.namespaces import enter, inside, namespaces, set_filter

SERVER = "10.77.0.1"
CLIENT = "10.77.0.2"

T = TypeVar("T")


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
        set_filter(self._client, rule)

    def _on_client(self, make: Callable[[], T]) -> T:
        """Do something in a thread that is on the client's machine."""
        made: list[T] = []

        def enter_and_make() -> None:
            enter(self._client)
            made.append(make())

        thread = threading.Thread(target=enter_and_make)
        thread.start()
        thread.join()
        return made[0]


@contextmanager
def network() -> Iterator[Network]:
    """Make the machines, and be on the server's during the block."""
    tools.require("nft", "tc")
    with namespaces("server", "client") as made:
        server, client = made["server"], made["client"]
        _wire(server, client)
        with inside(server):
            yield Network(server, client)


def _wire(server: str, client: str) -> None:
    tools.run(["ip", "-n", server, "link", "add", "server", "type", "veth", "peer", "name", "client", "netns", client])
    for name, end, address in ((server, "server", SERVER), (client, "client", CLIENT)):
        tools.run(["ip", "-n", name, "addr", "add", f"{address}/24", "dev", end])
        tools.run(["ip", "-n", name, "link", "set", end, "up"])
