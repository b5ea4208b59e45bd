"""Making a server: socket, bind, listen, and what happens if that fails."""

import socket
from types import SimpleNamespace
from typing import Any

from tests.conformance.actors import LOOPBACK, PATIENCE, Request, noting, raising
from tests.conformance.play import Trace, replaced, scenario, scenarios

SERVERS = ("TCPServer", "UDPServer", "UnixStreamServer", "UnixDatagramServer")


class NotingSocket(Request):
    """A socket that notes what is done to it and is never made in the kernel."""

    def getsockname(self) -> str:
        return "the address it got"


def made_with(trace: Trace, module: Any, **changes: Any) -> Any:
    """Replace the module's sockets by ones that note."""

    def make(*args: object) -> NotingSocket:
        trace.note("socket", *args)
        return NotingSocket(trace)

    return replaced(module, socket=SimpleNamespace(**{**vars(socket), "socket": make, **changes}))


@scenarios(SERVERS)
def a_server_is_bound_and_listens_when_made(module: Any, trace: Trace, name: str) -> None:
    with made_with(trace, module):
        server = noting(trace, getattr(module, name))("an address", print)
    trace.note(server.server_address, server.RequestHandlerClass is print)


@scenarios(SERVERS)
def a_server_made_without_binding_only_has_its_socket(module: Any, trace: Trace, name: str) -> None:
    with made_with(trace, module):
        server = noting(trace, getattr(module, name))("an address", print, bind_and_activate=False)
    trace.note(server.server_address)


@scenario
def a_server_made_without_binding_can_be_bound_later(module: Any, trace: Trace) -> None:
    with noting(trace, module.TCPServer)(LOOPBACK, print, False) as server:
        trace.note(server.server_address)
        server.server_bind()
        server.server_activate()
        trace.note(server.server_address == server.socket.getsockname(), server.server_address[1] > 0)


@scenario
def the_base_server_stores_and_does_nothing_else(module: Any, trace: Trace) -> None:
    server = noting(trace, module.BaseServer)("an address", print)
    trace.note(server.server_address, server.RequestHandlerClass is print, server.timeout)
    trace.note(server.server_activate(), server.server_close(), server.service_actions(), server.handle_timeout())
    trace.note(server.verify_request(1, 2), server.close_request(1), server.shutdown_request(1))


@scenarios((OSError, ValueError, KeyboardInterrupt, SystemExit))
def a_failing_bind_closes_the_server_and_is_raised(module: Any, trace: Trace, error: type[BaseException]) -> None:
    server_class = type("Server", (noting(trace, module.TCPServer),), {"server_bind": raising(error)})
    with trace.noting_raise():
        server_class(LOOPBACK, print)


@scenarios((OSError, ValueError, KeyboardInterrupt, SystemExit))
def a_failing_activation_closes_the_server_and_is_raised(module: Any, trace: Trace, error: type[BaseException]) -> None:
    server_class = type("Server", (noting(trace, module.TCPServer),), {"server_activate": raising(error)})
    with trace.noting_raise():
        server_class(LOOPBACK, print)


@scenario
def a_failing_bind_closes_the_socket_of_the_server(module: Any, trace: Trace) -> None:
    closed = []

    class Server(module.TCPServer):  # type: ignore[misc]  # the module is a parameter
        def server_close(self) -> None:
            super().server_close()
            closed.append(self.socket.fileno())

    with trace.noting_raise():
        Server(("127.0.0.1", -1), print)
    trace.note(*closed)


@scenario
def a_socket_that_cannot_be_made_is_not_closed(module: Any, trace: Trace) -> None:
    with made_with(trace, module, socket=raising(OSError)), trace.noting_raise():
        noting(trace, module.TCPServer)("an address", print)


