"""One request through the hooks: the order, and what each exception does."""

import io
import socket
import sys
from typing import Any

from tests.conformance.actors import (
    LOOPBACK,
    PATIENCE,
    Request,
    connected,
    handle_next,
    handler_noting,
    noting,
    raising,
    requests,
)
from tests.conformance.play import Trace, replaced, scenario, scenarios

ERRORS = (ValueError, OSError, StopIteration)
EXITS = (KeyboardInterrupt, SystemExit, GeneratorExit)


def a_server(trace: Trace, module: Any, **hooks: Any) -> Any:
    """A noting server without a socket, with some of its hooks replaced."""
    noted = noting(trace, module.BaseServer)
    handler = hooks.pop("handler", lambda *args: trace.note("handler"))
    return type("Server", (noted,), hooks)("an address", handler)


@scenarios(("BaseServer", "TCPServer", "UDPServer"))
def a_request_passes_the_hooks_in_order(module: Any, trace: Trace, name: str) -> None:
    server_class = noting(trace, getattr(module, name))
    if name == "BaseServer":
        handle_next(server_class("an address", lambda *args: trace.note("handler")), Request(trace))
        return
    with server_class(LOOPBACK, lambda *args: trace.note("handler")) as server:
        with socket.socket(socket.AF_INET, server.socket_type) as client:
            client.connect(server.server_address)
            client.send(b"something")
            trace.note(server.handle_request())


@scenario
def the_handler_is_any_callable_and_gets_three_positional_arguments(module: Any, trace: Trace) -> None:
    def handler(*args: Any, **options: Any) -> str:
        trace.note(args[0] is request, args[1], args[2] is server, len(args), options)
        return "not looked at"

    request = Request(trace)
    server = module.BaseServer("an address", handler)
    trace.note(handle_next(server, request))


@scenario
def finish_request_asks_the_instance_for_its_handler(module: Any, trace: Trace) -> None:
    server = a_server(trace, module)
    server.RequestHandlerClass = lambda *args: trace.note("another handler")
    handle_next(server, Request(trace))


@scenarios((OSError, BlockingIOError, ConnectionAbortedError, TimeoutError, socket.gaierror))
def an_oserror_of_get_request_is_swallowed_and_nothing_else_called(module: Any, trace: Trace, error: Any) -> None:
    trace.note(handle_next(a_server(trace, module), error("lost the race")))


@scenarios((ValueError, TypeError, *EXITS))
def another_exception_of_get_request_is_raised(module: Any, trace: Trace, error: type[BaseException]) -> None:
    with trace.noting_raise():
        handle_next(a_server(trace, module), error("on purpose"))


@scenarios((ValueError, OSError, *EXITS))
def an_exception_of_verify_request_is_raised_and_the_request_left(module: Any, trace: Trace, error: Any) -> None:
    with trace.noting_raise():
        handle_next(a_server(trace, module, verify_request=raising(error)), Request(trace))


@scenarios((False, None, 0, "", True, 1, "yes"))
def a_request_is_served_if_verify_request_returns_something_true(module: Any, trace: Trace, answer: Any) -> None:
    server = a_server(trace, module, verify_request=lambda *args: answer)
    trace.note(handle_next(server, Request(trace)))


@scenarios(ERRORS)
def an_exception_of_the_handler_is_reported_then_the_request_shut_down(module: Any, trace: Trace, error: Any) -> None:
    server = a_server(trace, module, handler=raising(error), handle_error=lambda *args: trace.note("handle_error"))
    trace.note(handle_next(server, Request(trace)))


@scenarios(EXITS)
def an_exit_of_the_handler_shuts_the_request_down_and_is_raised(module: Any, trace: Trace, error: Any) -> None:
    with trace.noting_raise():
        handle_next(a_server(trace, module, handler=raising(error)), Request(trace))


@scenarios((ValueError, KeyboardInterrupt))
def an_exception_of_process_request_counts_like_the_handlers(module: Any, trace: Trace, error: Any) -> None:
    report = {"handle_error": lambda *args: trace.note("handle_error")}
    with trace.noting_raise():
        handle_next(a_server(trace, module, process_request=raising(error), **report), Request(trace))


@scenario
def handle_error_runs_while_the_exception_is_handled(module: Any, trace: Trace) -> None:
    def handle_error(server: Any, request: Any, client_address: Any) -> None:
        trace.note(repr(sys.exc_info()[1]), client_address)
        raise

    with trace.noting_raise():
        server = a_server(trace, module, handler=raising(ValueError), handle_error=handle_error)
        handle_next(server, Request(trace))


@scenarios((ValueError, OSError, KeyboardInterrupt))
def an_exception_of_handle_error_is_raised_and_the_request_left(module: Any, trace: Trace, error: Any) -> None:
    with trace.noting_raise():
        server = a_server(trace, module, handler=raising(TypeError), handle_error=raising(error))
        handle_next(server, Request(trace))


