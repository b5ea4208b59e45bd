"""ThreadingMixIn."""

import threading
from types import SimpleNamespace
from typing import Any

from tests.conformance.actors import LOOPBACK, PATIENCE, Request, connected, handle_next, noting, raising
from tests.conformance.play import Trace, replaced, scenario, scenarios


def a_server(trace: Trace, module: Any, handler: Any = None, **hooks: Any) -> Any:
    base = type("Threading", (module.ThreadingMixIn, module.BaseServer), {})
    # Not the closing, which the tests begin while the request's thread still notes.
    server_class = type("Server", (noting(trace, base, besides=["server_close"]),), hooks)
    return server_class("an address", handler or (lambda *args: trace.note("handler")))


def noting_thread(trace: Trace, run: bool = True) -> type:
    """A stand-in for threading.Thread that notes how it is used, and runs in place."""

    class Thread:
        daemon: Any = "not said"

        def __init__(self, *args: Any, **options: Any) -> None:
            self.options = options
            trace.note("Thread", args, sorted(options), options["target"].__name__, len(options["args"]))

        def start(self) -> None:
            trace.note("start", self.daemon)
            if run:
                self.options["target"](*self.options["args"])

        def is_alive(self) -> bool:
            return False

        def join(self) -> None:
            trace.note("join")

    return Thread


def threading_with(thread_class: type) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(threading), "Thread": thread_class})


@scenario
def each_request_gets_a_thread_that_ends_it(module: Any, trace: Trace) -> None:
    server = a_server(trace, module)
    with replaced(module, threading=threading_with(noting_thread(trace))):
        handle_next(server, Request(trace))


@scenarios((False, True, 1))
def daemon_threads_says_which_threads_are_daemons(module: Any, trace: Trace, daemons: Any) -> None:
    server = a_server(trace, module, daemon_threads=daemons)
    with replaced(module, threading=threading_with(noting_thread(trace))):
        handle_next(server, Request(trace))


@scenario
def the_threads_target_may_be_overridden(module: Any, trace: Trace) -> None:
    def process_request_thread(server: Any, request: Any, client_address: Any) -> None:
        trace.note("own", type(request).__name__, client_address)

    server = a_server(trace, module, process_request_thread=process_request_thread)
    with replaced(module, threading=threading_with(noting_thread(trace))):
        handle_next(server, Request(trace))


@scenario
def a_request_is_served_in_another_thread(module: Any, trace: Trace) -> None:
    main = threading.current_thread()
    server = a_server(trace, module, handler=lambda *args: trace.note(threading.current_thread() is main))
    handle_next(server, Request(trace))
    server.server_close()


@scenario
def an_exception_of_the_handler_is_reported_in_its_thread(module: Any, trace: Trace) -> None:
    main = threading.current_thread()
    report = {"handle_error": lambda *args: trace.note("handle_error", threading.current_thread() is main)}
    server = a_server(trace, module, handler=raising(ValueError), **report)
    handle_next(server, Request(trace))
    server.server_close()


@scenarios((SystemExit, KeyboardInterrupt))
def an_exit_of_the_handler_reaches_the_hook_for_threads(module: Any, trace: Trace, error: type[BaseException]) -> None:
    server = a_server(trace, module, handler=raising(error))
    with replaced(threading, excepthook=lambda args: trace.note("excepthook", args.exc_type.__name__)):
        handle_next(server, Request(trace))
        server.server_close()


@scenario
def an_exception_of_handle_error_reaches_the_hook_for_threads(module: Any, trace: Trace) -> None:
    server = a_server(trace, module, handler=raising(ValueError), handle_error=raising(TypeError))
    with replaced(threading, excepthook=lambda args: trace.note("excepthook", args.exc_type.__name__)):
        handle_next(server, Request(trace))
        server.server_close()


@scenario
def a_thread_that_cannot_be_started_is_an_error_of_the_request(module: Any, trace: Trace) -> None:
    class Thread(threading.Thread):
        start = raising(RuntimeError)

    server = a_server(trace, module, handle_error=lambda *args: trace.note("handle_error"))
    with replaced(module, threading=threading_with(Thread)):
        handle_next(server, Request(trace))


