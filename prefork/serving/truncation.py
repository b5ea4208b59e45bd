"""Noticing datagrams that are longer than a server takes: the rest of them is lost, and their sender does not know."""

from __future__ import annotations

import math
from socket import MSG_DONTWAIT
from time import monotonic

from prefork.serving.pause import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_EPISODE = 60.0  # seconds without one after which another is news


class TruncationMixIn:
    """Put it in front of a datagram server. `truncated` counts the datagrams that were cut off."""

    truncated: int = 0
    receives_at_once: bool = True  # get_request() does not wait
    _last_truncated: float = -math.inf

    def get_request(self) -> tuple[Any, Any]:
        """Return the next datagram with the socket, and its sender's address."""
        # A byte more than is wanted shows it as well as MSG_TRUNC does, and costs nothing.
        data, answering, client_address = self._receive(self.max_packet_size + 1)
        if len(data) > self.max_packet_size:
            data = data[: self.max_packet_size]
            self._note_truncated(client_address)
        return (data, answering), client_address

    def _receive(self, size: int) -> tuple[bytes, Any, Any]:
        """Return the next datagram, what to answer it by, and its sender's address. Raise OSError."""
        data, client_address = self.socket.recvfrom(size, MSG_DONTWAIT)
        return data, self.socket, client_address

    def _note_truncated(self, client_address: object) -> None:
        now = monotonic()
        if now - self._last_truncated >= _EPISODE:
            warn(
                f"datagram cut off: {client_address!r} sent more than {self.max_packet_size} bytes; "
                "others are counted, and said again after a quiet minute"
            )
        self._last_truncated = now
        self.truncated += 1

    if TYPE_CHECKING:
        socket: Any
        max_packet_size: int
