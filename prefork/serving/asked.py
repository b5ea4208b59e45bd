"""The address that a datagram was sent to: its answer has to come from there.

A server at a wildcard address answers from whichever of the machine's addresses the route suggests, and a client that
asked another one drops that answer. IP_PKTINFO says of each datagram where it was sent to, and takes an address to send
from (ip(7); for IPv6 RFC 3542, section 6.2). A listener with one address is spared both.
"""

from __future__ import annotations

import errno
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from _typeshed import ReadableBuffer

_IP_PKTINFO = 8  # <linux/in.h>; Python 3.11 does not name it
_V4 = struct.Struct("=I4s4s")  # struct in_pktinfo: interface, our address, the one in the header
_V6 = struct.Struct("=16sI")  # struct in6_pktinfo: the address in the header, interface
_ANCILLARY_BYTES = socket.CMSG_SPACE(max(_V4.size, _V6.size))
_NO_SOURCE = frozenset({errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH})

Ancillary = tuple[int, int, bytes]


class Answering:
    """The listener as the handler of one datagram has it: what it sends comes from the address that was asked."""

    __slots__ = ("_listener", "_source")

    def __init__(self, listener: Any, source: Ancillary) -> None:
        self._listener = listener
        self._source = source

    def sendto(self, data: ReadableBuffer, flags: Any, address: Any = None) -> int:
        """Send as a socket does, `sendto(data, address)` or `sendto(data, flags, address)`; return the bytes sent."""
        if address is None:
            flags, address = 0, flags
        try:
            sent: int = self._listener.sendmsg([data], [self._source], flags, address)
        except OSError as error:
            if error.errno not in _NO_SOURCE:
                raise
            # Nobody can send from a group's or a broadcast address, nor from one that the machine has no more.
            sent = self._listener.sendto(data, flags, address)
        return sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


class AskedMixIn:
    """Put it in front of a UDP server that receives by `_receive()`."""

    _tells_asked: bool = False

    def server_activate(self) -> None:
        """Have the kernel tell where each datagram was sent to, if the listener has several addresses."""
        super().server_activate()  # type: ignore[misc]  # of the server class this is mixed into
        if self.socket.family == socket.AF_INET and self.socket.getsockname()[0] == "0.0.0.0":
            self.socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            self._tells_asked = True
        elif self.socket.family == socket.AF_INET6 and self.socket.getsockname()[0] == "::":
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            self._tells_asked = True

    def _receive(self, size: int) -> tuple[bytes, Any, Any]:
        if not self._tells_asked:
            received: tuple[bytes, Any, Any] = super()._receive(size)  # type: ignore[misc]  # as above
            return received
        data, ancillary, _, client_address = self.socket.recvmsg(size, _ANCILLARY_BYTES, socket.MSG_DONTWAIT)
        source = next((found for each in ancillary if (found := _source_of(*each))), None)
        return data, self.socket if source is None else Answering(self.socket, source), client_address

    if TYPE_CHECKING:
        socket: Any


def _source_of(level: int, kind: int, data: bytes) -> Ancillary | None:
    """Turn what came with a datagram into what goes with its answer; the route is not to depend on the interface."""
    if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(data) == _V4.size:
        _, ours, _ = _V4.unpack(data)
        return level, kind, _V4.pack(0, ours, bytes(4))
    if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(data) == _V6.size:
        asked, interface = _V6.unpack(data)
        is_link_local = asked[0] == 0xFE and asked[1] & 0xC0 == 0x80  # such an address means nothing elsewhere
        return level, kind, _V6.pack(asked, interface if is_link_local else 0)
    return None
