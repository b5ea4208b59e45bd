"""Ending a connection under its handler's hands: whatever it waits for, it gets an end of file or an error."""

from __future__ import annotations

import socket


def cut(request: object) -> None:
    """Shut both directions of the request's socket down. The handler goes on owning the descriptor and closes it.

    A datagram has no connection to end; what has no descriptor any more is closed already.
    """
    try:
        if isinstance(request, socket.socket):
            # Not the method of an SSLSocket, which would take its TLS layer away while the handler uses it.
            socket.socket.shutdown(request, socket.SHUT_RDWR)
        elif hasattr(request, "fileno"):
            _cut_descriptor(request.fileno())
    except (OSError, ValueError):
        pass  # closed, or never connected


def discard(request: object) -> None:
    """Cut and close a request that its server's own hooks failed to end."""
    cut(request)
    if isinstance(request, socket.socket):
        request.close()


def _cut_descriptor(descriptor: int) -> None:
    """Do it for an object that only wraps a socket."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        borrowed.shutdown(socket.SHUT_RDWR)
    finally:
        borrowed.detach()
