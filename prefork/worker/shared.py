"""The class of an adopted listener: a socket shared with all workers, on which one server's wishes must not act.

An object becomes one by changing its class, so that it stays what the server holds, also if it is a socket of a class
of its own or wrapped by TLS.
"""

from __future__ import annotations

import functools
import os
import socket

from prefork.worker.gate import gates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Base = socket.socket
else:
    Base = object


class Shared(Base):
    """A listener that is neither set up nor ended by one process alone."""

    __slots__ = ()

    def listen(self, *_: int) -> None:
        """Do nothing: it listens, with the backlog that the master chose."""

    def shutdown(self, how: int) -> None:
        """Do nothing: it would end the listener for every process."""

    def settimeout(self, value: float | None) -> None:
        """Remember it; the flag that it would change belongs to all processes."""
        gate = gates.get(self.fileno())
        if gate is not None:
            gate.timeout = None if value is None else float(value)

    def setblocking(self, flag: bool) -> None:
        self.settimeout(None if flag else 0.0)

    def gettimeout(self) -> float | None:
        gate = gates.get(self.fileno())
        return gate.timeout if gate is not None else None

    def getblocking(self) -> bool:
        return self.gettimeout() != 0

    @property
    def timeout(self) -> float | None:
        return self.gettimeout()

    def dup(self) -> Any:
        copy = socket.socket(self.family, self.type, self.proto, fileno=os.dup(self.fileno()))
        gate = gates.get(self.fileno())
        if gate is not None:
            gates[copy.fileno()] = gate
            share(copy, _kind_of(self))
        return copy

    def _real_close(self, *args: Any) -> None:
        close = functools.partial(super()._real_close, *args)  # type: ignore[misc]  # not in the stubs
        gate = gates.get(self.fileno())
        if gate is None:
            close()
        else:
            gate.close(self.fileno(), close)


class SharedDatagrams(Shared):
    """Receiving never blocks, sending may: so the descriptor blocks, and each attempt to receive says otherwise."""

    __slots__ = ()

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        return super().recv(bufsize, flags | socket.MSG_DONTWAIT)

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, Any]:
        return super().recvfrom(bufsize, flags | socket.MSG_DONTWAIT)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        return super().recv_into(buffer, nbytes, flags | socket.MSG_DONTWAIT)

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        return super().recvfrom_into(buffer, nbytes, flags | socket.MSG_DONTWAIT)

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0) -> tuple[bytes, list[Any], int, Any]:
        return super().recvmsg(bufsize, ancbufsize, flags | socket.MSG_DONTWAIT)

    def recvmsg_into(self, buffers: Any, ancbufsize: int = 0, flags: int = 0) -> tuple[int, list[Any], int, Any]:
        return super().recvmsg_into(buffers, ancbufsize, flags | socket.MSG_DONTWAIT)


def share(shared: socket.socket, kind: type[Shared]) -> None:
    """Make of a socket object, whatever its class, one of this kind."""
    original: Any = next(base for base in type(shared).__mro__ if not issubclass(base, Shared))
    shared.__class__ = _class_of(original, kind, shared.family, shared.type)


_classes: dict[tuple[object, ...], type[Shared]] = {}


def _class_of(original: type[socket.socket], kind: type[Shared], family: int, type_: int) -> type[Shared]:
    key = (original, kind, family, type_)
    if key not in _classes:
        # Without slots it has the layout of the original, as a change of class demands. Family and type as plain
        # attributes spare each accept their look-up in an enumeration.
        body = {"__slots__": (), "__module__": original.__module__, "family": family, "type": type_, "sharing": kind}
        _classes[key] = type(original.__name__, (kind, original), body)
    return _classes[key]


def _kind_of(shared: Shared) -> type[Shared]:
    kind: type[Shared] = type(shared).sharing  # type: ignore[attr-defined]  # made by _class_of
    return kind
