"""What the limits do to clients, said once for all workers: connections that wait for room, and peers with too many."""

from __future__ import annotations

import logging
import math

from prefork.ipc.ledger import Ledger

log = logging.getLogger("prefork.master")

_EPISODE = 60.0  # seconds without a refusal after which one of the same peer is news; workers repeat it twice a minute
_MOST_PEERS = 4096


class Pressure:
    """Follows what workers say about the limits."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: set[int] = set()  # the numbers of the workers that have no room
        self._refused: dict[str, float] = {}  # when each peer was last said to be refused

    def note_overload(self, number: int, waiting: bool) -> None:
        """Log when the first worker has no room any more, and when the last one has again."""
        before = bool(self._waiting)
        if waiting:
            self._waiting.add(number)
        else:
            self._waiting.discard(number)
        if self._waiting and not before:
            log.warning("no room: as many connections are open as limit_connections allows; others wait in the queue")
        elif before and not self._waiting:
            log.info(
                "room again: %d connections are open; nobody waits because of limit_connections", self._ledger.total()
            )

    def note_refused(self, peer: str, now: float) -> None:
        """Log that a peer has too many connections, once until it has been content with fewer for a while."""
        last = self._refused.pop(peer, -math.inf)  # put in anew, so that the first one is the oldest
        self._refused[peer] = now
        if len(self._refused) > _MOST_PEERS:
            del self._refused[next(iter(self._refused))]
        if now - last >= _EPISODE:
            log.warning(
                "peer refused: it has as many connections as limit_per_peer allows; more are closed at once",
                extra={"peer": peer},
            )
