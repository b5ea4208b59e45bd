"""What goes wrong in a connection, as one record of the worker's log."""

from __future__ import annotations

import errno
import logging
import socketserver
import sys

from prefork.address import format_peer
from prefork.serving.base import BaseServer
from prefork.serving.poolthread import went_idle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

log = logging.getLogger("prefork.worker")

# The peer went away: its business, and nothing that code here could do better.
_PEER_GONE = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)
# It has not been heard of for long (tcp(7): SO_KEEPALIVE, TCP_USER_TIMEOUT).
_GIVEN_UP = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH})


def peer_is_gone(error: BaseException | None) -> bool:
    """Say whether the connection failed because there is nobody at its other end any more."""
    return isinstance(error, _PEER_GONE) or (isinstance(error, OSError) and error.errno in _GIVEN_UP)


def report_failure(error: BaseException | None, client_address: object, server: Any) -> None:
    """Log what a handler raised."""
    about = {"peer": format_peer(client_address), "listener": format_peer(getattr(server, "server_address", None))}
    if went_idle(error):
        log.info("connection idle; closed", extra=about)
    elif peer_is_gone(error):
        log.info("connection lost: %s; connection closed", type(error).__name__, extra=about)
    elif isinstance(error, SystemExit):
        log.warning("handler called sys.exit(%r): only its connection ends", error.code, extra=about)
    else:
        what = f"{type(error).__name__}: {error}"
        log.error("handler failed: %s; connection closed", what, exc_info=error, extra=about)


def report_refused(reason: str, client_address: object) -> None:
    """Log a connection that did not get through the stages before its handler: anybody can cause that at any rate."""
    log.debug("connection refused: %s; connection closed", reason, extra={"peer": format_peer(client_address)})


def install(note_failure: Callable[[object, bool], None]) -> None:
    """Let the servers of both lineages report here, unless they override `handle_error`."""

    def log_error(error: BaseException | None, client_address: object, server: Any) -> None:
        note_failure(client_address, peer_is_gone(error))
        report_failure(error, client_address, server)

    def handle_error(self: Any, request: object, client_address: object) -> None:
        log_error(sys.exc_info()[1], client_address, self)

    BaseServer._log_error = staticmethod(log_error)
    socketserver.BaseServer.handle_error = handle_error  # type: ignore[method-assign]  # the default, not overrides
