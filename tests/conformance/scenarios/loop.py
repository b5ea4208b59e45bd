"""serve_forever() and shutdown()."""

import threading
from typing import Any

from tests.conformance.actors import (
    LOOPBACK,
    PATIENCE,
    Request,
    connected,
    noting,
    raising,
    requests,
    scripted_selector,
    serving,
)
from tests.conformance.play import Trace, replaced, scenario, scenarios


def a_server(trace: Trace, module: Any, **hooks: Any) -> Any:
    hooks = {"fileno": lambda self: 0, **hooks}
    return type("Server", (noting(trace, module.BaseServer),), hooks)("an address", lambda *args: trace.note("handler"))


def stop(server: Any, ready: bool = False) -> bool:
    """Order the loop to end, the way much code does; as a turn, say whether a request is ready."""
    server._BaseServer__shutdown_request = True
    return ready


def play_turns(trace: Trace, module: Any, server: Any, *turns: Any, poll_interval: Any = 0.5) -> None:
    """Run the loop through these turns; it must end by itself at the last."""
    with replaced(module, _ServerSelector=scripted_selector(trace, *turns)), trace.noting_raise():
        server.serve_forever(poll_interval)
    trace.note("flag", server._BaseServer__shutdown_request, server._BaseServer__is_shut_down.is_set())


@scenario
def service_actions_follow_every_turn_ready_or_idle(module: Any, trace: Trace) -> None:
    server = a_server(trace, module)
    requests(server, Request(trace), OSError("lost the race"), Request(trace))
    play_turns(trace, module, server, True, False, True, False, True, lambda: stop(server))


@scenario
def a_request_that_is_ready_with_the_order_to_stop_is_not_taken(module: Any, trace: Trace) -> None:
    server = a_server(trace, module)
    requests(server, Request(trace))
    play_turns(trace, module, server, lambda: stop(server, ready=True))


@scenario
def the_flag_set_by_service_actions_ends_the_loop(module: Any, trace: Trace) -> None:
    def service_actions(server: Any) -> None:
        trace.note("service_actions")
        stop(server)

    server = a_server(trace, module, service_actions=service_actions)
    play_turns(trace, module, server, False)


@scenario
def the_flag_set_by_a_handler_ends_the_loop_after_service_actions(module: Any, trace: Trace) -> None:
    server = a_server(trace, module)
    server.RequestHandlerClass = lambda request, client_address, server: stop(server)
    requests(server, Request(trace))
    play_turns(trace, module, server, True)


@scenarios((0.5, 0.01, 0, 3600, None))
def each_wait_lasts_at_most_the_poll_interval(module: Any, trace: Trace, poll_interval: Any) -> None:
    server = a_server(trace, module)
    play_turns(trace, module, server, False, lambda: stop(server), poll_interval=poll_interval)


@scenario
def the_default_poll_interval_is_half_a_second(module: Any, trace: Trace) -> None:
    server = a_server(trace, module)
    with replaced(module, _ServerSelector=scripted_selector(trace, lambda: stop(server))):
        trace.note(server.serve_forever())


@scenario
def the_loop_ignores_the_time_out_of_the_server(module: Any, trace: Trace) -> None:
    server = a_server(trace, module, timeout=0)
    play_turns(trace, module, server, False, False, lambda: stop(server))


@scenarios((ValueError, OSError, KeyboardInterrupt))
def an_exception_of_service_actions_leaves_the_loop(module: Any, trace: Trace, error: Any) -> None:
    server = a_server(trace, module, service_actions=raising(error))
    play_turns(trace, module, server, False)


@scenarios((ValueError, KeyboardInterrupt))
def an_exception_of_get_request_leaves_the_loop(module: Any, trace: Trace, error: type[BaseException]) -> None:
    server = a_server(trace, module)
    requests(server, error("on purpose"))
    play_turns(trace, module, server, True)