@scenario
def an_exception_of_handle_error_leaves_serve_forever(module: Any, trace: Trace) -> None:
    server_class = type("Server", (module.TCPServer,), {"handle_error": raising(ValueError)})
    with server_class(LOOPBACK, raising(TypeError)) as server, connected(server), trace.noting_raise():
        requests(server, Request(trace))
        server.serve_forever()
    trace.note(server._BaseServer__is_shut_down.is_set(), server._BaseServer__shutdown_request)


@scenarios((ValueError, OSError, KeyboardInterrupt))
def an_exception_of_shutdown_request_after_the_handler_counts_as_its_own(module: Any, trace: Trace, error: Any) -> None:
    report = {"handle_error": lambda *args: trace.note("handle_error")}
    with trace.noting_raise():
        handle_next(a_server(trace, module, shutdown_request=raising(error), **report), Request(trace))


@scenarios((None, OSError, ConnectionResetError, ValueError))
def a_connection_is_shut_for_writing_and_closed(module: Any, trace: Trace, error: type[Exception] | None) -> None:
    request = Request(trace, shutdown=error) if error else Request(trace)
    with noting(trace, module.TCPServer)(LOOPBACK, print) as server, trace.noting_raise():
        server.shutdown_request(request)


@scenario
def an_exception_of_closing_the_connection_is_raised(module: Any, trace: Trace) -> None:
    with noting(trace, module.TCPServer)(LOOPBACK, print) as server, trace.noting_raise():
        server.shutdown_request(Request(trace, close=OSError))


@scenario
def the_socket_of_a_datagram_request_is_left_open(module: Any, trace: Trace) -> None:
    with module.UDPServer(LOOPBACK, print) as server:
        request = Request(trace)
        server.shutdown_request((b"datagram", request))
        server.close_request((b"datagram", request))
        trace.note("nothing was done to it", server.fileno() >= 0)


@scenario
def a_datagram_request_is_the_datagram_and_the_servers_socket(module: Any, trace: Trace) -> None:
    with module.UDPServer(LOOPBACK, print) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(LOOPBACK)
        client.sendto(b"datagram", server.server_address)
        (data, sock), client_address = server.get_request()
        trace.note(data, sock is server.socket, client_address == client.getsockname())


@scenario
def a_datagram_is_cut_at_the_size_set_at_run_time(module: Any, trace: Trace) -> None:
    with module.UDPServer(LOOPBACK, print) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for size in (None, 5, 3):
            if size:
                server.max_packet_size = size
            client.sendto(b"x" * 9000, server.server_address)
            trace.note(len(server.get_request()[0][0]))


@scenarios(("127.0.0.1", ("127.0.0.1", 5), b"\0name", None))
def an_error_is_printed_with_the_clients_address(module: Any, trace: Trace, client_address: Any) -> None:
    printed = io.StringIO()
    with replaced(sys, stderr=printed):
        try:
            raise ValueError("a reason")
        except ValueError:
            trace.note(module.BaseServer("an address", print).handle_error(None, client_address))
    trace.note(printed.getvalue())


@scenario
def an_error_is_printed_with_its_cause_and_its_place(module: Any, trace: Trace) -> None:
    printed = io.StringIO()

    def handler(*args: object) -> None:
        try:
            raise ValueError("the cause")
        except ValueError as cause:
            raise TypeError("the effect") from cause

    with replaced(sys, stderr=printed):
        handle_next(module.BaseServer("an address", handler), Request(trace))
    lines = printed.getvalue().splitlines()
    trace.note(*[line for line in lines if not line.startswith("  ")])
    trace.note(any("raise TypeError" in line for line in lines), any("raise ValueError" in line for line in lines))


@scenario
def reporting_without_an_exception_is_harmless(module: Any, trace: Trace) -> None:
    printed = io.StringIO()
    with replaced(sys, stderr=printed):
        module.BaseServer("an address", print).handle_error(None, "client")
    trace.note(printed.getvalue())


@scenario
def reporting_is_harmless_where_there_is_no_standard_error(module: Any, trace: Trace) -> None:
    with replaced(sys, stderr=None, stdout=None):
        module.BaseServer("an address", print).handle_error(None, "client")
    trace.note("returned")


@scenario
def a_failed_request_does_not_end_the_loop(module: Any, trace: Trace) -> None:
    base = handler_noting(trace, module.StreamRequestHandler, raising(ValueError))
    server_class = type("Server", (module.TCPServer,), {"handle_error": lambda *args: trace.note("handle_error")})
    with server_class(LOOPBACK, base) as server:
        for _ in range(3):
            with connected(server) as client:
                server.handle_request()
                trace.note(client.recv(1))


@scenario
def a_refused_connection_is_closed_for_the_client(module: Any, trace: Trace) -> None:
    server_class = type("Server", (module.TCPServer,), {"verify_request": lambda *args: False})
    with server_class(LOOPBACK, print) as server, connected(server) as client:
        client.settimeout(PATIENCE)
        server.handle_request()
        trace.note(client.recv(1))


@scenario
def hooks_set_on_the_instance_count(module: Any, trace: Trace) -> None:
    server = a_server(trace, module)
    server.verify_request = lambda *args: trace.note("own verify_request")
    server.shutdown_request = lambda *args: trace.note("own shutdown_request")
    requests(server, Request(trace))
    server._handle_request_noblock()
