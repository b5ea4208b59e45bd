"""Servers whose requests are served by a pool of threads that accept for themselves."""

from __future__ import annotations

import functools
import logging
import os
import socket
import threading

from prefork.serving.asked import AskedMixIn
from prefork.serving.conversation import Conversation, handlers_at_work, tell_of_drain
from prefork.serving.datagram import UDPServer
from prefork.serving.http import HttpConversation, is_parkable
from prefork.serving.lingering import linger_if_unread
from prefork.serving.messages import MessageRequestHandler, may_be_handed_over
from prefork.serving.pool import IDLE_TIME, Pool
from prefork.serving.poolthread import current_pool_thread, went_idle
from prefork.serving.stream import TCPServer
from prefork.serving.truncation import TruncationMixIn
from prefork.serving.wait import Hold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

log = logging.getLogger("prefork.serving")


class ThreadPoolMixIn:
    """Serves requests in at most `threads` threads; while all are busy, connections wait in the listener's queue.

    Put it in front of a server class, ours or the standard library's. Run alone, `serve_forever()` keeps the pool while
    its own thread calls `service_actions()`. With `block_on_close`, `server_close()` waits for the open connections.
    """

    threads: int = 128
    thread_idle_time: float = IDLE_TIME
    idle_timeout: float = 0.0  # seconds that a connection may be silent, or parked; 0: for ever
    block_on_close: bool = True
    draining: bool = False  # true once nothing new is accepted: a handler may say goodbye

    _pool: Pool | None = None  # of the present or the last serve_forever()
    _finish_queue: bool = False  # whether serve_forever() serves what is queued before it returns
    _stop_asked: threading.Event | None = None
    _limits_peers: bool = False  # whether the pool counts connections for their peers; said by the pool

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve requests until `shutdown()`; connections that are open then go on in their threads."""
        self.draining = False
        self._pool = pool = self._start_pool()
        try:
            if hasattr(super(), "_hold_listener"):
                super().serve_forever(poll_interval)  # type: ignore[misc]  # of the server class this is mixed into
            else:
                self._stop_asked = threading.Event()
                _wait_for_shutdown(self, self._stop_asked, poll_interval)
        finally:
            pool.drain((0,) if self._finish_queue else ())
            call_on_drain(self)
            pool.part()
            pool.stopped.wait()

    def _start_pool(self) -> Pool:
        if getattr(self, "socket_type", None) != socket.SOCK_DGRAM:
            # The connection may have gone between the wait and the accept, which would then block.
            os.set_blocking(self.fileno(), False)
        pool = Pool(self.threads, idle_time=self.thread_idle_time, idle_timeout=self.idle_timeout)
        pool.add(self)
        pool.start()
        return pool

    def shutdown(self) -> None:
        """Stop `serve_forever()` and wait until it has returned."""
        if self._stop_asked is not None:
            self._BaseServer__shutdown_request = True  # before the wake-up: the loop looks only once
            self._stop_asked.set()
        super().shutdown()  # type: ignore[misc]  # of the server class this is mixed into

    def server_close(self) -> None:
        """Close the listener first, then wait for the open connections."""
        super().server_close()  # type: ignore[misc]  # of the server class this is mixed into
        pool = self._pool
        if self.block_on_close and pool is not None and not pool.accepting and _current_pool() is not pool:
            pool.ended.wait()

    def service_actions(self) -> None:
        """Look after the pool between the waits of `serve_forever()`."""
        super().service_actions()  # type: ignore[misc]  # of the server class this is mixed into
        if self._pool is not None:
            self._pool.tend()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve the request and end it; a connection with a message handler may be parked instead."""
        process = super().process_request  # type: ignore[misc]  # of the server class this is mixed into
        handler = self.RequestHandlerClass
        kind = conversation_kind(handler)
        if kind is None or not self._can_park(request):
            process(request, client_address)
            return
        thread = current_pool_thread()
        if thread is None:
            process(request, client_address)
            return
        thread.conversation = conversation = kind(self, request, client_address, thread.listener, thread.accepted)
        conversation.thread = thread
        try:
            conversation.begin(handler)
        except BaseException as error:
            thread.failed = not went_idle(error)
            raise
        if not conversation.parked:
            self.shutdown_request(request)

    def take_over(self, request: Any, client_address: Any, listener: int) -> Conversation | None:
        """Return another process's parked connection as one of this server's, if its handler can go on with it."""
        handler = self.RequestHandlerClass
        kind = conversation_kind(handler)
        if kind is None or not may_be_handed_over(handler) or not self._can_park(request):
            return None
        return kind(self, request, client_address, listener, request)

    def _can_park(self, request: Any) -> bool:
        """Say whether nobody's own code expects the connection to be over when its handler returns."""
        return (
            type(self.RequestHandlerClass).__call__ is type.__call__
            and isinstance(request, socket.socket)
            and super().process_request.__qualname__ == "BaseServer.process_request"  # type: ignore[misc]  # as above
            and type(self).finish_request is ThreadPoolMixIn.finish_request
            and super().finish_request.__qualname__ == "BaseServer.finish_request"  # type: ignore[misc]  # as above
        )

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve the request by making a handler; one that wants to hear of a drain is known while it lives."""
        serve = super().finish_request  # type: ignore[misc]  # of the server class this is mixed into
        try:
            if hasattr(self.RequestHandlerClass, "on_drain") and serve.__qualname__ == "BaseServer.finish_request":
                _serve_listed(self, request, client_address)
            else:
                serve(request, client_address)
        except BaseException as error:
            thread = current_pool_thread()
            if thread is not None and not went_idle(error):
                thread.failed = True
            raise

    def shutdown_request(self, request: Any) -> None:
        """End the request in an orderly way, so that its peer can read what was sent to it."""
        if isinstance(request, socket.socket):
            if self._limits_peers:
                _release_peer()
            linger_if_unread(request)
        super().shutdown_request(request)  # type: ignore[misc]  # of the server class this is mixed into

    def tag(self, text: str) -> None:
        """Show a text beside the request that the calling thread serves."""
        thread = current_pool_thread()
        if thread is not None:
            thread.pool.activity.tagged(thread.row, text)

    def extend_deadline(self, seconds: float) -> None:
        """Let the request that the calling thread serves take at least `seconds` from now, whatever handler_timeout."""
        thread = current_pool_thread()
        if thread is not None:
            thread.pool.activity.extended(thread.row, seconds)

    def _hold_listener(self) -> Hold:
        """Leave the listener out of the wait of `serve_forever()`: the pool waits for it."""
        return Hold(None)

    if TYPE_CHECKING:
        RequestHandlerClass: Any
        _BaseServer__shutdown_request: bool

        def fileno(self) -> int: ...
        def shutdown_request(self, request: Any) -> None: ...


class ThreadPoolTCPServer(ThreadPoolMixIn, TCPServer):
    pass


class ThreadPoolUDPServer(AskedMixIn, TruncationMixIn, ThreadPoolMixIn, UDPServer):
    pass


if hasattr(socket, "AF_UNIX"):
    from prefork.serving.datagram import UnixDatagramServer
    from prefork.serving.stream import UnixStreamServer

    class ThreadPoolUnixStreamServer(ThreadPoolMixIn, UnixStreamServer):
        pass

    class ThreadPoolUnixDatagramServer(TruncationMixIn, ThreadPoolMixIn, UnixDatagramServer):
        pass


def call_on_drain(server: Any, moving: bool = False) -> None:
    """Tell a server, and the handlers of its open connections, that nothing new is accepted: those that want to know.

    With `moving`, not those whose connections are handed over. A handler may be told before it is set up. It need not
    be afraid: an exception is logged.
    """
    if hasattr(type(server), "on_drain"):
        tell_of_drain(server)
    handlers: dict[int, Any] = getattr(server, "_handlers_at_work", {})
    for handler in handlers.copy().values():
        conversation: Conversation | None = getattr(handler, "_conversation", None)
        if not (moving and conversation is not None and conversation.may_move):
            tell_of_drain(handler, functools.partial(handlers.__contains__, id(handler)))


def _serve_listed(server: Any, request: Any, client_address: Any) -> None:
    """Make the handler in two steps, as calling its class does, so that it is known before it serves."""
    handler_class = server.RequestHandlerClass
    if not isinstance(handler_class, type) or type(handler_class).__call__ is not type.__call__:
        handler_class(request, client_address, server)
        return
    handler: Any = handler_class.__new__(handler_class, request, client_address, server)
    if not isinstance(handler, handler_class):
        return
    handlers = handlers_at_work(server)
    handlers[id(handler)] = handler
    try:
        type(handler).__init__(handler, request, client_address, server)  # type: ignore[call-arg]  # as a handler has
    finally:
        del handlers[id(handler)]


def conversation_kind(handler: Any) -> type[Conversation] | None:
    """Return how the connections of such a handler are parked between messages, if they can be."""
    if not isinstance(handler, type):
        return None
    if issubclass(handler, MessageRequestHandler):
        return Conversation
    return HttpConversation if is_parkable(handler) else None


def _release_peer() -> None:
    """Count the calling thread's connection for its peer no longer."""
    thread = current_pool_thread()
    if thread is not None and thread.pool.admission is not None:
        thread.pool.admission.release_peer(thread.accepted)


def _current_pool() -> Pool | None:
    thread = current_pool_thread()
    return None if thread is None else thread.pool


def _wait_for_shutdown(server: Any, asked: threading.Event, poll_interval: float) -> None:
    """Stand in for the loop of the standard library's `BaseServer`, which would accept for itself."""
    server._BaseServer__is_shut_down.clear()
    try:
        while not server._BaseServer__shutdown_request:
            asked.wait(poll_interval)
            if not server._BaseServer__shutdown_request:
                server.service_actions()
    finally:
        server._BaseServer__shutdown_request = False
        server._BaseServer__is_shut_down.set()
