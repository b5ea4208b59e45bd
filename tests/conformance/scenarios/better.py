"""What our module does better: here the traces are expected to differ, see differences.py."""

import errno
import logging
import selectors
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.conformance.actors import Request, connected, noting, requests, scripted_selector, serving
from tests.conformance.play import Trace, replaced, scenario, scenarios


def a_server(module: Any, trace: Trace) -> Any:
    server = noting(trace, module.BaseServer, besides=("verify_request", "process_request", "shutdown_request"))
    server.fileno = lambda self: 0  # type: ignore[attr-defined]  # the class is made at run time
    return server("an address", lambda *args: trace.note("handler"))


class SelfWaiting(threading.Event):
    """Stands for the event of shutdown() where the only thread that could set it would wait for it."""

    def wait(self, timeout: float | None = None) -> bool:
        raise RuntimeError("waits for itself for ever")


@scenario
def shutdown_may_be_called_by_the_serving_thread(module: Any, trace: Trace) -> None:
    server = a_server(module, trace)
    server._BaseServer__is_shut_down = SelfWaiting()
    server.RequestHandlerClass = lambda request, client_address, server: server.shutdown()
    server.handle_error = lambda *args: trace.note(repr(sys.exc_info()[1]))
    requests(server, Request(trace))
    with replaced(module, _ServerSelector=scripted_selector(trace, True, False)):
        server.serve_forever()


@scenario
def the_loop_waits_for_its_listener_and_a_wake_up(module: Any, trace: Trace) -> None:
    class Selector(selectors.DefaultSelector):
        def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
            trace.note(type(fileobj).__name__, events)
            return super().register(fileobj, events, data)

    with module.TCPServer(("127.0.0.1", 0), lambda request, *_: request.sendall(b"x")) as server:
        with replaced(module, _ServerSelector=Selector), serving(server), connected(server) as client:
            client.recv(1)


@contextmanager
def standing_clock(module: Any, trace: Trace) -> Iterator[list[float]]:
    """Let time pass only when the scenario says so, and note what is logged."""
    now = [0.0]
    handler = logging.Handler()
    handler.emit = lambda record: trace.note(record.levelname, record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("prefork.serving")
    logger.addHandler(handler)
    try:
        with replaced(module, time=lambda: now[0]):
            yield now
    finally:
        logger.removeHandler(handler)


@scenario
def a_listener_rests_while_descriptors_are_short(module: Any, trace: Trace) -> None:
    def quarter_later(ready: bool) -> Any:
        now[0] += 0.25
        return ready

    def stop() -> None:
        server._BaseServer__shutdown_request = True

    server = a_server(module, trace)
    short = OSError(errno.EMFILE, "Too many open files")
    requests(server, short, short, Request(trace))
    turns = (True, lambda: quarter_later(False), True, lambda: quarter_later(False), True, stop)
    with standing_clock(module, trace) as now, replaced(module, _ServerSelector=scripted_selector(trace, *turns)):
        server.serve_forever()


@scenarios(("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EAGAIN", "ECONNABORTED", "EPERM"))
def a_failure_that_may_make_the_listener_rest(module: Any, trace: Trace, name: str) -> None:
    def stop() -> None:
        server._BaseServer__shutdown_request = True

    server = a_server(module, trace)
    requests(server, OSError(getattr(errno, name), "a reason"))
    with standing_clock(module, trace), replaced(module, _ServerSelector=scripted_selector(trace, True, stop)):
        server.serve_forever()


@scenario
def handle_request_leaves_a_resting_listener_out(module: Any, trace: Trace) -> None:
    def quarter_later() -> None:
        now[0] += 0.25

    server = a_server(module, trace)
    server.timeout = 10
    server.socket = type("Socket", (), {"gettimeout": lambda self: None})()
    requests(server, OSError(errno.EMFILE, "Too many open files"), Request(trace))
    turns = (True, quarter_later, True)
    with standing_clock(module, trace) as now, replaced(module, _ServerSelector=scripted_selector(trace, *turns)):
        server.handle_request()
        server.handle_request()
