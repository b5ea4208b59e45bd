"""The stage that receives the header of the PROXY protocol: from whom, within what time, and not a byte beyond it.

What follows the header, a TLS handshake or the first request, stays in the connection. Version 2 says how long it is;
version 1 ends with CR LF, so its bytes are looked at before they are taken.
"""

from __future__ import annotations

import ipaddress
import socket
from time import monotonic

from prefork.serving.proxy_header import (
    FIXED,
    MOST_TEXT_BYTES,
    SIGNATURE,
    ProxyHeader,
    ProxyHeaderError,
    binary_length,
    parse_binary,
    parse_text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_TEXT_START = b"PROXY "
# Either header is longer than this (the shortest is "PROXY UNKNOWN" with CR LF), so that many can always be taken.
_SAFE_BYTES = len(SIGNATURE)


class TrustedProxies:
    """Tells by the address of a connection whether a proxy opened it."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Take IP addresses, networks such as 10.0.0.0/8, and `unix` for every Unix socket."""
        self._unix = "unix" in texts
        self._networks = [ipaddress.ip_network(text) for text in texts if text != "unix"]

    def __call__(self, client_address: Any) -> bool:
        if not isinstance(client_address, tuple):
            return self._unix
        address = ipaddress.ip_address(client_address[0])
        # A client that reaches an IPv6 listener over IPv4 has an address such as ::ffff:10.0.0.1.
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self._networks)


def receive_header(connection: socket.socket, deadline: float) -> ProxyHeader:
    """Take the header from the connection. Raise ProxyHeaderError or OSError, as soon as it cannot become one."""
    begun = b""
    while len(begun) < _SAFE_BYTES:
        begun += _receive(connection, _SAFE_BYTES - len(begun), deadline)
        if not SIGNATURE.startswith(begun) and not begun.startswith(_TEXT_START[: len(begun)]):
            raise ProxyHeaderError("there is no PROXY header")
    if begun == SIGNATURE:
        fixed = _receive_exactly(connection, begun, FIXED.size, deadline)
        return parse_binary(fixed, _receive_exactly(connection, b"", binary_length(fixed), deadline))
    return parse_text(_receive_line(connection, begun, deadline))


def _receive_exactly(connection: socket.socket, begun: bytes, size: int, deadline: float) -> bytes:
    received = bytearray(begun)
    while len(received) < size:
        received += _receive(connection, size - len(received), deadline)
    return bytes(received)


def _receive_line(connection: socket.socket, line: bytes, deadline: float) -> bytes:
    """Take the rest of a line. Without its end in sight all that is there belongs to it, so that no look is in vain."""
    if b"\r\n" in line:
        raise ProxyHeaderError("the header ends before it says anything")
    while not line.endswith(b"\r\n") and len(line) < MOST_TEXT_BYTES:
        seen = _receive(connection, MOST_TEXT_BYTES - len(line), deadline, socket.MSG_PEEK)
        end = (line + seen).find(b"\r\n")
        line += _receive(connection, len(seen) if end < 0 else end + 2 - len(line), deadline)
    return line


def _receive(connection: socket.socket, size: int, deadline: float, flags: int = 0) -> bytes:
    remaining = deadline - monotonic()
    if remaining <= 0:
        raise TimeoutError
    connection.settimeout(None if remaining == float("inf") else remaining)
    data = connection.recv(size, flags)
    if not data:
        raise ProxyHeaderError("the peer hung up before the PROXY header was complete")
    return data
