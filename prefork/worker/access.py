"""The access log: one record for each connection (or datagram), written when it has ended.

A pool tells of its connections by its activity: `RecordingActivity` stands before the scoreboard and keeps a record for
each row, while `watch` lets the server say what the activity is not told, just before it closes a connection. The
records of foreign servers are kept by `Connections`, which knows the end of each.

What is not known is not guessed: bytes are counted by the kernel for TCP alone, and of a datagram we know what came in.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

from prefork.address import format_peer
from prefork.logs import record_access
from prefork.serving.poolthread import current_pool_thread
from prefork.worker.reporting import peer_is_gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from prefork.serving.activity import Activity

# struct tcp_info, <linux/tcp.h>: state, bytes_received, notsent_bytes, bytes_sent, bytes_retrans. All of it since 4.19.
_TCP_INFO = struct.Struct("=B127xQ8xI52xQQ")
# <netinet/tcp.h>. An end that the client has sent counts as a byte received, one of ours that waits as one not sent.
_CLIENT_HAS_ENDED = frozenset({6, 8, 9, 11})  # TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING
_WE_HAVE_ENDED = frozenset({4, 9, 11})  # FIN_WAIT1, LAST_ACK, CLOSING


FORKED = "forked"
"""A child process has it, and what becomes of it only the child knows."""


class Record:
    """What is known of a connection so far."""

    __slots__ = ("_begun", "_bytes_in", "_bytes_out", "_client_has_ended", "_listener", "client_address", "outcome")

    def __init__(
        self, listener: str, client_address: object, outcome: str = "", opened_at: float | None = None
    ) -> None:
        self._listener = listener
        self.client_address = client_address
        self.outcome = outcome  # what is known before the end
        self._begun = time.monotonic() if opened_at is None else opened_at
        self._client_has_ended = False
        self._bytes_in: int | None = None
        self._bytes_out: int | None = None

    def measure(self, request: Any) -> None:
        """Learn what can be known of the bytes; a connection's are final just before it closes. Later does no harm."""
        if self.outcome == FORKED:
            return
        if self._listener.startswith("tcp:"):
            self._count_bytes(request)
        elif isinstance(request, tuple) and self._listener.startswith(("udp:", "unixgram:")):
            self._bytes_in = len(request[0])

    def _count_bytes(self, connection: object) -> None:
        if not isinstance(connection, socket.socket):
            return
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            state, received, not_sent, sent, sent_again = _TCP_INFO.unpack(info)
        except (OSError, struct.error):
            return  # closed already, or a kernel that does not tell
        self._bytes_out = sent - sent_again + not_sent - (not_sent > 0 and state in _WE_HAVE_ENDED)
        if not self._client_has_ended:  # afterwards the state may not tell any more, and nothing more can come
            self._client_has_ended = state in _CLIENT_HAS_ENDED
            self._bytes_in = received - self._client_has_ended

    def end(self, failed: bool) -> None:
        """Write it."""
        outcome = self.outcome or ("failed" if failed else "served")
        what = "datagram" if self._listener.startswith(("udp:", "unixgram:")) else "connection"
        fields = {
            "seconds": round(time.monotonic() - self._begun, 6) if outcome != FORKED else None,
            "in": self._bytes_in,
            "out": self._bytes_out,
            "listener": self._listener,
            "peer": format_peer(self.client_address),
        }
        record_access(f"{what} {outcome}", fields)


class RecordingActivity:
    """Tells another activity everything, and the access log what became of it."""

    def __init__(self, activity: Activity, listeners: Mapping[int, str]) -> None:
        self._activity = activity
        self._listeners = listeners
        self._records: dict[int, Record] = {}  # by row, each changed by the thread of that row only

    def opened(self, row: int, listener: int, client_address: object) -> None:
        self._activity.opened(row, listener, client_address)
        self._records[row] = Record(self._listeners[listener], client_address)

    def closed(self, row: int, failed: bool, listener: int | None = None, since: float | None = None) -> None:
        self._activity.closed(row, failed, listener, since)
        record = self._records.pop(row, None)
        if record is not None:
            record.end(failed)

    def identified(self, row: int, client_address: object) -> None:
        self._activity.identified(row, client_address)
        self._records[row].client_address = client_address

    def refused(self, row: int, listener: int | None = None) -> None:
        self._activity.refused(row, listener)
        self._records[row].outcome = "refused"

    def parked(self, row: int) -> object:
        return self._activity.parked(row), self._records.pop(row, None)

    def resumed(self, row: int, listener: int, client_address: object, kept: Any) -> None:
        kept, record = kept
        self._activity.resumed(row, listener, client_address, kept)
        if record is not None:
            self._records[row] = record

    def handed_over(self, row: int) -> None:
        self._activity.handed_over(row)
        self._records.pop(row, None)  # written by whoever has the connection at its end

    def taken_over(self, row: int, listener: int, client_address: object, opened_at: float) -> None:
        self._activity.taken_over(row, listener, client_address, opened_at)
        self._records[row] = Record(self._listeners[listener], client_address, opened_at=opened_at)

    def message_began(self, row: int) -> None:
        self._activity.message_began(row)

    def message_ended(self, row: int, served: bool = True) -> None:
        self._activity.message_ended(row, served)

    def load_changed(self, busy: int | None) -> None:
        self._activity.load_changed(busy)

    def less_busy(self) -> float:
        return self._activity.less_busy()

    def tagged(self, row: int, text: str) -> None:
        self._activity.tagged(row, text)

    def extended(self, row: int, seconds: float) -> None:
        self._activity.extended(row, seconds)

    def record_of_this_thread(self) -> Record | None:
        """Return the record of what the calling thread of a pool carries."""
        thread = current_pool_thread()
        return None if thread is None else self._records.get(thread.row)


def watch_refusals(server: Any, note_refused: Callable[[Any], None]) -> None:
    """Let a server tell which requests it does not serve, by way of its own method; the default serves all."""
    verify_request = getattr(server, "verify_request", None)  # what only looks like a server need not have it
    if verify_request is None or getattr(verify_request, "__qualname__", "") == "BaseServer.verify_request":
        return

    def verified(request: Any, client_address: Any) -> Any:
        accepted = verify_request(request, client_address)
        if not accepted:
            note_refused(request)
        return accepted

    server.verify_request = verified


def watch(server: Any, activity: RecordingActivity) -> None:
    """Let a pooled server complete the records of its connections, by way of its own methods."""
    shutdown_request = server.shutdown_request

    def completed(request: Any) -> Any:
        record = activity.record_of_this_thread()
        if record is not None:
            record.measure(request)
            record.outcome = record.outcome or _outcome_now()
        return shutdown_request(request)

    server.shutdown_request = completed


def _outcome_now() -> str:
    """Say how a connection ends whose server closes it; "" if only its failing tells."""
    thread = current_pool_thread()
    if thread is not None and thread.pool.aborted:
        return "cut"
    return "lost" if peer_is_gone(sys.exception()) else ""  # the server closes while it handles the error
