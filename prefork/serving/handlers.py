"""Request handlers: what a user writes. One is made for each request, and its making is the serving of the request."""

from __future__ import annotations

import socket
from io import BufferedIOBase, BytesIO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket as Socket
    from typing import Any

    from _typeshed import ReadableBuffer

    from prefork.serving.base import BaseServer


class BaseRequestHandler:
    """Serves one request while it is made: `setup()`, `handle()`, and `finish()` whatever `handle()` did.

    If `setup()` raises, neither of the others is called.
    """

    request: Any
    client_address: Any
    server: BaseServer

    def __init__(self, request: Any, client_address: Any, server: BaseServer) -> None:
        self.request = request
        self.client_address = client_address
        self.server = server
        self.setup()
        try:
            self.handle()
        finally:
            self.finish()

    def setup(self) -> None:
        """Get ready. May be overridden."""

    def handle(self) -> None:
        """Serve the request. To be overridden."""

    def finish(self) -> None:
        """Clean up. May be overridden."""


class StreamRequestHandler(BaseRequestHandler):
    """Reads the connection as the file `rfile` and writes it as the file `wfile`.

    `timeout` seconds, if not None, is the connection's time-out. `wfile` sends at once unless `wbufsize` asks for a
    buffer, which goes well with `disable_nagle_algorithm`.
    """

    rbufsize: int = -1
    wbufsize: int = 0
    timeout: float | None = None
    disable_nagle_algorithm: bool = False

    connection: Any
    rfile: BufferedIOBase
    wfile: BufferedIOBase

    def setup(self) -> None:
        """Make the files."""
        self.connection = self.request
        if self.timeout is not None:
            self.connection.settimeout(self.timeout)
        if self.disable_nagle_algorithm:
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.rfile = self.connection.makefile("rb", self.rbufsize)
        if self.wbufsize:
            self.wfile = self.connection.makefile("wb", self.wbufsize)
        else:
            self.wfile = _SocketWriter(self.connection)

    def finish(self) -> None:
        """Send what is buffered and close the files."""
        if not self.wfile.closed:
            try:
                self.wfile.flush()
            except OSError:
                pass  # the peer has gone; what was buffered has nobody to go to
        self.wfile.close()
        self.rfile.close()


class _SocketWriter(BufferedIOBase):
    """The writing end of a connection as a file without a buffer: a write returns when all of it is sent."""

    def __init__(self, sock: Socket) -> None:
        self._sock = sock

    def writable(self) -> bool:
        return True

    def write(self, b: ReadableBuffer) -> int:
        self._sock.sendall(b)
        with memoryview(b) as view:
            return view.nbytes

    def fileno(self) -> int:
        return self._sock.fileno()


class DatagramRequestHandler(BaseRequestHandler):
    """Reads the datagram as the file `rfile`; what is written to `wfile` becomes the answer, even if it is empty."""

    packet: bytes
    rfile: BufferedIOBase
    wfile: BufferedIOBase

    def setup(self) -> None:
        """Make the files."""
        self.packet, self.socket = self.request
        self.rfile = BytesIO(self.packet)
        self.wfile = BytesIO()

    def finish(self) -> None:
        """Send the answer."""
        answer = self.wfile.getvalue()  # type: ignore[attr-defined]  # a BytesIO, but promised as any buffered file
        self.socket.sendto(answer, self.client_address)
