"""The handlers of the standard library's `http.server`, parked between requests although they know nothing of it.

Only those are parked for whom it makes no difference: `handle`, `setup` and `finish` are the library's own, and there
is no time-out which would end the connection between two requests.
"""

from __future__ import annotations

import sys

from prefork.serving.conversation import Conversation
from prefork.serving.messages import at_end, make_reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def is_parkable(handler_class: type[Any]) -> bool:
    """Say whether it is such a handler."""
    http_server = sys.modules.get("http.server")  # not loaded, it has no subclasses
    if http_server is None or not issubclass(handler_class, http_server.BaseHTTPRequestHandler):
        return False
    return (
        handler_class.handle is http_server.BaseHTTPRequestHandler.handle
        and handler_class.setup.__qualname__ == "StreamRequestHandler.setup"
        and handler_class.finish.__qualname__ == "StreamRequestHandler.finish"
        and handler_class.timeout is None
        and handler_class.rbufsize == -1
    )


class HttpConversation(Conversation):
    """A connection whose handler has methods of ours in place of two of its own."""

    __slots__ = ("_begun",)

    def _prepare(self, handler: Any) -> None:
        super()._prepare(handler)
        self._begun = False
        handler.handle = self._handle
        handler.finish = self._finish

    def _open_files(self, handler: Any) -> None:
        handler.setup()
        self._make_reader(handler)

    def _make_reader(self, handler: Any) -> None:
        self._begun = True
        handler.rfile.close()  # nothing has been read yet
        handler.rfile = make_reader(handler.connection)

    def _handle(self) -> None:
        """Do what BaseHTTPRequestHandler.handle does, request by request."""
        handler = self._handler
        if not self._begun:
            self._make_reader(handler)
        while self.wait_for_message():
            if at_end(handler.rfile):
                self.note_end()
                return
            handler.close_connection = True  # unless the request says otherwise
            handler.handle_one_request()
            if handler.close_connection:
                return

    def _finish(self) -> None:
        if not self.parked:
            type(self._handler).finish(self._handler)

    def _converse(self) -> None:
        try:
            self._handle()
        finally:
            self._finish()
