"""Which listener a leader tries again at once, without a wait, because where one request was another may be.

A datagram is tried for by whoever leads next. A connection only by the thread that left the last one to the deputy,
has ended it and leads again, before anybody else has led: then connections are short and come quickly, and neither a
poll nor a look at the other workers is worth its price. A worker whose handlers keep their connections has another
leader by then, which asks both. After so many in a row every listener, and everybody who is less busy, has a turn.

Used under the pool's lock, but for `tried`, which is the leader's.
"""

from __future__ import annotations

from prefork.serving.accepting import Intake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from prefork.serving.conversation import Conversation
    from prefork.serving.poolthread import PoolThread

RUN = 16  # requests of one listener that may be taken in a row
PAUSE = 16  # connections after which none is tried for, because once none was there: to be told so costs 2 us


class Retry:
    """What a pool remembers of its last request for this."""

    def __init__(self) -> None:
        self.tried: Intake | None = None  # what the leader tries, or has tried last, without a wait
        self._listener: Intake | None = None  # where there may be another one
        self._by: PoolThread | None = None  # who alone may try that; None: whoever leads
        self._in_a_row = 0
        self._pause = 0

    def expect(self, source: Intake | Conversation, me: PoolThread) -> None:
        """Note what this thread has left to the deputy."""
        self._listener = None
        if not isinstance(source, Intake) or not source.may_have_more or self._in_a_row >= RUN:
            return
        if self._pause and not source.datagrams:
            self._pause -= 1
            return
        self._in_a_row += 1
        self._listener = source
        self._by = None if source.datagrams else me

    def forget(self) -> None:
        """Note that another request was taken, or has not ended."""
        self._listener = None

    def choose(self, leader: PoolThread | None) -> Intake | None:
        """Return what the leader is to try at once; if nothing, it waits, and a new row begins."""
        self.tried = self._listener if self._by is None or self._by is leader else None
        self._listener = None
        if self.tried is None:
            self._in_a_row = 0
        return self.tried

    def note_in_vain(self, listener: Intake) -> None:
        """Note that nothing was there (the leader)."""
        if listener is self.tried and not listener.datagrams:
            self._pause = PAUSE
