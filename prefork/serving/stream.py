"""Servers of stream sockets: TCP and Unix. The request is the accepted connection."""

from __future__ import annotations

import socket

from prefork.serving.base import BaseServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class TCPServer(BaseServer):
    """A server that listens on a TCP address. With `bind_and_activate` false its socket is only made, not bound."""

    address_family: int = socket.AF_INET
    socket_type: int = socket.SOCK_STREAM
    request_queue_size: int = 5
    allow_reuse_address: bool = False
    allow_reuse_port: bool = False

    def __init__(
        self,
        server_address: Any,
        RequestHandlerClass: Callable[[Any, Any, Any], object],
        bind_and_activate: bool = True,
    ) -> None:
        """Make the socket, bind it and listen; close it if that fails. May be extended."""
        BaseServer.__init__(self, server_address, RequestHandlerClass)
        self.socket = socket.socket(self.address_family, self.socket_type)
        if bind_and_activate:
            try:
                self.server_bind()
                self.server_activate()
            except BaseException:
                self.server_close()
                raise

    def server_bind(self) -> None:
        """Bind the socket and take over the address it got. Called by the constructor; may be overridden."""
        if self.allow_reuse_address and hasattr(socket, "SO_REUSEADDR"):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Linux 6.12.9 and later refuse the option on other families (socket(7): EOPNOTSUPP).
        reusable = self.address_family in (socket.AF_INET, socket.AF_INET6)
        if self.allow_reuse_port and reusable and hasattr(socket, "SO_REUSEPORT"):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def server_activate(self) -> None:
        """Listen. Called by the constructor; may be overridden."""
        self.socket.listen(self.request_queue_size)

    def server_close(self) -> None:
        """Close the listener. May be overridden."""
        self.socket.close()

    def fileno(self) -> int:
        """Return the listener's descriptor: what the loop waits for."""
        return self.socket.fileno()

    def get_request(self) -> tuple[Any, Any]:
        """Return the next connection and its peer's address. May be overridden."""
        return self.socket.accept()

    def shutdown_request(self, request: Any) -> None:
        """Tell the peer that nothing more comes, and close the connection."""
        try:
            # Closing alone says so only when the last copy is gone, and somebody may have kept one.
            request.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the peer has gone already
        self.close_request(request)

    def close_request(self, request: Any) -> None:
        """Close this process's copy of the connection."""
        request.close()


if hasattr(socket, "AF_UNIX"):

    class UnixStreamServer(TCPServer):
        """A server that listens on a path or an abstract name."""

        address_family = socket.AF_UNIX
