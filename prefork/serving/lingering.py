"""Closing a connection whose peer has sent more than was read.

Closed at once it would be reset (RFC 9293, 3.10.4; RFC 2525, 2.17), and the reset may overtake the reply, or make the
peer throw away what it has not read of it. So the peer is told that nothing more comes, and what it still sends is
read and dropped, until it closes too, for a bounded time and amount: it shall not keep a thread by talking on.
"""

from __future__ import annotations

import fcntl
import socket
import termios
from time import monotonic

_LONGEST = 1.0  # seconds
_MOST_BYTES = 1 << 20
_PIECE = 1 << 16
_NOTHING = bytes(4)


def linger_if_unread(connection: socket.socket) -> None:
    """Return at once if nothing unread is there, else when the peer can be expected to have the reply."""
    try:
        # One system call without a copy or an exception (tcp(7), unix(7): SIOCINQ).
        if fcntl.ioctl(connection.fileno(), termios.FIONREAD, _NOTHING) == _NOTHING:
            return
        connection.shutdown(socket.SHUT_WR)
        _read_rest(connection)
    except (OSError, ValueError):
        pass  # the peer has gone, or does not; or the handler has closed the connection


def _read_rest(connection: socket.socket) -> None:
    deadline = monotonic() + _LONGEST
    for _ in range(_MOST_BYTES // _PIECE):
        connection.settimeout(max(0.001, deadline - monotonic()))
        if not connection.recv(_PIECE) or monotonic() >= deadline:
            return
