"""ForkingMixIn, most of it with a pretended operating system, the rest with real children."""

import os
import socket
from types import SimpleNamespace
from typing import Any

from tests.conformance.actors import LOOPBACK, PATIENCE, Request, connected, handle_next, noting, raising
from tests.conformance.play import Trace, replaced, scenario, scenarios


class PretendedSystem(SimpleNamespace):
    """The module os, with forks and waits by a script; the rest is real."""

    def __init__(self, trace: Trace, *, forks: Any = (), ended: Any = (), waits: Any = None) -> None:
        super().__init__(**vars(os))
        script, gone = iter(forks), set(ended)

        def fork() -> int:
            trace.note("fork")
            return int(next(script))

        def waitpid(pid: int, options: int) -> tuple[int, int]:
            trace.note("waitpid", pid, options)
            if waits is not None:
                raise waits
            return (pid if options == 0 or pid in gone else 0), 0

        def leave(status: int) -> None:
            trace.note("_exit", status)
            raise Left

        self.fork, self.waitpid, self._exit = fork, waitpid, leave


class Left(BaseException):
    """A pretended child is gone."""


def a_server(trace: Trace, module: Any, handler: Any = None, **hooks: Any) -> Any:
    base = type("Forking", (module.ForkingMixIn, module.BaseServer), {})
    server_class = type("Server", (noting(trace, base),), hooks)
    return server_class("an address", handler or (lambda *args: trace.note("handler")))


@scenario
def the_parent_remembers_the_child_and_closes_its_copy(module: Any, trace: Trace) -> None:
    server = a_server(trace, module)
    trace.note(server.active_children)
    with replaced(module, os=PretendedSystem(trace, forks=(11, 12))):
        handle_next(server, Request(trace))
        handle_next(server, Request(trace))
    trace.note(sorted(server.active_children), type(server.active_children).__name__)


@scenario
def each_server_remembers_its_own_children(module: Any, trace: Trace) -> None:
    servers = a_server(trace, module), a_server(trace, module)
    with replaced(module, os=PretendedSystem(trace, forks=(11, 12))):
        for server in servers:
            handle_next(server, Request(trace))
    trace.note(*[server.active_children for server in servers], module.ForkingMixIn.active_children)


@scenarios((None, ValueError, OSError, SystemExit, KeyboardInterrupt))
def the_child_serves_ends_the_request_and_leaves(module: Any, trace: Trace, error: type[BaseException] | None) -> None:
    report = {"handle_error": lambda *args: trace.note("handle_error")}
    server = a_server(trace, module, raising(error) if error else None, **report)
    with replaced(module, os=PretendedSystem(trace, forks=(0,))), trace.noting_raise():
        server.process_request(Request(trace), "client")


@scenarios(("handle_error", "shutdown_request"))
def the_child_leaves_even_if_this_hook_fails(module: Any, trace: Trace, name: str) -> None:
    report = {"handle_error": lambda *args: trace.note("handle_error")}
    server = a_server(trace, module, raising(ValueError), **{**report, name: raising(TypeError)})
    with replaced(module, os=PretendedSystem(trace, forks=(0,))), trace.noting_raise():
        server.process_request(Request(trace), "client")


@scenario
def a_fork_that_fails_is_an_error_of_the_request(module: Any, trace: Trace) -> None:
    server = a_server(trace, module, handle_error=lambda *args: trace.note("handle_error"))
    system = PretendedSystem(trace)
    system.fork = raising(BlockingIOError)
    with replaced(module, os=system):
        handle_next(server, Request(trace))
    trace.note(server.active_children)


@scenario
def nothing_is_collected_before_the_first_child(module: Any, trace: Trace) -> None:
    with replaced(module, os=PretendedSystem(trace)):
        trace.note(a_server(trace, module).collect_children())


@scenarios((False, True))
def children_that_have_ended_are_forgotten(module: Any, trace: Trace, blocking: bool) -> None:
    server = a_server(trace, module, active_children={11})
    other = a_server(trace, module, active_children={12})
    with replaced(module, os=PretendedSystem(trace, ended={11})):
        server.collect_children(blocking=blocking)
        other.collect_children(blocking=blocking)
    trace.note(server.active_children, other.active_children)


