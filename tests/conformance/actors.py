"""The small honest objects that scenarios are played with: servers that note their calls, selectors with a script."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from tests.conformance.play import Trace

HOOKS = (
    "server_bind",
    "server_activate",
    "get_request",
    "verify_request",
    "process_request",
    "process_request_thread",
    "finish_request",
    "shutdown_request",
    "close_request",
    "handle_error",
    "handle_timeout",
    "service_actions",
    "collect_children",
    "server_close",
)
LOOPBACK = ("127.0.0.1", 0)
PATIENCE = 60  # seconds; reached only in failure
FOR_EVER = 3600.0  # as a poll interval: the loop is woken, or the test fails


def noting(trace: Trace, server_class: type, *, besides: Sequence[str] = ()) -> type:
    """Return a subclass that notes each call of a hook with the kinds of its arguments, and passes it on."""
    noted: dict[str, Any] = {}

    def wrap(name: str) -> Callable[..., Any]:
        def hook(self: Any, *args: Any, **options: Any) -> Any:
            trace.note(name, *map(kind, args), *sorted(options.items()))
            return getattr(super(result, self), name)(*args, **options)

        return hook

    for name in HOOKS:
        if hasattr(server_class, name) and name not in besides:
            noted[name] = wrap(name)
    result = type(server_class.__name__, (server_class,), noted)
    return result


def kind(value: object) -> str:
    """Name what a hook got, the same for both modules and all runs."""
    if isinstance(value, tuple):
        return f"({', '.join(map(kind, value))})"
    return type(value).__name__


def handler_noting(trace: Trace, base: Any, handle: Callable[[Any], object] = lambda handler: None) -> type:
    """Return a handler class that notes setup, handle and finish."""

    class Handler(base):  # type: ignore[misc]  # the base is a parameter
        def setup(self) -> None:
            trace.note("setup")
            super().setup()

        def handle(self) -> None:
            trace.note("handle")
            handle(self)

        def finish(self) -> None:
            trace.note("finish")
            super().finish()

    return Handler


def raising(error: type[BaseException]) -> Callable[..., Any]:
    """Return a function or method that raises whatever it is given."""

    def fail(*args: object, **options: object) -> None:
        raise error("on purpose")

    return fail


@contextmanager
def connected(server: Any) -> Iterator[socket.socket]:
    """A client whose connection waits in the server's queue."""
    with socket.socket(server.address_family, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE)
        client.connect(server.server_address)
        yield client


@contextmanager
def serving(server: Any, poll_interval: float = 0.01) -> Iterator[threading.Thread]:
    """Serve in another thread for the length of the block."""
    thread = threading.Thread(target=server.serve_forever, args=(poll_interval,), daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def scripted_selector(trace: Trace, *turns: Any) -> type:
    """Return a selector class whose waits go by a script: each turn says whether the server is ready.

    A turn that is callable is called and its result taken. Waits and what happens to the server's registration are
    noted; whatever else is registered never gets ready.
    """
    script = iter(turns)

    class ScriptedSelector:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            trace.note("selector closed")  # and everything in it forgotten

        def register(self, fileobj: Any, events: int) -> selectors.SelectorKey:
            key = selectors.SelectorKey(fileobj, 0, events, None)
            if hasattr(fileobj, "RequestHandlerClass"):
                trace.note("registered", events)
                self.key = key
            return key

        def unregister(self, fileobj: Any) -> None:
            if hasattr(fileobj, "RequestHandlerClass"):
                trace.note("unregistered")

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            trace.note("select", timeout)
            turn = next(script)
            ready = turn() if callable(turn) else turn
            return [(self.key, selectors.EVENT_READ)] if ready else []

    return ScriptedSelector


class Request:
    """A connection that notes what is done to it."""

    def __init__(self, trace: Trace, **failing: type[BaseException]) -> None:
        self._trace = trace
        self._failing = failing

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*args: object) -> None:
            self._trace.note(f"request.{name}", *args)
            if name in self._failing:
                raise self._failing[name]("on purpose")

        return call


def requests(server: Any, *pending: Any) -> None:
    """Let a server's get_request() return these, one a call, or raise them."""
    queue = iter(pending)

    def get_request() -> tuple[Any, str]:
        request = next(queue)
        if isinstance(request, BaseException):
            raise request
        return request, "client"

    server.get_request = get_request


def handle_next(server: Any, request: Any) -> Any:
    """Let the server take this request, or this failure of get_request(), in the way that its loops do."""
    requests(server, request)
    return server._handle_request_noblock()


def descriptors() -> int:
    """Count this process's open descriptors."""
    return len(os.listdir("/proc/self/fd"))