@scenarios([f"{name} {family}" for name in ("TCPServer", "UDPServer") for family in ("AF_INET", "AF_INET6")])
def the_reuse_options_are_set_before_the_bind(module: Any, trace: Trace, case: str) -> None:
    name, family = case.split()
    for allowed in ({"allow_reuse_address": True}, {"allow_reuse_port": True}):
        policy = {"address_family": getattr(socket, family), **allowed}
        with made_with(trace, module):
            type("Server", (getattr(module, name),), policy)("an address", print)


@scenarios(("UnixStreamServer", "UnixDatagramServer"))
def a_unix_server_may_reuse_its_address(module: Any, trace: Trace, name: str) -> None:
    with made_with(trace, module):
        type("Server", (getattr(module, name),), {"allow_reuse_address": True})("an address", print)


@scenarios(("UnixStreamServer", "UnixDatagramServer"))
def a_unix_server_may_reuse_its_port(module: Any, trace: Trace, name: str) -> None:
    with made_with(trace, module):
        type("Server", (getattr(module, name),), {"allow_reuse_port": True})("an address", print)


@scenarios(("SO_REUSEADDR", "SO_REUSEPORT"))
def a_reuse_option_that_the_platform_lacks_is_left_out(module: Any, trace: Trace, missing: str) -> None:
    known = {name: value for name, value in vars(socket).items() if name != missing}

    def make(*args: object) -> NotingSocket:
        return NotingSocket(trace)

    policy = {"allow_reuse_address": True, "allow_reuse_port": True}
    with replaced(module, socket=SimpleNamespace(**{**known, "socket": make})):
        type("Server", (module.TCPServer,), policy)("an address", print)


@scenario
def attributes_changed_on_the_base_class_count_for_servers_made_later(module: Any, trace: Trace) -> None:
    changes = {"request_queue_size": 77, "allow_reuse_address": True, "socket_type": socket.SOCK_SEQPACKET}
    with replaced(module.TCPServer, **changes), made_with(trace, module):
        module.ThreadingTCPServer("an address", print)


@scenario
def attributes_set_before_calling_the_constructor_count(module: Any, trace: Trace) -> None:
    class Server(module.ThreadingMixIn, module.TCPServer):  # type: ignore[misc]  # the module is a parameter
        def __init__(self, size: int) -> None:
            self.request_queue_size = size
            self.address_family = socket.AF_INET6
            self.daemon_threads = True
            super().__init__("an address", print)

    with made_with(trace, module):
        trace.note(Server(7).daemon_threads)


@scenario
def the_constructor_of_the_base_is_called_by_name(module: Any, trace: Trace) -> None:
    class Between(module.BaseServer):  # type: ignore[misc]  # the module is a parameter
        def __init__(self, *args: Any) -> None:
            trace.note("between")
            super().__init__(*args)

    class Server(module.TCPServer, Between):  # type: ignore[misc]  # the module is a parameter
        pass

    with made_with(trace, module):
        Server("an address", print)


@scenario
def a_server_is_a_context_that_closes_it(module: Any, trace: Trace) -> None:
    server = noting(trace, module.TCPServer)(LOOPBACK, print)
    with trace.noting_raise(), server as entered:
        trace.note(entered is server, server.fileno() == server.socket.fileno())
        raising(ValueError)()
    trace.note(server.fileno())


@scenario
def a_server_may_be_closed_twice(module: Any, trace: Trace) -> None:
    for name in ("TCPServer", "UDPServer", "ThreadingTCPServer", "ForkingTCPServer"):
        server = getattr(module, name)(LOOPBACK, print)
        server.server_close()
        trace.note(name, server.server_close(), server.fileno())


@scenario
def an_own_socket_may_be_put_in_place(module: Any, trace: Trace) -> None:
    with socket.create_server(LOOPBACK) as listener:
        server = module.TCPServer(LOOPBACK, lambda *args: trace.note("handled"), bind_and_activate=False)
        server.socket.close()
        server.socket = listener
        with socket.create_connection(listener.getsockname(), PATIENCE):
            server.handle_request()
