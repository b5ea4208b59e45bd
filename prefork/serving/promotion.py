"""When the leader of a pool promotes a follower before it serves, and when it leaves that to a deputy.

To promote costs more than a short request: a thread is woken, and both want the interpreter. While requests come in
quick succession the leader promotes nobody, then: most of the time it is back before another thread had run. Meanwhile
one follower, the deputy, looks every `TICK` seconds whether a request that was left to it is still being served; it
leads then, so that nobody waits behind another's request for longer than two ticks. Where one request was slow others
may be, and for a run of requests, ever longer if that happens again soon, each leader promotes at once.

Used under the pool's lock.
"""

from __future__ import annotations

from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TICK = 0.002  # seconds
_SHORTEST_RUN, _LONGEST_RUN = 32, 1024  # requests before which somebody is promoted at once


class Promotion:
    """What a pool remembers of its requests to decide this. Those that are left to the deputy are numbered from 1."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._last_request = 0.0  # when it was taken
        self._number = 0  # of the last request that was left to a deputy
        self._appointed = 0  # the last number before the present deputy was appointed
        self._seen = 0  # the last number when the deputy last looked
        self._run = _SHORTEST_RUN
        self._left_of_run = 0

    def is_due(self) -> bool:
        """Say, of the request that has just been taken, whether somebody has to be promoted for it."""
        now = self._clock()
        quick = now - self._last_request < TICK
        self._last_request = now
        if self._left_of_run:
            self._left_of_run -= 1
            return True
        return not quick

    def appoint(self) -> None:
        """Note that there is a new deputy."""
        self._appointed = self._seen = self._number

    def leave(self) -> int:
        """Leave a request to the deputy; return its number."""
        self._number += 1
        return self._number

    def is_overdue(self, numbers: Iterable[int]) -> bool:
        """Say whether one of these requests, which are being served, was there when the deputy looked last."""
        return any(number <= self._seen for number in numbers)

    def is_quiet(self) -> bool:
        """Note that the deputy has looked, and say whether no request was left to it since it looked last."""
        quiet = self._number == self._seen
        self._seen = self._number
        return quiet

    def begin_run(self) -> None:
        """Let somebody be promoted at once for a run of requests: one was slow."""
        soon = self._number - self._appointed <= _LONGEST_RUN
        self._run = min(2 * self._run, _LONGEST_RUN) if soon else _SHORTEST_RUN
        self._left_of_run = self._run
