"""A handler for connections that live long and say little: called for each message, it holds no thread in between."""

from __future__ import annotations

import socket
from io import DEFAULT_BUFFER_SIZE, BufferedReader, RawIOBase

from prefork.serving.handlers import StreamRequestHandler, _SocketWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from _typeshed import WriteableBuffer

    from prefork.serving.base import BaseServer
    from prefork.serving.conversation import Conversation


class MessageRequestHandler(StreamRequestHandler):
    """Serves a connection message by message: `handle_message()` is called when there is something to read.

    One object carries the connection from `setup()`, where a server that speaks first may write, to `finish()`; what it
    is to remember between messages are its attributes. A server with a pool of threads *parks* the connection while it
    waits for the next message: then it holds no thread and no buffer. With any other server it works the same and
    keeps its thread. What is written to a buffered `wfile` is sent after each message.

    Read with `rfile`. Who receives from `connection` itself sets `rbufsize = 0`, so that nothing is read ahead, and
    sets `close_connection` at the end of the file.

    A handler that overrides `hand_over()` and `take_over()` lets its parked connection move to another worker, where it
    goes on with another object when this worker is to leave. The client notices nothing.
    """

    close_connection: bool = False
    """To be set when the connection is to be ended after the present message."""

    _conversation: Conversation | None = None  # with a server that parks

    def __init__(self, request: Any, client_address: Any, server: BaseServer) -> None:
        self.request = request
        self.client_address = client_address
        self.server = server
        self.setup()
        self._converse()

    def handle_message(self) -> None:
        """Read one message, or what has come of it so far, and answer. To be overridden."""

    def hand_over(self) -> bytes | None:
        """Return what `take_over()` needs in another worker, at most 60,000 bytes; None: not before another message.

        Called between two messages when this worker is to leave and another one serves on; `finish()` is not called
        then. To be overridden.
        """
        return None

    def take_over(self, state: bytes) -> None:
        """Go on where `hand_over()` has left off, in a new object that has its files; `setup()` is not called.

        `state` may come from the code of another generation. If nobody could have the connection, this is called on the
        old object, which serves on. To be overridden.
        """

    def setup(self) -> None:
        """Make the files."""
        self._open_files()

    def _open_files(self) -> None:
        self.connection = self.request
        if self.timeout is not None:
            self.connection.settimeout(self.timeout)
        if self.disable_nagle_algorithm:
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.rfile = make_reader(self.connection, self.rbufsize)
        if self.wbufsize:
            self.wfile = self.connection.makefile("wb", self.wbufsize)
        else:
            self.wfile = _SocketWriter(self.connection)

    def handle(self) -> None:
        """Call `handle_message()` for each message, until the connection is parked or at its end."""
        while self._wait_for_message():
            self.handle_message()
            if self.wbufsize:
                self.wfile.flush()
            if self.close_connection:
                return

    def _converse(self) -> None:
        try:
            self.handle()
        finally:
            if self._conversation is None or not self._conversation.parked:
                self.finish()

    def _wait_for_message(self) -> bool:
        conversation = self._conversation
        if conversation is not None and not conversation.wait_for_message():
            return False
        if not at_end(self.rfile):
            return True
        if conversation is not None:
            conversation.note_end()
        return False


class ConnectionReader(RawIOBase):
    """The reading end of a connection. While it is `silent` it has nothing to give, so what is buffered can be told."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self.silent = False
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if self.silent:
            return None
        count: int = self._sock.recv_into(buffer)
        if not count:
            self.ended = True
        return count

    def fileno(self) -> int:
        descriptor: int = self._sock.fileno()
        return descriptor


def make_reader(connection: Any, buffer_bytes: int = -1) -> Any:
    """Return the connection as a file whose unread bytes can be told, and whose buffer can be released."""
    raw = ConnectionReader(connection)
    if buffer_bytes == 0:
        return raw
    return BufferedReader(raw, buffer_bytes if buffer_bytes > 0 else DEFAULT_BUFFER_SIZE)


def may_be_handed_over(handler_class: type[Any]) -> bool:
    """Say whether such a handler lets its connection move to another process."""
    own = getattr(handler_class, "hand_over", None)
    return own not in (None, MessageRequestHandler.hand_over) and callable(getattr(handler_class, "take_over", None))


def has_unread(rfile: Any) -> bool:
    """Say whether bytes that were read ahead wait in the file."""
    raw = getattr(rfile, "raw", None)
    if type(raw) is not ConnectionReader:
        return False
    raw.silent = True
    try:
        return bool(rfile.peek(1))
    finally:
        raw.silent = False


def at_end(rfile: Any) -> bool:
    """Wait until there is something to read, and say whether it is the end.

    Without a buffer nothing is read ahead, so that only an end which has been seen is known.
    """
    if isinstance(rfile, ConnectionReader):
        return rfile.ended
    try:
        return not rfile.peek(1)
    except (ConnectionError, TimeoutError):
        return True  # the peer left, or was silent for too long, between two messages: nobody to be told


def release_buffer(rfile: Any) -> None:
    """Give an empty file the smallest buffer. The object stays the same, because a handler may keep it elsewhere."""
    _set_buffer(rfile, 1)


def restore_buffer(rfile: Any, buffer_bytes: int) -> None:
    """Give it its buffer back."""
    _set_buffer(rfile, buffer_bytes if buffer_bytes > 0 else DEFAULT_BUFFER_SIZE)


def _set_buffer(rfile: Any, buffer_bytes: int) -> None:
    if type(rfile) is BufferedReader and type(rfile.raw) is ConnectionReader:
        rfile.__init__(rfile.raw, buffer_bytes)  # type: ignore[misc]  # initialised again, it frees the old buffer
