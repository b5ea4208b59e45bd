"""A connection that is served message by message, by one thread of a pool after the other."""

from __future__ import annotations

from prefork.serving.messages import has_unread, release_buffer, restore_buffer
from prefork.serving.poolthread import went_idle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from prefork.serving.poolthread import PoolThread


class Conversation:
    """What there is of such a connection between two messages. Used by the thread that carries it, while one does."""

    __slots__ = (
        "_handler",
        "_pending",
        "accepted",
        "client_address",
        "descriptor",
        "due",
        "hung_up",
        "kept",
        "leaving",
        "listener",
        "parked",
        "parked_at",
        "queued",
        "registered",
        "request",
        "server",
        "spoken",
        "thread",
        "unread",
    )

    def __init__(self, server: Any, request: Any, client_address: Any, thread: PoolThread) -> None:
        self.server = server
        self.request = request
        self.client_address = client_address
        self.thread = thread  # that carries it, or did last
        self.listener = thread.listener
        self.accepted = thread.accepted  # as it came from there; a stage may have wrapped it
        self._handler: Any = None
        self._pending = getattr(request, "pending", _nothing)  # what an SSLSocket has decrypted already
        self.parked = False  # or to be parked, when its thread comes back from it
        self.due = False  # its turn has come: there is something to read
        self.spoken = False  # a message has come
        self.unread = False  # it waits for its turn only, not for its client
        self.kept: object = None  # by the activity, while it is parked
        # The parking's and the pool's, under the pool's lock:
        self.leaving = False  # it is to be ended without waiting for another message
        self.descriptor = -1
        self.registered = False
        self.queued = False
        self.hung_up = False  # its client sends nothing after what there is to read
        self.parked_at = 0.0

    def begin(self, handler_class: type[Any]) -> None:
        """Make the handler as calling its class does, but so that it knows that it may be parked."""
        self._handler = handler = handler_class.__new__(handler_class, self.request, self.client_address, self.server)
        self._prepare(handler)
        if hasattr(handler_class, "on_drain"):
            handlers_at_work(self.server)[id(handler)] = handler
        try:
            type(handler).__init__(handler, self.request, self.client_address, self.server)
        except BaseException:
            self.parked = False
            raise
        finally:
            self._leave_thread()

    def go_on(self) -> None:
        """Serve what has come since it was parked; then it is parked again, or ended."""
        self.parked = False
        self.due = True
        try:
            self._serve()
        except Exception as error:
            self.parked = False
            self.thread.failed = not went_idle(error)
            self.server.handle_error(self.request, self.client_address)
            self.server.shutdown_request(self.request)
        except BaseException:
            self.parked = False
            self.server.shutdown_request(self.request)
            raise
        else:
            if not self.parked:
                self.server.shutdown_request(self.request)
        finally:
            self._leave_thread()

    def wait_for_message(self) -> bool:
        """Say whether there is something to read now; if not, the connection is parked or over."""
        self.unread = has_unread(self._handler.rfile) or bool(self._pending())
        return self.thread.pool.await_message(self.thread, self)

    def note_end(self) -> None:
        """Tell that what could be read was the end, and no message."""
        self.thread.pool.activity.message_ended(self.thread.row, served=False)

    def _serve(self) -> None:
        if self.leaving:
            self._handler.finish()
        else:
            if not self.unread:
                restore_buffer(self._handler.rfile, self._handler.rbufsize)
            self._converse()

    def _prepare(self, handler: Any) -> None:
        handler._conversation = self

    def _converse(self) -> None:
        self._handler._converse()

    def _leave_thread(self) -> None:
        if not self.parked:
            handlers_at_work(self.server).pop(id(self._handler), None)
            self._handler = None  # which knows us, too
        elif not self.unread:
            release_buffer(self._handler.rfile)


def handlers_at_work(server: Any) -> dict[int, Any]:
    """Return the handlers that want to hear of a drain, while they live. Changed in single steps, copied in one.

    By identity, as equality is the handler's own affair.
    """
    handlers: dict[int, Any] = vars(server).setdefault("_handlers_at_work", {})
    return handlers


def _nothing() -> int:
    return 0
