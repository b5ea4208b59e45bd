"""Names, classes, attributes and defaults."""

import inspect
import io
import os
import selectors
import socket
import subprocess
import sys
import threading
from io import BufferedIOBase
from time import monotonic
from types import FunctionType
from typing import Any

from tests.conformance.actors import LOOPBACK, PATIENCE, handler_noting, requests
from tests.conformance.play import Trace, replaced, scenario, scenarios

CLASSES = (
    "BaseServer",
    "TCPServer",
    "UDPServer",
    "UnixStreamServer",
    "UnixDatagramServer",
    "ThreadingMixIn",
    "ForkingMixIn",
    "ThreadingTCPServer",
    "ThreadingUDPServer",
    "ThreadingUnixStreamServer",
    "ThreadingUnixDatagramServer",
    "ForkingTCPServer",
    "ForkingUDPServer",
    "BaseRequestHandler",
    "StreamRequestHandler",
    "DatagramRequestHandler",
)
UNIX_FORKING_CLASSES = ("ForkingUnixStreamServer", "ForkingUnixDatagramServer")


@scenario
def the_module_exports_the_documented_names(module: Any, trace: Trace) -> None:
    trace.note(*sorted(module.__all__))


@scenario
def the_module_keeps_its_version(module: Any, trace: Trace) -> None:
    trace.note(module.__version__)


@scenario
def the_private_names_that_code_outside_uses_are_there(module: Any, trace: Trace) -> None:
    trace.note(module._ServerSelector is selectors.PollSelector)
    trace.note(*[hasattr(module, name) for name in ("_SocketWriter", "_Threads", "_NoThreads")])


@scenario
def the_modules_that_code_outside_patches_are_there(module: Any, trace: Trace) -> None:
    trace.note(module.socket is socket, module.selectors is selectors, module.threading is threading)
    trace.note(module.os is os, module.sys is sys, module.time is monotonic, module.BufferedIOBase is BufferedIOBase)


