"""Servers of datagram sockets: UDP and Unix. The request is a pair: the datagram and the socket to answer by."""

from __future__ import annotations

import socket

from prefork.serving.stream import TCPServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class UDPServer(TCPServer):
    """A server of datagrams. What is longer than `max_packet_size` is cut off."""

    socket_type: int = socket.SOCK_DGRAM
    allow_reuse_address: bool = False
    allow_reuse_port: bool = False
    max_packet_size: int = 8192

    def get_request(self) -> tuple[Any, Any]:
        """Return the next datagram with the socket, and its sender's address."""
        data, client_address = self.socket.recvfrom(self.max_packet_size)
        return (data, self.socket), client_address

    def server_activate(self) -> None:
        """Do nothing: a datagram socket does not listen."""

    def shutdown_request(self, request: Any) -> None:
        """End nothing: the socket goes on being the server's."""
        self.close_request(request)

    def close_request(self, request: Any) -> None:
        """Close nothing: the socket goes on being the server's."""


if hasattr(socket, "AF_UNIX"):

    class UnixDatagramServer(UDPServer):
        """A server of datagrams on a path or an abstract name."""

        address_family = socket.AF_UNIX
