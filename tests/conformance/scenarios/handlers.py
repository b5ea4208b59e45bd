"""Request handlers."""

import array
import io
import socket
from typing import Any

from tests.conformance.actors import LOOPBACK, PATIENCE, connected, handler_noting, raising
from tests.conformance.play import Trace, scenario, scenarios


class Connection:
    """A connection that notes what a handler does to it, and makes files that note."""

    def __init__(self, trace: Trace, **failing: type[BaseException]) -> None:
        self.trace = trace
        self.failing = failing

    def settimeout(self, timeout: float) -> None:
        self.trace.note("settimeout", timeout)

    def setsockopt(self, *option: Any) -> None:
        self.trace.note("setsockopt", *option)

    def sendall(self, data: Any) -> None:
        self.trace.note("sendall", bytes(data))

    def makefile(self, *args: Any) -> "File":
        self.trace.note("makefile", *args)
        return File(self)


class File:
    closed = False

    def __init__(self, connection: Connection) -> None:
        self.trace = connection.trace
        self.failing = connection.failing

    def _note(self, name: str) -> None:
        self.trace.note(name)
        if name in self.failing:
            raise self.failing[name]("on purpose")

    def flush(self) -> None:
        self._note("flush")

    def close(self) -> None:
        self._note("close")


@scenario
def a_handler_is_set_up_handles_and_finishes(module: Any, trace: Trace) -> None:
    handler = handler_noting(trace, module.BaseRequestHandler)("request", "client", "server")
    trace.note(handler.request, handler.client_address, handler.server)


@scenario
def a_plain_handler_does_nothing(module: Any, trace: Trace) -> None:
    handler = module.BaseRequestHandler("request", "client", "server")
    trace.note(handler.setup(), handler.handle(), handler.finish())


@scenarios((ValueError, SystemExit))
def after_a_failed_setup_neither_handle_nor_finish_is_called(module: Any, trace: Trace, error: Any) -> None:
    handler = type("Handler", (handler_noting(trace, module.BaseRequestHandler),), {"setup": raising(error)})
    with trace.noting_raise():
        handler("request", "client", "server")


@scenarios((ValueError, SystemExit))
def after_a_failed_handle_finish_is_called(module: Any, trace: Trace, error: type[BaseException]) -> None:
    with trace.noting_raise():
        handler_noting(trace, module.BaseRequestHandler, raising(error))("request", "client", "server")


@scenario
def a_failed_finish_is_raised_with_the_failure_of_handle_as_its_context(module: Any, trace: Trace) -> None:
    base = handler_noting(trace, module.BaseRequestHandler, raising(ValueError))
    try:
        type("Handler", (base,), {"finish": raising(TypeError)})("request", "client", "server")
    except TypeError as error:
        trace.note("raised", type(error.__context__).__name__)


SETTINGS: list[dict[str, Any]] = [
    {},
    {"timeout": 5},
    {"timeout": 0},
    {"disable_nagle_algorithm": True},
    {"rbufsize": 0},
    {"rbufsize": 1000},
    {"wbufsize": -1},
    {"wbufsize": 1000},
    {"timeout": 2.5, "disable_nagle_algorithm": 1, "rbufsize": 1, "wbufsize": 1},
]


@scenarios(SETTINGS)
def a_stream_handler_prepares_its_connection(module: Any, trace: Trace, settings: dict[str, Any]) -> None:
    connection = Connection(trace)

    def handle(handler: Any) -> None:
        trace.note(handler.connection is connection, type(handler.rfile).__name__, type(handler.wfile).__name__)

    handler_noting(trace, type("Handler", (module.StreamRequestHandler,), settings), handle)(connection, None, None)


@scenarios((OSError, BrokenPipeError, ConnectionResetError, ValueError))
def a_failed_flush_at_the_end(module: Any, trace: Trace, error: type[Exception]) -> None:
    handler = type("Handler", (module.StreamRequestHandler,), {"wbufsize": -1})
    with trace.noting_raise():
        handler(Connection(trace, flush=error), None, None)


@scenarios((BrokenPipeError, ValueError))
def a_failed_close_at_the_end(module: Any, trace: Trace, error: type[Exception]) -> None:
    handler = type("Handler", (module.StreamRequestHandler,), {"wbufsize": -1})
    with trace.noting_raise():
        handler(Connection(trace, close=error), None, None)


