"""The stage that makes a connection a TLS connection, and the end of one."""

from __future__ import annotations

import select
import ssl
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

_GOODBYE_TIME = 1.0  # seconds for a peer that reads slowly


def wrap(connection: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Return the connection as one that will talk TLS; the object given is closed by that."""
    return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)


def shake_hands(connection: ssl.SSLSocket, deadline: float) -> None:
    """Do the handshake. Raise OSError, of which ssl.SSLError is one."""
    remaining = deadline - monotonic()
    if remaining <= 0:
        raise TimeoutError
    connection.settimeout(None if remaining == float("inf") else remaining)  # of the whole handshake
    connection.do_handshake()


def send_close_notify(connection: ssl.SSLSocket) -> None:
    """Tell the peer that what it got is all there is. The peer's own goodbye is not waited for."""
    deadline = monotonic() + _GOODBYE_TIME
    try:
        connection.settimeout(0)
        while True:
            try:
                connection.unwrap()
            except ssl.SSLWantWriteError:
                if not _wait_until_writable(connection, deadline):
                    return
            else:
                return
    except (OSError, ValueError):
        pass  # said, and not answered yet; or the peer, or the handler, has ended it already


def _wait_until_writable(connection: ssl.SSLSocket, deadline: float) -> bool:
    writable = select.poll()
    writable.register(connection, select.POLLOUT)
    return bool(writable.poll(max(0.0, 1000 * (deadline - monotonic()))))
