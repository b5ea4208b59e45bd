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
    from collections.abc import Callable, Sequence
    from typing import Any

    from prefork.worker.gate import Gate

log = logging.getLogger("prefork.worker")

# The peer went away: its business, and nothing that code here could do better.
_PEER_GONE = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)
# It has not been heard of for long (tcp(7): SO_KEEPALIVE, TCP_USER_TIMEOUT).
_GIVEN_UP = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH})


def peer_is_gone(error: BaseException | None) -> bool:
    """Say whether the connection failed because there is nobody at its other end any more."""
    if not isinstance(error, OSError):
        return False
    return isinstance(error, _PEER_GONE) or error.errno in _GIVEN_UP or _peer_broke_tls(error)


def _peer_broke_tls(error: OSError) -> bool:
    """Say whether a client hung up, or said what it must not, below the TLS that it has with us.

    It does not count what a handler does as a client of others.
    """
    ssl = sys.modules.get("ssl")  # loaded by whoever needs it
    if ssl is None or not isinstance(error, ssl.SSLError):
        return False
    if isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError):  # the handler does not want to wait, and must
        return False
    raised_in = error.__traceback__
    while raised_in is not None and raised_in.tb_next is not None:
        raised_in = raised_in.tb_next
    connection = None if raised_in is None else raised_in.tb_frame.f_locals.get("self")
    return isinstance(connection, ssl.SSLSocket) and connection.server_side


def report_refused(reason: str, client_address: object) -> None:
    """Log a connection that did not get through the stages before its handler: anybody can cause that at any rate."""
    log.debug("connection refused: %s; connection closed", reason, extra={"peer": format_peer(client_address)})


class Reporter:
    """Reports the failures of servers, by the listeners that they adopted."""

    def __init__(self, adopted: Sequence[tuple[Any, Gate]]) -> None:
        self._gates = {id(server): gate for server, gate in adopted}  # a server need not be hashable

    def install(self, note_failure: Callable[[object, bool], None]) -> None:
        """Let the servers of both lineages report here, unless they override `handle_error`."""

        def log_error(error: BaseException | None, client_address: object, server: Any) -> None:
            note_failure(client_address, peer_is_gone(error))
            self.report(error, client_address, server)

        def handle_error(server: Any, request: object, client_address: object) -> None:
            log_error(sys.exc_info()[1], client_address, server)

        BaseServer._log_error = staticmethod(log_error)
        socketserver.BaseServer.handle_error = handle_error  # type: ignore[assignment,method-assign]  # the default, not overrides

    def report(self, error: BaseException | None, client_address: object, server: Any) -> None:
        """Log what a handler raised."""
        gate = self._gates.get(id(server))  # none of a server that the application has for itself
        listener = gate.name if gate else format_peer(getattr(server, "server_address", None))
        about = {"peer": format_peer(client_address), "listener": listener}
        lost, end = ("answer", "datagram dropped") if gate and gate.datagrams else ("connection", "connection closed")
        if went_idle(error):
            log.info("connection idle; closed", extra=about)
        elif peer_is_gone(error):
            log.info("%s lost: %s; %s", lost, type(error).__name__, end, extra=about)
        elif isinstance(error, SystemExit):
            log.warning("handler called sys.exit(%r): the worker goes on; %s", error.code, end, extra=about)
        else:
            what = f"{type(error).__name__}: {error}"
            log.error("handler failed: %s; %s", what, end, exc_info=error, extra=about)
