"""What stands in for `bind()` of every socket while an application is imported and built.

This is done in the socket class itself, not in some module's namespace, because servers make their sockets in many
ways: in `socketserver`, by `socket.create_server`, by a `from socket import socket` of their own module. Which calls
of `bind()` are a server's, the stack tells: a method of a server is on it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import socketserver

from prefork.serving.base import BaseServer
from prefork.worker.gate import gates
from prefork.worker.shared import Shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

    from prefork.worker.gate import Gate

SERVERS = (socketserver.BaseServer, BaseServer)


@contextlib.contextmanager
def intercepted(bind: Callable[..., None], set_option: Callable[..., None]) -> Iterator[None]:
    """Let these two be called instead, with the original first; what else would act on adopted listeners does not."""
    replaced: dict[str, Callable[..., None] | None] = {"bind": bind, "setsockopt": set_option}
    replaced.update(dict.fromkeys(("listen", "shutdown", "settimeout", "setblocking")))
    before = {name: vars(socket.socket).get(name) for name in replaced}
    for name, replacement in replaced.items():
        setattr(socket.socket, name, _method(name, getattr(socket.socket, name), replacement))
    try:
        yield
    finally:
        for name, method in before.items():
            if method is None:
                delattr(socket.socket, name)
            else:
                setattr(socket.socket, name, method)


def calling_server(frame: FrameType | None) -> Any:
    """Return the server whose method is the innermost one on the stack."""
    while frame is not None:
        if frame.f_code.co_argcount:
            owner = frame.f_locals.get(frame.f_code.co_varnames[0])
            if isinstance(owner, SERVERS):
                return owner
        frame = frame.f_back
    return None


def gate_at(descriptor: int) -> Gate | None:
    """Return the gate behind a descriptor; forget it if the number belongs to another socket by now."""
    gate = gates.get(descriptor)
    if gate is not None and gate.inode != inode_of(descriptor):
        del gates[descriptor]
        return None
    return gate


def inode_of(descriptor: int) -> tuple[int, int]:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return (-1, descriptor)
    return found.st_dev, found.st_ino


def _method(name: str, original: Callable[..., Any], replacement: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return what replaces a method of every socket: the original, unless the socket is an adopted listener."""

    @functools.wraps(original)
    def method(self: socket.socket, *args: Any, **kwargs: Any) -> Any:
        if replacement is not None:
            return replacement(original, self, *args, **kwargs)
        if gate_at(self.fileno()) is not None:
            return getattr(Shared, name)(self, *args, **kwargs)
        return original(self, *args, **kwargs)

    return method
