"""Adoption: servers that bind for themselves get the master's listeners instead.

While the application is imported and built, `bind()` of every socket asks here first. A server's listener is adopted:
its descriptor becomes another copy of the inherited one, the object stays what the server holds.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import weakref

from prefork.errors import ApplicationError
from prefork.worker.binding import calling_server, gate_at, inode_of, intercepted
from prefork.worker.gate import Gate, gates
from prefork.worker.places import as_bind, place_of, same_kind
from prefork.worker.shared import Shared, SharedDatagrams, share

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from prefork.system.sockets import Listener

log = logging.getLogger("prefork.worker")

# Set by the master for its own purposes, or only of use to whoever binds.
_NOT_CARRIED_OVER = {
    (socket.SOL_SOCKET, socket.SO_REUSEADDR),
    (socket.SOL_SOCKET, socket.SO_REUSEPORT),
    (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),
}


class Adoption:
    """The listeners of a worker and who has adopted them. Without any, servers bind to places that harm nobody."""

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        self._listeners = list(listeners)
        self._gates: dict[int, Gate] = {}  # by the index of the listener
        self._objects: dict[int, weakref.ref[socket.socket]] = {}
        self._adopters: dict[int, str] = {}
        self._options: weakref.WeakKeyDictionary[socket.socket, list[tuple[Any, ...]]] = weakref.WeakKeyDictionary()

    @property
    def has_listeners(self) -> bool:
        return bool(self._listeners)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Let every `bind()` ask here."""
        with intercepted(self._bind, self._set_option):
            yield

    def gate_of(self, server: Any) -> Gate:
        """Return the gate of the listener that the server has adopted. Raise ApplicationError if it has none."""
        descriptor = server.fileno()
        gate = gate_at(descriptor) if descriptor >= 0 else None
        if gate is None:
            gate = self._adopt_copy(descriptor)
        if gate is None:
            raise ApplicationError(f"{_name(server)} {self._explain_stranger(server)}")
        gate.descriptor = descriptor
        return gate

    def set_kind(self, server: Any, gate: Gate, kind: type[Shared]) -> None:
        """Choose how the server's listener behaves, whichever object holds it by now."""
        adopted = self._objects.get(gate.index)
        for holder in (adopted() if adopted else None, getattr(server, "socket", None)):
            if isinstance(holder, socket.socket) and holder.fileno() == gate.descriptor:
                share(holder, kind)
        os.set_blocking(gate.descriptor, gate.datagrams)

    def give_back(self) -> None:
        """Close this process's copies of the listeners: the application could not be built."""
        for holder in [reference() for reference in self._objects.values()]:
            if holder is not None:
                holder.close()

    def _bind(self, original: Callable[..., None], bound: socket.socket, address: Any) -> None:
        server = calling_server(sys._getframe(2))
        if not self._listeners:
            original(bound, address if server is None else _harmless_address(bound))
            return
        listener = self._choose(bound, address, server)
        if listener is not None:
            self._adopt(bound, listener, server)
            return
        if server is not None and bound is getattr(server, "socket", None) and not _is_any_port(bound, address):
            raise ApplicationError(self._explain_missing(server, bound, address))
        original(bound, address)

    def _set_option(self, original: Callable[..., None], changed: socket.socket, *option: Any) -> None:
        original(changed, *option)
        if gate_at(changed.fileno()) is None:
            with contextlib.suppress(TypeError):  # a socket class of its own may not be hashable
                self._options.setdefault(changed, []).append(option)

    def _choose(self, bound: socket.socket, address: Any, server: Any) -> Listener | None:
        """Return the listener to adopt: at this very place, else on this port, else, for a server, the next one."""
        fitting = [
            listener
            for listener in self._free()
            if same_kind(listener.socket.family, listener.socket.type, bound.family, bound.type)
        ]
        if not fitting:
            return None
        try:
            wanted = place_of(bound.family, address)
        except (TypeError, ValueError, IndexError):
            return None  # no address: the original says so
        places = [place_of(one.socket.family, one.socket.getsockname()) for one in fitting]
        if wanted in places:
            return fitting[places.index(wanted)]
        if wanted[1] and wanted[1] in [port for _, port in places]:
            return fitting[[port for _, port in places].index(wanted[1])]
        # A socket that a server binds besides its own may be a client's: those do not choose a port.
        sure = server is not None and bound is getattr(server, "socket", None)
        if sure or (server is not None and not _is_any_port(bound, address)):
            chosen = min(fitting, key=lambda listener: listener.socket.family != bound.family)
            log.debug("%s asks for %s: it is given %s", _name(server), as_bind(bound, address), chosen.address)
            return chosen
        return None

    def _free(self) -> list[Listener]:
        """Return the listeners that nobody has adopted, or whose adopter has closed them again."""
        taken = {index for index, gate in self._gates.items() if gate_at(gate.descriptor) is gate}
        return [listener for listener in self._listeners if listener.index not in taken]

    def _adopt(self, bound: socket.socket, listener: Listener, server: Any) -> None:
        descriptor = bound.fileno()
        timeout = bound.gettimeout()
        bound.settimeout(None)  # its own: once the descriptor is shared it is remembered in the gate
        os.dup2(listener.socket.fileno(), descriptor, inheritable=False)
        if bound.family != listener.socket.family:
            _change_family(bound, listener.socket)
            if hasattr(server, "address_family"):
                server.address_family = listener.socket.family
        gate = self._new_gate(listener, descriptor)
        gate.timeout = timeout
        self._objects[listener.index] = weakref.ref(bound)
        self._adopters[listener.index] = "a socket" if server is None else _name(server)
        self._carry_over_options(bound, listener)
        share(bound, SharedDatagrams if gate.datagrams else Shared)

    def _adopt_copy(self, descriptor: int) -> Gate | None:
        """Recognise a listener by its kernel object: a server may have made a copy of its own."""
        for listener in self._listeners:
            if descriptor >= 0 and inode_of(descriptor) == inode_of(listener.socket.fileno()):
                return self._new_gate(listener, descriptor)
        return None

    def _new_gate(self, listener: Listener, descriptor: int) -> Gate:
        datagrams, shared = listener.socket.type == socket.SOCK_DGRAM, not listener.address.sockets
        gate = Gate(listener.index, descriptor, datagrams, listener.actual, shared)
        self._gates[listener.index] = gates[descriptor] = gate
        os.set_blocking(descriptor, gate.datagrams)
        return gate

    def _carry_over_options(self, bound: socket.socket, listener: Listener) -> None:
        """Set on the listener what the server had set on the socket that it made for itself."""
        try:
            options = self._options.pop(bound, [])
        except TypeError:
            return
        for option in options:
            if option[:2] in _NOT_CARRIED_OVER:
                continue
            try:
                listener.socket.setsockopt(*option)
            except OSError as error:
                log.warning("cannot set option %s on %s: %s; serving without", option, listener.address, error)

    def _explain_missing(self, server: Any, bound: socket.socket, address: Any) -> str:
        wanted = as_bind(bound, address)
        return f"{_name(server)} wants to listen on {wanted}, {self._what_there_is()}; add --bind {wanted}"

    def _explain_stranger(self, server: Any) -> str:
        try:
            own = server.socket
            where = as_bind(own, own.getsockname())
        except (AttributeError, OSError, TypeError):
            return f"is not bound to a listener ({self._what_there_is()}); it has to bind while it is built"
        return f"listens on {where} by itself, which workers cannot share; add --bind {where}"

    def _what_there_is(self) -> str:
        free = {listener.index for listener in self._free()}
        told = [
            str(one.address) if one.index in free else f"{one.address} (taken by {self._adopters.get(one.index)})"
            for one in self._listeners
        ]
        return f"but the listeners are {', '.join(told)}"


def _change_family(bound: socket.socket, like: socket.socket) -> None:
    """Make the object anew around its descriptor: its family decides how addresses are read (accept(2))."""
    descriptor = socket.socket.detach(bound)
    socket.socket.__init__(bound, like.family, like.type, like.proto, fileno=descriptor)


def _is_any_port(bound: socket.socket, address: Any) -> bool:
    return bound.family in (socket.AF_INET, socket.AF_INET6) and address[1] == 0


def _harmless_address(bound: socket.socket) -> Any:
    if bound.family == socket.AF_UNIX:
        return ""  # the kernel chooses an abstract name: unix(7), "Autobind feature"
    return ("::1" if bound.family == socket.AF_INET6 else "127.0.0.1", 0)


def _name(server: object) -> str:
    return f"{type(server).__module__}.{type(server).__qualname__}"