@scenarios([(block, daemons) for block in (True, False) for daemons in (True, False)])
def closing_waits_for_threads_that_are_no_daemons(module: Any, trace: Trace, case: tuple[bool, bool]) -> None:
    begun, may_end, threads = threading.Event(), threading.Event(), []
    join = threading.Thread.join

    def process_request_thread(*args: object) -> None:
        threads.append(threading.current_thread())
        begun.set()
        may_end.wait(PATIENCE)

    def noting_join(thread: threading.Thread, timeout: float | None = None) -> None:
        trace.note("join", thread is threads[0])
        may_end.set()
        join(thread, PATIENCE)

    server = a_server(trace, module)
    server.block_on_close, server.daemon_threads = case
    server.process_request_thread = process_request_thread
    handle_next(server, Request(trace))
    begun.wait(PATIENCE)
    with replaced(threading.Thread, join=noting_join):
        server.server_close()
    may_end.set()
    join(threads[0], PATIENCE)


@scenario
def the_listener_is_closed_before_threads_are_waited_for(module: Any, trace: Trace) -> None:
    asked = threading.Event()

    def handler(*args: object) -> None:
        asked.wait(PATIENCE)
        trace.note("open", server.fileno() >= 0)

    class Base(module.TCPServer):  # type: ignore[misc]  # the module is a parameter
        def server_close(self) -> None:
            super().server_close()
            asked.set()

    server = type("Server", (module.ThreadingMixIn, Base), {})(LOOPBACK, handler)
    with connected(server):
        server.handle_request()
        server.server_close()
    trace.note("closed")


@scenarios((True, False))
def threads_are_remembered_by_the_instance_if_closing_waits(module: Any, trace: Trace, block_on_close: bool) -> None:
    server = a_server(trace, module, block_on_close=block_on_close)
    server.process_request_thread = lambda *args: None
    trace.note("_threads" in vars(server))
    handle_next(server, Request(trace))
    trace.note("_threads" in vars(server), type(server._threads).__name__)
    server.server_close()


@scenarios((True, False))
def the_number_of_remembered_threads_can_be_asked(module: Any, trace: Trace, daemons: bool) -> None:
    served = threading.Event()
    server = a_server(trace, module, lambda *args: served.wait(PATIENCE), daemon_threads=daemons)
    server.process_request_thread = lambda *args: served.wait(PATIENCE)
    for _ in range(3):
        handle_next(server, Request(trace))
        trace.note(len(server._threads), [type(thread).__name__ for thread in server._threads])
    served.set()
    server.server_close()


@scenario
def threads_that_have_ended_are_forgotten(module: Any, trace: Trace) -> None:
    server = type("Server", (module.ThreadingMixIn, module.BaseServer), {})("an address", lambda *args: None)
    for _ in range(3):
        handle_next(server, Request(Trace()))
        wait_for_threads(server)
    trace.note("remembered", len(server._threads))


def wait_for_threads(server: Any) -> None:
    for thread in list(server._threads):
        thread.join(PATIENCE)


@scenario
def remembered_threads_are_a_list(module: Any, trace: Trace) -> None:
    trace.note(isinstance(module._Threads(), list))


@scenario
def policy_is_read_when_a_request_comes(module: Any, trace: Trace) -> None:
    server = a_server(trace, module)
    with replaced(module, threading=threading_with(noting_thread(trace))):
        with replaced(module.ThreadingMixIn, daemon_threads=True, block_on_close=False):
            handle_next(server, Request(trace))
        trace.note("_threads" in vars(server))
        server.daemon_threads = "by the instance"
        handle_next(server, Request(trace))


@scenario
def the_mixin_serves_in_front_of_any_class_with_the_hooks(module: Any, trace: Trace) -> None:
    class Plain:
        def finish_request(self, *args: object) -> None:
            trace.note("finish_request", *args)

        def shutdown_request(self, *args: object) -> None:
            trace.note("shutdown_request", *args)

        def server_close(self) -> None:
            trace.note("server_close")

    server = type("Server", (module.ThreadingMixIn, Plain), {})()
    server.process_request("request", "client")
    server.server_close()