@scenarios((ChildProcessError, InterruptedError, OSError))
def a_wait_for_a_child_fails_with(module: Any, trace: Trace, error: type[OSError]) -> None:
    server = a_server(trace, module, active_children={11})
    with replaced(module, os=PretendedSystem(trace, waits=error)):
        server.collect_children()
    trace.note(server.active_children)


@scenarios(("service_actions", "handle_timeout"))
def children_are_collected_without_blocking_by(module: Any, trace: Trace, name: str) -> None:
    server = a_server(trace, module, active_children={11})
    with replaced(module, os=PretendedSystem(trace, ended={11})):
        trace.note(getattr(server, name)())


@scenarios((True, False))
def closing_collects_children_after_the_listener_is_closed(module: Any, trace: Trace, block_on_close: bool) -> None:
    class Base(module.BaseServer):  # type: ignore[misc]  # the module is a parameter
        def server_close(self) -> None:
            trace.note("listener closed")

    server = type("Server", (module.ForkingMixIn, Base), {})("an address", print)
    server.active_children, server.block_on_close = {11}, block_on_close
    with replaced(module, os=PretendedSystem(trace)):
        server.server_close()
    trace.note(server.active_children)


@scenario
def service_actions_do_not_call_those_of_the_class_behind(module: Any, trace: Trace) -> None:
    class Base(module.BaseServer):  # type: ignore[misc]  # the module is a parameter
        def service_actions(self) -> None:
            trace.note("service_actions of the class behind")

    type("Server", (module.ForkingMixIn, Base), {})("an address", print).service_actions()
    trace.note("returned")


@scenario
def children_above_the_limit_are_waited_for(module: Any, trace: Trace) -> None:
    server = a_server(trace, module, active_children={11}, max_children=1)

    def waitpid(pid: int, options: int) -> tuple[int, int]:
        trace.note("waitpid", pid, "blocking" if options == 0 else "looking")
        return (11, 0) if pid == -1 else (0, 0)

    system = PretendedSystem(trace)
    system.waitpid = waitpid
    with replaced(module, os=system):
        server.collect_children()
    trace.note(*server.active_children)


@scenario
def a_real_child_answers_and_is_collected_when_closing(module: Any, trace: Trace) -> None:
    def handler(request: socket.socket, client_address: object, server: object) -> None:
        request.sendall(b"a child" if os.getpid() != parent else b"the parent")

    parent = os.getpid()
    server = module.ForkingTCPServer(LOOPBACK, handler)
    with connected(server) as client:
        server.handle_request()
        trace.note(client.recv(20), client.recv(1), len(server.active_children))
        server.server_close()
        trace.note(server.active_children)


@scenario
def a_real_child_runs_no_exit_functions_and_returns_nowhere(module: Any, trace: Trace) -> None:
    ours, theirs = os.pipe()
    server_class = type(
        "Server", (module.ForkingTCPServer,), {"handle_error": lambda *args: os.write(theirs, b"error ")}
    )
    parent = os.getpid()
    with server_class(LOOPBACK, raising(ValueError)) as server, connected(server):
        try:
            server.handle_request()
        finally:
            if os.getpid() != parent:
                os.write(theirs, b"the child came back ")
                os._exit(3)
        (pid,) = server.active_children
        trace.note(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os.close(theirs)
    with os.fdopen(ours, "rb") as said:
        trace.note(said.read())


@scenario
def the_connection_stays_open_in_the_child(module: Any, trace: Trace) -> None:
    def handler(request: socket.socket, client_address: object, server: object) -> None:
        request.settimeout(PATIENCE)
        request.sendall(request.recv(20))

    with module.ForkingTCPServer(LOOPBACK, handler) as server, connected(server) as client:
        server.handle_request()
        client.sendall(b"after the fork")
        trace.note(client.recv(20))