@scenario
def an_exception_of_the_selector_leaves_the_loop(module: Any, trace: Trace) -> None:
    play_turns(trace, module, a_server(trace, module), raising(OSError))


@scenario
def a_server_without_a_socket_cannot_serve(module: Any, trace: Trace) -> None:
    server = module.BaseServer("an address", print)
    try:
        server.serve_forever()
    except ValueError:
        trace.note("nothing to wait for")
    trace.note(server._BaseServer__is_shut_down.is_set())


@scenario
def shutdown_after_an_exception_left_the_loop_returns(module: Any, trace: Trace) -> None:
    server = a_server(trace, module, service_actions=raising(ValueError))
    play_turns(trace, module, server, False)
    trace.note(server.shutdown())


@scenario
def a_loop_may_be_run_again(module: Any, trace: Trace) -> None:
    server = a_server(trace, module)
    for _ in range(2):
        play_turns(trace, module, server, False, lambda: stop(server))


@scenario
def a_server_serves_again_after_shutdown(module: Any, trace: Trace) -> None:
    with module.TCPServer(LOOPBACK, lambda request, *_: request.sendall(b"hello")) as server:
        for _ in range(3):
            with serving(server), connected(server) as client:
                trace.note(client.recv(5), client.recv(1))


@scenario
def the_loop_has_begun_when_a_request_is_served(module: Any, trace: Trace) -> None:
    server = a_server(trace, module)
    server.RequestHandlerClass = lambda *args: trace.note("shut down", server._BaseServer__is_shut_down.is_set())
    requests(server, Request(trace), Request(trace))
    for _ in range(2):
        play_turns(trace, module, server, True, lambda: stop(server))


class Waited(threading.Event):
    """The event that shutdown() waits for; tells that somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.begun.set()
        return super().wait(timeout)


@scenario
def shutdown_before_serve_forever_waits_until_that_has_run(module: Any, trace: Trace) -> None:
    server = a_server(trace, module)
    server._BaseServer__is_shut_down = event = Waited()
    waiting = threading.Thread(target=server.shutdown, daemon=True)
    waiting.start()
    event.begun.wait(PATIENCE)
    trace.note("waits", waiting.is_alive())
    play_turns(trace, module, server)
    waiting.join(PATIENCE)
    trace.note("waits", waiting.is_alive())


@scenario
def shutdown_of_a_server_that_has_ended_stops_its_next_loop(module: Any, trace: Trace) -> None:
    server = a_server(trace, module)
    play_turns(trace, module, server, lambda: stop(server))
    server.shutdown()
    play_turns(trace, module, server)


@scenario
def shutdown_returns_when_the_loop_has_ended(module: Any, trace: Trace) -> None:
    class Server(module.TCPServer):  # type: ignore[misc]  # the module is a parameter
        def serve_forever(self, poll_interval: float = 0.5) -> None:
            super().serve_forever(poll_interval)
            left.wait(PATIENCE)

    left = threading.Event()
    with Server(LOOPBACK, print) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        trace.note(server.shutdown(), thread.is_alive())
        left.set()
        thread.join(PATIENCE)


@scenario
def several_threads_may_call_shutdown(module: Any, trace: Trace) -> None:
    with module.TCPServer(LOOPBACK, print) as server:
        with serving(server):
            others = [threading.Thread(target=server.shutdown) for _ in range(5)]
            for each in others:
                each.start()
            for each in others:
                each.join(PATIENCE)
            trace.note(*[each.is_alive() for each in others])


@scenario
def shutdown_may_be_called_by_a_request_thread(module: Any, trace: Trace) -> None:
    def handler(request: Any, client_address: Any, server: Any) -> None:
        server.shutdown()
        request.sendall(b"stopped")

    with module.ThreadingTCPServer(LOOPBACK, handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        with connected(server) as client:
            trace.note(client.recv(7))
        thread.join(PATIENCE)
        trace.note(thread.is_alive())