@scenario
def a_file_closed_by_the_handler_is_not_flushed(module: Any, trace: Trace) -> None:
    def handle(handler: Any) -> None:
        handler.wfile.closed = True

    base = type("Handler", (module.StreamRequestHandler,), {"wbufsize": -1})
    handler_noting(trace, base, handle)(Connection(trace), None, None)


@scenario
def the_files_are_closed_and_the_connection_left_open(module: Any, trace: Trace) -> None:
    one, other = socket.socketpair()
    with one, other:
        handler = module.StreamRequestHandler(one, None, None)
        trace.note(handler.rfile.closed, handler.wfile.closed, one.fileno() >= 0)
        one.sendall(b"still open")
        trace.note(other.recv(20))


@scenario
def a_broken_pipe_of_a_buffered_file_reaches_the_server(module: Any, trace: Trace) -> None:
    one, other = socket.socketpair()

    class Handler(module.StreamRequestHandler):  # type: ignore[misc]  # the module is a parameter
        wbufsize = -1

        def handle(self) -> None:
            handlers.append(self)
            self.wfile.write(b"nobody reads this")

    handlers: list[Any] = []
    other.close()
    with one, trace.noting_raise():
        Handler(one, None, None)
    trace.note("closed", handlers[0].rfile.closed)
    handlers[0].rfile.close()


@scenario
def the_unbuffered_file_sends_at_once_and_says_how_much(module: Any, trace: Trace) -> None:
    def handle(handler: Any) -> None:
        writer = handler.wfile
        trace.note(isinstance(writer, io.BufferedIOBase), writer.writable(), writer.readable(), writer.closed)
        for data in (b"bytes", bytearray(b"more"), memoryview(b"view")[1:], array.array("I", [1, 2, 3]), b""):
            trace.note(writer.write(data))
        with trace.noting_raise():
            writer.write("text")

    handler_noting(trace, module.StreamRequestHandler, handle)(Connection(trace), None, None)


@scenario
def the_unbuffered_file_has_the_descriptor_of_the_connection(module: Any, trace: Trace) -> None:
    one, other = socket.socketpair()
    with one, other:
        base = module.StreamRequestHandler
        handler_noting(trace, base, lambda handler: trace.note(handler.wfile.fileno() == one.fileno()))(one, None, None)


@scenario
def the_unbuffered_file_is_made_from_a_connection(module: Any, trace: Trace) -> None:
    trace.note(module._SocketWriter(Connection(trace)).write(b"alone"))


@scenario
def a_line_is_read_and_answered(module: Any, trace: Trace) -> None:
    base = handler_noting(trace, module.StreamRequestHandler, lambda it: it.wfile.write(it.rfile.readline()))
    with module.TCPServer(LOOPBACK, base) as server, connected(server) as client:
        client.sendall(b"a line\nand another\n")
        server.handle_request()
        trace.note(client.recv(20))


@scenarios(("nothing", "something"))
def a_datagram_is_answered_even_by_nothing(module: Any, trace: Trace, answer: str) -> None:
    def handle(handler: Any) -> None:
        trace.note(handler.packet, handler.rfile.read(), handler.socket is server.socket)
        trace.note(type(handler.rfile).__name__, type(handler.wfile).__name__)
        if answer == "something":
            handler.wfile.write(b"something")

    base = handler_noting(trace, module.DatagramRequestHandler, handle)
    with module.UDPServer(LOOPBACK, base) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.sendto(b"question", server.server_address)
        server.handle_request()
        data, address = client.recvfrom(100)
        trace.note(data, address == server.server_address)


@scenario
def a_failed_datagram_handler_still_answers(module: Any, trace: Trace) -> None:
    class Socket:
        def sendto(self, *args: Any) -> None:
            trace.note("sendto", *args)

    with trace.noting_raise():
        handler_noting(trace, module.DatagramRequestHandler, raising(ValueError))((b"q", Socket()), "client", None)


@scenario
def the_answer_is_what_the_writing_file_holds_at_the_end(module: Any, trace: Trace) -> None:
    class Socket:
        def sendto(self, *args: Any) -> None:
            trace.note("sendto", *args)

    def handle(handler: Any) -> None:
        handler.wfile = io.BytesIO(b"another file")
        handler.client_address = "another client"

    handler_noting(trace, module.DatagramRequestHandler, handle)((b"q", Socket()), "client", None)
