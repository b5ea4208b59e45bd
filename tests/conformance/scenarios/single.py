"""handle_request() and its time-out."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tests.conformance.actors import LOOPBACK, Request, connected, noting, requests, scripted_selector
from tests.conformance.play import Trace, replaced, scenario, scenarios


def clock(*moments: float) -> Callable[[], float]:
    """A clock that shows these moments, the last one for ever."""
    remaining = list(moments)
    return lambda: remaining.pop(0) if len(remaining) > 1 else remaining[0]


def handle_one(
    trace: Trace, module: Any, *turns: Any, timeouts: Any = (None, None), moments: Any = (0,), **hooks: Any
) -> None:
    """Call handle_request() with a script of waits and a clock, with the time-outs of the socket and the server."""
    hooks = {"fileno": lambda self: 0, **hooks}
    server = type("Server", (noting(trace, module.BaseServer),), hooks)("an address", lambda *args: None)
    server.socket = SimpleNamespace(gettimeout=lambda: timeouts[0])
    server.timeout = timeouts[1]
    requests(server, Request(trace))
    selector = scripted_selector(trace, *turns)
    with replaced(module, _ServerSelector=selector, time=clock(*moments)), trace.noting_raise():
        trace.note("returns", server.handle_request())


@scenarios([(None, None), (None, 7), (3, None), (3, 7), (7, 3), (0, 7), (7, 0), (0, None), (0.0, 0)])
def the_shorter_time_out_of_socket_and_server_counts(module: Any, trace: Trace, timeouts: Any) -> None:
    handle_one(trace, module, True, timeouts=timeouts)


@scenario
def a_request_is_served_and_none_returned(module: Any, trace: Trace) -> None:
    handle_one(trace, module, True)


@scenario
def without_a_request_in_time_handle_timeout_is_called_and_its_value_returned(module: Any, trace: Trace) -> None:
    handle_one(trace, module, False, timeouts=(None, 5), moments=(0, 6), handle_timeout=lambda self: "its value")


@scenario
def waking_early_is_waiting_on_for_the_rest(module: Any, trace: Trace) -> None:
    handle_one(trace, module, False, False, False, timeouts=(None, 10), moments=(100, 104, 109, 111))


@scenario
def waking_at_the_very_deadline_is_looking_once_more(module: Any, trace: Trace) -> None:
    handle_one(trace, module, False, True, timeouts=(None, 10), moments=(100, 110, 111))


@scenario
def waking_for_nothing_without_a_time_out_is_waiting_on(module: Any, trace: Trace) -> None:
    handle_one(trace, module, False, False, True)


@scenario
def the_time_out_zero_is_looking_and_not_waiting(module: Any, trace: Trace) -> None:
    handle_one(trace, module, False, timeouts=(None, 0), moments=(0, 1))


@scenario
def service_actions_are_not_called(module: Any, trace: Trace) -> None:
    handle_one(trace, module, False, True, timeouts=(None, 10), moments=(0, 1))


@scenario
def it_needs_a_socket(module: Any, trace: Trace) -> None:
    with trace.noting_raise():
        module.BaseServer("an address", print).handle_request()


@scenarios(("timeout",))
def the_time_out_set_on_the_class_at_run_time_counts(module: Any, trace: Trace, name: str) -> None:
    with module.TCPServer(LOOPBACK, print) as server, replaced(module.BaseServer, **{name: 9}):
        requests(server, OSError())
        with replaced(module, _ServerSelector=scripted_selector(trace, True)):
            trace.note(server.handle_request())


@scenario
def the_flag_of_shutdown_means_nothing_to_it(module: Any, trace: Trace) -> None:
    with module.TCPServer(LOOPBACK, lambda *args: trace.note("handled")) as server, connected(server):
        server._BaseServer__shutdown_request = True
        server.handle_request()
        trace.note(server._BaseServer__shutdown_request)


@scenario
def a_handler_may_take_longer_than_the_time_out(module: Any, trace: Trace) -> None:
    moments = iter(range(1000))
    with module.TCPServer(LOOPBACK, lambda *args: next(moments, 0)) as server, connected(server):
        server.timeout = 5
        trace.note(server.handle_request(), next(moments))
