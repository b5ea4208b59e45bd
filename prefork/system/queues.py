"""What waits in a listener, as far as the kernel tells."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from prefork.system import unix_diag

_SO_MEMINFO = 55  # <asm-generic/socket.h>
_MEMINFO = struct.Struct("=9I")  # <linux/sock_diag.h>: bytes received and unread come first, drops last
# <linux/tcp.h>, struct tcp_info: of a listener, tcpi_unacked is what waits and tcpi_sacked how much may.
_TCP_INFO = struct.Struct("=24xII")


@dataclass(frozen=True, slots=True)
class Queue:
    """`waiting` connections of at most `limit`, or bytes of datagrams. None is what the kernel does not tell."""

    waiting: int | None = None
    limit: int | None = None
    drops: int | None = None
    """Connections or datagrams that the kernel refused because the queue was full."""


def queue_of(listener: socket.socket) -> Queue:
    """Return the queue of a listener; what the kernel does not tell of is None."""
    try:
        unread, allowed, *_, drops = _MEMINFO.unpack(listener.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
        if listener.type == socket.SOCK_DGRAM:
            return Queue(unread, allowed, drops if listener.family != socket.AF_UNIX else None)
        if listener.family == socket.AF_UNIX:
            return Queue(*(unix_diag.accept_queue(listener) or ()))
        told = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        waiting, limit = _TCP_INFO.unpack(told)
        return Queue(waiting, limit, drops)
    except (OSError, struct.error):
        return Queue()
