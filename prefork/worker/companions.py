"""What handlers expect of their server that the package they come from sets on a server of its own."""

from __future__ import annotations

import socket

from prefork.worker.target import call_target, find, parse_target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# handler class -> attribute -> target. `--set` has the last word.
_ATTRIBUTES = {"dnslib.server.DNSHandler": {"logger": "dnslib.server:DNSLogger()"}}
_LARGEST_DATAGRAM = 65535


def companions_of(handler: object, listener: socket.socket) -> dict[str, Any]:
    """Return the attributes that a server of ours gets before it binds, so that this handler finds what it needs."""
    attributes: dict[str, Any] = {}
    if listener.type == socket.SOCK_DGRAM:
        attributes["max_packet_size"] = _LARGEST_DATAGRAM
    if listener.family in (socket.AF_INET, socket.AF_INET6):
        # http.server.HTTPServer has them, and handlers of HTTP build addresses of them.
        host, port = listener.getsockname()[:2]
        attributes |= {"server_name": host, "server_port": port}
    for base in getattr(handler, "__mro__", ()):
        for name, text in _ATTRIBUTES.get(f"{base.__module__}.{base.__qualname__}", {}).items():
            target = parse_target(text)
            attributes.setdefault(name, call_target(target, find(target)))
    return attributes
