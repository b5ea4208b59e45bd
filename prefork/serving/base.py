"""The heart of every server: wait for a request, take it through the hooks, look after itself, until told to stop.

Behaves as the standard library's `socketserver.BaseServer`, hook by hook. It differs where nobody can object:
`shutdown()` ends the wait at once and may be called by the serving thread itself, and a lack of descriptors or memory
makes the listener rest instead of the loop spin.

One request passes: get_request, verify_request, process_request, finish_request, the handler, shutdown_request,
close_request. Every policy attribute is read when it is used, so it may be changed on an instance or a class at any
time.
"""

from __future__ import annotations

import selectors
import sys
import threading
from time import monotonic as time

from prefork.serving.pause import EXHAUSTED, AcceptPause
from prefork.serving.report import failure_text
from prefork.serving.wait import Hold, ListenerWait, Wakeup, shorter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self

# Poll and select need no descriptor of their own and one system call a wait. Looked up at each use: code outside
# replaces it.
_ServerSelector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)


class BaseServer:
    """A server without a socket: the loop and the hooks.

    A subclass brings `fileno()`, `get_request()`, and `socket` if `handle_request()` is to be used. A request is
    whatever `get_request()` returns first, and a handler class any callable that takes a request, the client's address
    and the server: handlers may as well derive from the standard library's.
    """

    timeout: float | None = None
    server_address: Any
    RequestHandlerClass: Callable[[Any, Any, Any], object]

    _log_error: Callable[[BaseException | None, Any, Any], object] | None = None

    __wakeup: Wakeup | None = None  # written by the serving thread, there only while it serves
    # Written by the serving thread, and left: a signal handler that runs in it after the loop must not wait for it.
    __serving_thread: int | None = None
    __pause: AcceptPause | None = None  # the serving thread's own

    def __init__(self, server_address: Any, RequestHandlerClass: Callable[[Any, Any, Any], object]) -> None:
        """Store the address and the handler class. May be extended."""
        self.server_address = server_address
        self.RequestHandlerClass = RequestHandlerClass
        self.__is_shut_down = threading.Event()
        self.__shutdown_request = False

    def server_activate(self) -> None:
        """Begin to listen. Called by the constructor; may be overridden."""

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve requests until `shutdown()`.

        Calls `service_actions()` after every wait, at the latest after `poll_interval` seconds. Ignores `timeout`. May
        be called again after it has returned.
        """
        self.__serving_thread = threading.get_ident()
        self.__is_shut_down.clear()
        try:
            with _ServerSelector() as selector, Wakeup() as wakeup:
                self.__wakeup = wakeup  # before the flag is read: who sets it later also wakes
                self.__serve(ListenerWait(selector, self, wakeup), poll_interval)
        finally:
            self.__wakeup = None
            self.__shutdown_request = False
            self.__is_shut_down.set()

    def __serve(self, wait: ListenerWait, poll_interval: float) -> None:
        while not self.__shutdown_request:
            ready = wait.for_request(self._select_timeout(poll_interval), self._hold_listener())
            if self.__shutdown_request:
                return  # type: ignore[unreachable]  # set meanwhile; a request that came with it stays in the queue
            if ready:
                self._handle_request_noblock()
            self.service_actions()

    def shutdown(self) -> None:
        """Stop `serve_forever()` and wait until it has returned.

        If it has not been called yet, wait until it has been, and has returned at once. Called by the thread that
        serves, only give the order.
        """
        self.__shutdown_request = True
        wakeup = self.__wakeup
        if wakeup is not None:
            wakeup.wake()
        if self.__serving_thread != threading.get_ident():
            self.__is_shut_down.wait()

    def service_actions(self) -> None:
        """Do what is due besides requests. Called by `serve_forever()` after every wait; may be overridden."""

    def handle_request(self) -> Any:
        """Serve one request. If none comes within `timeout` (or the socket's own), call `handle_timeout()`."""
        timeout = shorter(self.socket.gettimeout(), self.timeout)  # type: ignore[attr-defined]  # a subclass brings it
        deadline = None if timeout is None else time() + timeout
        with _ServerSelector() as selector:
            wait = ListenerWait(selector, self)
            while True:
                if wait.for_request(timeout, BaseServer._hold_listener(self)):
                    return self._handle_request_noblock()
                if deadline is not None:
                    timeout = deadline - time()
                    if timeout < 0:
                        return self.handle_timeout()

    def _handle_request_noblock(self) -> None:
        """Take the request that is waiting, if it still is, and serve it."""
        try:
            request, client_address = self.get_request()
        except OSError as error:
            self.__note_failure(error)
            return
        if self.__pause is not None:
            self.__pause.succeeded(self.server_address)
            self.__pause = None
        self._serve_request(request, client_address)

    def _serve_request(self, request: Any, client_address: Any) -> Exception | None:
        """Take a request through every hook after `get_request()`; return the error that was handled, if there was."""
        if not self.verify_request(request, client_address):
            self.shutdown_request(request)
            return None
        try:
            self.process_request(request, client_address)
        except Exception as error:
            self.handle_error(request, client_address)
            self.shutdown_request(request)
            return error
        except BaseException:
            self.shutdown_request(request)
            raise
        return None

    def __note_failure(self, error: OSError) -> None:
        """Let the listener rest if the system is exhausted. Any other failure means that the request has gone."""
        if error.errno in EXHAUSTED:
            if self.__pause is None:
                self.__pause = AcceptPause()
            self.__pause.failed(error, self.server_address, time())

    def _hold_listener(self) -> Hold | None:
        """Say whether the listener must be left out of the next wait."""
        remaining = self.__pause.remaining(time()) if self.__pause is not None else 0
        return Hold(remaining) if remaining else None

    def _select_timeout(self, poll_interval: float) -> float | None:
        """Return how long the next wait of `serve_forever()` may last; None is for ever."""
        return poll_interval

    def handle_timeout(self) -> Any:
        """Called by `handle_request()` when no request came in time. May be overridden."""

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether the request is to be served. May be overridden."""
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve the request and end it. The mix-ins do so in another process or thread."""
        self.finish_request(request, client_address)
        self.shutdown_request(request)

    def server_close(self) -> None:
        """Give back what the server owns. May be overridden."""

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve the request by making a handler."""
        self.RequestHandlerClass(request, client_address, self)

    def shutdown_request(self, request: Any) -> None:
        """End the request in an orderly way and close it."""
        self.close_request(request)

    def close_request(self, request: Any) -> None:
        """Close this process's copy of the request."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report the exception being handled, on standard error, with the client's address. May be overridden."""
        # The class's own is not asked through the instance, which would bind a function to it.
        log_error = vars(self).get("_log_error", type(self)._log_error)
        if log_error is not None:
            log_error(sys.exc_info()[1], client_address, self)
        elif sys.stderr is not None:
            sys.stderr.write(failure_text(client_address))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.server_close()

    if TYPE_CHECKING:

        def fileno(self) -> int: ...
        def get_request(self) -> tuple[Any, Any]: ...
