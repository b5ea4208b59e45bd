"""Adopted listeners of foreign servers: what is taken from them passes the gate, and connections are counted."""

from __future__ import annotations

import functools
import socket

from prefork.serving.accepting import hear_from_afar
from prefork.worker.gate import State, gates
from prefork.worker.shared import Shared, SharedDatagrams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from prefork.worker.connections import Connections
    from prefork.worker.gate import Gate


class GatedStream(Shared):
    """Its accept is counted from the attempt on, and what it returns until it is closed."""

    __slots__ = ()

    def accept(self) -> tuple[socket.socket, Any]:
        gate = gates.get(self.fileno())
        if gate is None or gate.connections is None:
            return super().accept()
        with gate.attempt():
            connection, client_address = super().accept()
            if gate.state is not State.OPEN:
                hear_from_afar(connection)
            gate.connections.follow(connection)
            gate.connections.opened(connection, gate.index, client_address)
            return connection, client_address

    def _accept(self) -> tuple[int, Any]:
        accept: Callable[[], tuple[int, Any]] = super()._accept  # type: ignore[misc]  # not in the stubs
        gate = gates.get(self.fileno())
        return accept() if gate is None else gate.take(accept)


class GatedDatagrams(SharedDatagrams):
    """Its attempts to receive are counted. What became of a datagram only its server knows."""

    __slots__ = ()


def _receive_through_gate(name: str) -> Callable[..., Any]:
    def receive(self: GatedDatagrams, *args: Any, **kwargs: Any) -> Any:
        once = functools.partial(getattr(super(GatedDatagrams, self), name), *args, **kwargs)
        gate = gates.get(self.fileno())
        if gate is None:
            return once()
        with gate.attempt():
            return gate.take(once)

    return receive


for _name in ("recv", "recvfrom", "recv_into", "recvfrom_into", "recvmsg", "recvmsg_into"):
    setattr(GatedDatagrams, _name, _receive_through_gate(_name))


def count_datagrams(server: Any, gate: Gate, connections: Connections) -> None:
    """Count a server's datagrams from `get_request` to the first hook that ends them, by way of its own methods."""
    get_request = server.get_request

    def counted() -> tuple[Any, Any]:
        with gate.attempt():
            request, client_address = get_request()
            connections.opened(request, gate.index, client_address)
            return request, client_address

    def ending(hook: Callable[..., Any], even_if_it_raises: bool) -> Callable[..., Any]:
        def end(request: Any, *rest: Any) -> Any:
            try:
                result = hook(request, *rest)
            except BaseException:
                if even_if_it_raises:
                    connections.closed(id(request))
                raise
            connections.closed(id(request))
            return result

        return end

    server.get_request = counted
    # After a handler that raised comes handle_error, which must still find the request.
    server.finish_request = ending(server.finish_request, even_if_it_raises=False)
    server.shutdown_request = ending(server.shutdown_request, even_if_it_raises=True)
    server.close_request = ending(server.close_request, even_if_it_raises=True)
