"""Who is served again and again when a worker dies: a peer, whatever port it comes from, or a tag of the application.

Whoever is served at two crashes within a minute is a suspect. It may be innocent: behind a load balancer all peers are
one, and a busy client is served at every crash.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from prefork.ipc.scoreboard import Request

PERIOD = 60.0  # seconds
_MOST_NAMES = 1000  # of one crash that are remembered


class Suspects:
    """The crashes of the last minute, with the names of who was served."""

    def __init__(self) -> None:
        self.found = 0
        """How often somebody became a suspect."""
        self._crashes: deque[tuple[float, frozenset[str]]] = deque()
        self._told: dict[str, float] = {}  # when; nobody is named twice in a period

    def note(self, in_flight: Iterable[Request], now: float) -> Iterator[tuple[str, int]]:
        """Note a crash; yield who has become a suspect, and at how many crashes it was served."""
        names = sorted({name for request in in_flight for name in _names_of(request)})[:_MOST_NAMES]
        self._forget(now)
        self._crashes.append((now, frozenset(names)))
        for name in names:
            times = sum(name in served for _, served in self._crashes)
            if times >= 2 and name not in self._told:
                self._told[name] = now
                self.found += 1
                yield name, times

    def _forget(self, now: float) -> None:
        while self._crashes and self._crashes[0][0] <= now - PERIOD:
            self._crashes.popleft()
        self._told = {name: at for name, at in self._told.items() if at > now - PERIOD}


def _names_of(request: Request) -> Iterator[str]:
    host, _, port = request.peer.rpartition(":")
    peer = host if port.isdigit() else request.peer
    if peer not in ("", "unix"):  # a Unix client without a name could be anybody
        yield f"peer {peer}"
    if request.tag:
        yield f"tag {request.tag!r}"
