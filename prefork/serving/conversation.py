"""A connection that is served message by message, by one thread of a pool after the other.

While it is parked it may be handed over to another process, if its handler allows that: the connection as a descriptor,
and what the handler returns. Bytes that were read ahead never go along: who has some is not handed over yet.
"""

from __future__ import annotations

import logging
import socket
from time import monotonic

from prefork.serving.messages import has_unread, may_be_handed_over, release_buffer, restore_buffer
from prefork.serving.poolthread import went_idle

log = logging.getLogger("prefork.serving")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from prefork.serving.poolthread import PoolThread


class Conversation:
    """What there is of such a connection between two messages. Used by the thread that carries it, while one does."""

    __slots__ = (
        "_handler",
        "_pending",
        "accepted",
        "arriving",
        "client_address",
        "declined",
        "descriptor",
        "due",
        "hung_up",
        "kept",
        "leaving",
        "listener",
        "moved",
        "moving",
        "opened_at",
        "parked",
        "parked_at",
        "queued",
        "registered",
        "request",
        "server",
        "spoken",
        "state",
        "stays",
        "thread",
        "told",
        "unread",
    )

    def __init__(self, server: Any, request: Any, client_address: Any, listener: int, accepted: Any) -> None:
        self.server = server
        self.request = request
        self.client_address = client_address
        self.thread: PoolThread  # that carries it, or did last
        self.listener = listener
        self.accepted = accepted  # as it came from there; a stage may have wrapped it
        self.opened_at = monotonic()
        self._handler: Any = None  # while it lives, and until one has taken over
        self._pending = getattr(request, "pending", _nothing)  # what an SSLSocket has decrypted already
        self.parked = False  # or to be parked, when its thread comes back from it
        self.due = False  # its turn has come: there is something to read
        self.spoken = False  # a message has come
        self.unread = False  # it waits for its turn only, not for its client
        self.kept: object = None  # by the activity, while it is parked
        self.arriving = False  # from another process, and not carried yet
        self.state = b""  # for the handler that takes it over
        self.moved = False  # another process has it
        self.stays = False  # nobody else can take it
        self.declined = False  # its handler does not let it go before another message has come
        self.told = False  # its handler knows of the drain
        # The parking's and the pool's, under the pool's lock:
        self.leaving = False  # it is to be ended without waiting for another message
        self.moving = False  # it is to be handed over
        self.descriptor = -1
        self.registered = False
        self.queued = False
        self.hung_up = False  # its client sends nothing after what there is to read
        self.parked_at = 0.0

    def begin(self, handler_class: type[Any]) -> None:
        """Make the handler as calling its class does, but so that it knows that it may be parked."""
        handler = self._make(handler_class)
        try:
            type(handler).__init__(handler, self.request, self.client_address, self.server)
        except BaseException:
            self.parked = False
            raise
        finally:
            self._leave_thread()

    def _make(self, handler_class: type[Any]) -> Any:
        self._handler = handler = handler_class.__new__(handler_class, self.request, self.client_address, self.server)
        self._prepare(handler)
        if hasattr(handler_class, "on_drain"):
            handlers_at_work(self.server)[id(handler)] = handler
        return handler

    @property
    def may_move(self) -> bool:
        """Whether its handler may be asked to hand it over. What TLS knows of a connection cannot go along."""
        if self.stays or self.declined or type(self.request) is not socket.socket:
            return False
        return may_be_handed_over(type(self._handler))

    def go_on(self) -> None:
        """Do what it was taken up for, mostly to serve what has come; then it is parked again, or ended."""
        self.parked = False
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
            if self.moved:
                self.server.close_request(self.request)  # not shut down: that would end it for the other process, too
            elif not self.parked:
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
        if self._handler is None:
            self._take_over()
        elif self.leaving:
            self._handler.finish()
        elif self.moving:
            self._hand_over()
        else:
            self.due = True
            self.declined = False
            if not self.unread:
                restore_buffer(self._handler.rfile, self._handler.rbufsize)
            self._converse()

    def _hand_over(self) -> None:
        """Give it to whoever takes it; it is parked again if nobody does."""
        self.moving = False
        handler, ferry = self._handler, self.thread.pool.ferry
        assert ferry is not None  # the pool would not have chosen it
        state = handler.hand_over()
        if state is None:
            self.declined = True
            self._tell_of_drain()
        elif not isinstance(state, bytes):
            problem = f"{type(handler).__qualname__}.hand_over must return bytes or None, not {type(state).__name__}"
            raise TypeError(problem)
        elif ferry.send(self, state):
            self.moved = True
            handler.wfile.close()
            handler.rfile.close()
            return
        else:
            handler.take_over(state)
            if self.stays:
                self._tell_of_drain()
        self.parked = True

    def _tell_of_drain(self) -> None:
        """Tell the handler what others were told at once: its worker is leaving, and it does not get away, yet."""
        if not self.told and hasattr(self._handler, "on_drain"):
            self.told = True
            tell_of_drain(self._handler)

    def _take_over(self) -> None:
        """Make a handler that goes on where the one in another process was, and park it: it is between two messages."""
        # The flag in which a time-out shows came along with the descriptor, and this object knows nothing of it.
        self.request.settimeout(self.thread.pool.idle_timeout or None)
        handler = self._make(self.server.RequestHandlerClass)
        handler.request, handler.client_address, handler.server = self.request, self.client_address, self.server
        self._open_files(handler)
        self.descriptor = self.request.fileno()
        state, self.state = self.state, b""
        handler.take_over(state)
        self.parked = True

    def _open_files(self, handler: Any) -> None:
        handler._open_files()

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


def tell_of_drain(listener: Any, still: Callable[[], bool] = lambda: True) -> None:
    """Call its `on_drain()`. It need not be afraid: an exception is logged, if it is `still` of interest."""
    try:
        listener.on_drain()
    except Exception as error:
        # What has ended meanwhile need not hear, and whose client is gone need not say goodbye.
        if still() and not isinstance(error, ConnectionError):
            log.error("on_drain failed: %s: %s; the drain goes on", type(error).__name__, error, exc_info=error)


def handlers_at_work(server: Any) -> dict[int, Any]:
    """Return the handlers that want to hear of a drain, while they live. Changed in single steps, copied in one.

    By identity, as equality is the handler's own affair.
    """
    handlers: dict[int, Any] = vars(server).setdefault("_handlers_at_work", {})
    return handlers


def _nothing() -> int:
    return 0