@scenarios([("fork",), ("AF_UNIX",), ("fork", "AF_UNIX")])
def names_are_absent_on_a_platform_without(module: Any, trace: Trace, missing: tuple[str, ...]) -> None:
    program = f"""
import os, socket
for name in {missing!r}:
    delattr(os if name == "fork" else socket, name)
import {module.__name__} as module
absent = [name for name in {CLASSES!r} if not hasattr(module, name)]
print(absent, sorted(module.__all__))
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    trace.note(output.stdout)


@scenarios(CLASSES)
def a_class_has_the_bases(module: Any, trace: Trace, name: str) -> None:
    trace.note(*[base.__name__ for base in getattr(module, name).__mro__])


@scenarios(UNIX_FORKING_CLASSES)
def a_forking_unix_class_has_the_bases(module: Any, trace: Trace, name: str) -> None:
    trace.note(*[base.__name__ for base in getattr(module, name, object).__mro__])


@scenarios(CLASSES)
def a_class_has_the_attributes_and_defaults(module: Any, trace: Trace, name: str) -> None:
    for attribute, value in sorted(vars(getattr(module, name)).items()):
        if not attribute.startswith("_") and not isinstance(value, FunctionType):
            trace.note(attribute, value)
    trace.note("that is all")


@scenarios(CLASSES)
def a_class_has_the_methods_and_parameters(module: Any, trace: Trace, name: str) -> None:
    for attribute, value in sorted(vars(getattr(module, name)).items()):
        public = not attribute.startswith("_") or attribute in ("__init__", "__enter__", "_handle_request_noblock")
        if public and isinstance(value, FunctionType):
            parameters = inspect.signature(value).parameters.values()
            trace.note(attribute, *[(each.name, each.kind.name, repr(each.default)) for each in parameters])
    trace.note("that is all")


@scenarios(("BaseServer", "TCPServer", "ThreadingMixIn", "ForkingMixIn", "BaseRequestHandler", "StreamRequestHandler"))
def a_class_has_neither_slots_nor_a_metaclass(module: Any, trace: Trace, name: str) -> None:
    trace.note("__slots__" in vars(getattr(module, name)), type(getattr(module, name)) is type)


@scenario
def the_mixins_have_no_constructor(module: Any, trace: Trace) -> None:
    trace.note("__init__" in vars(module.ThreadingMixIn), "__init__" in vars(module.ForkingMixIn))


@scenario
def the_base_server_has_no_socket_and_what_belongs_to_it(module: Any, trace: Trace) -> None:
    for name in ("socket", "fileno", "get_request", "server_bind", "address_family", "socket_type", "server_address"):
        trace.note(name, hasattr(module.BaseServer, name))


@scenario
def the_threads_of_a_class_stand_for_none(module: Any, trace: Trace) -> None:
    trace.note(type(module.ThreadingMixIn._threads).__name__, type(module.ThreadingTCPServer._threads).__name__)


@scenarios(("TCPServer", "UDPServer", "ThreadingTCPServer", "ForkingTCPServer"))
def a_server_has_no_other_public_attributes_than(module: Any, trace: Trace, name: str) -> None:
    with getattr(module, name)(LOOPBACK, print) as server:
        trace.note(*sorted(attribute for attribute in vars(server) if not attribute.startswith("_")))
        trace.note(server._BaseServer__shutdown_request, server._BaseServer__is_shut_down.is_set())


@scenarios(("BaseRequestHandler", "StreamRequestHandler", "DatagramRequestHandler"))
def a_handler_has_no_other_public_attributes_than(module: Any, trace: Trace, name: str) -> None:
    one, other = socket.socketpair()
    with one, other:
        other.send(b"datagram")
        request = (b"datagram", one) if name == "DatagramRequestHandler" else one

        def handle(handler: Any) -> None:
            trace.note(*sorted(vars(handler)))
            trace.note(handler.request is request, handler.client_address, handler.server)

        base = type("Handler", (getattr(module, name),), {"finish": lambda handler: None})
        handler_noting(trace, base, handle)(request, "the client", "the server")


@scenarios(("_ServerSelector", "socket", "threading", "os", "time", "selectors", "sys"))
def a_replaced_global_is_seen_through_the_module_and_restored(module: Any, trace: Trace, name: str) -> None:
    before = getattr(module, name)
    replacement = type("Replacement", (), {"__getattr__": lambda self, attribute: getattr(before, attribute)})()
    with replaced(module, **{name: replacement}):
        trace.note(getattr(module, name) is replacement)
    trace.note(getattr(module, name) is before)


@scenario
def a_replaced_selector_serves_the_next_loop(module: Any, trace: Trace) -> None:
    with module.TCPServer(LOOPBACK, print) as server, replaced(module, _ServerSelector=NotSelecting):
        requests(server, OSError())
        with trace.noting_raise():
            server.serve_forever()
        with trace.noting_raise():
            server.handle_request()


@scenario
def a_replaced_writer_serves_the_next_handler(module: Any, trace: Trace) -> None:
    def make(sock: object) -> io.BytesIO:
        trace.note("the replacement was used")
        return io.BytesIO()

    with replaced(module, _SocketWriter=make):
        one, other = socket.socketpair()
        with one, other:
            module.StreamRequestHandler(one, None, None)


@scenario
def a_replaced_list_of_threads_serves_the_next_request(module: Any, trace: Trace) -> None:
    class Threads:
        def append(self, thread: threading.Thread) -> None:
            trace.note("append", thread.is_alive())

        def join(self) -> None:
            trace.note("join")

    with module.ThreadingTCPServer(LOOPBACK, lambda *args: None) as server, replaced(module, _Threads=Threads):
        one, other = socket.socketpair()
        with other:
            server.process_request(one, "client")
            other.settimeout(PATIENCE)
            trace.note(other.recv(1))
            server.server_close()


class NotSelecting:
    def __init__(self) -> None:
        raise RuntimeError("the replacement was used")
