"""How a leader leaves a connection in its queue while another thread of the worker computes.

Threads that compute share the interpreter: taken now, the connection would only make those wait that came before it,
and a worker whose interpreter is free could not take it any more. So it stays in the queue, which all workers share and
which is served in order, until a thread has ended its request, or the interpreter is found free; for 30 ms in all, so
that a handler that computes for seconds delays nobody for longer than that.

Whether it is kept shows by a short wait that takes longer than asked for, while this process has used the processor:
who waits and wants to go on needs the interpreter's lock (sys.getswitchinterval: 5 ms). What computes without the lock
is nobody's hindrance, and is not noticed. Nobody looks while no other thread is busy, or as long as they have used next
to no time of a processor; nor while many are busy, for then handlers wait for something, and what is held back could
have begun to wait as well.
"""

from __future__ import annotations

from time import monotonic, process_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from prefork.serving.accepting import Intake, Intakes

_MOMENTS = (0.0001, 0.001, 0.002, 0.004, 0.008, 0.016)
_LATE = 0.001  # seconds beyond a moment that show it, and of processor time that make one look
LONGEST = 0.03  # seconds for which a connection is held back, in all
MOST = 3  # busy threads beside whom a connection is held back
_WATCHFUL = 16  # connections before which one looks in any case, because somebody computed before one of them


class Interpreter:
    """Who keeps it, as far as a pool's leader has noticed. Used by the leader."""

    def __init__(
        self, clock: Callable[[], float] = monotonic, processor_clock: Callable[[], float] = process_time
    ) -> None:
        self.awaited = False  # the leader wants to be woken when a thread ends; read under the pool's lock
        self._clock = clock
        self._processor_clock = processor_clock
        self._used = 0.0  # processor time when one looked last
        self._until = 0.0  # when what is held back is taken anyway; 0: nothing is
        self._watchful = 0

    def holds_back(self, intake: Intake, wait: Intakes, busy: Collection[object], more: bool) -> bool:
        """Say whether what waits at the listener is to stay there: somebody else took it, or there is other work.

        If there is `more` to do that is ready already, it is not waited for here.
        """
        if 0 < len(busy) <= MOST and (self._until or self._is_suspected()):
            now = self._clock()
            self._until = self._until or now + LONGEST
            if now < self._until and (more or self._waits(intake, wait)):
                return True
        self._until = 0.0
        return False

    def _is_suspected(self) -> bool:
        """Say whether the other threads have computed, or lately did so before somebody could look."""
        before, self._used = self._used, self._processor_clock()
        self._watchful -= self._watchful > 0
        return self._watchful > 0 or self._used - before >= _LATE

    def _waits(self, intake: Intake, wait: Intakes) -> bool:
        """Wait as long as the interpreter is kept; say whether to look around instead of taking what waits."""
        self.awaited = True
        try:
            for moment in _MOMENTS:
                begun, used = self._clock(), self._processor_clock()
                if wait.has_other_work(moment):
                    return True
                now = self._clock()
                self._used = self._processor_clock()
                if now - begun - moment < _LATE or self._used - used < _LATE or now >= self._until:
                    return False
                self._watchful = _WATCHFUL
                if not wait.is_waiting(intake):
                    self._until = 0.0
                    return True
            return False
        finally:
            self.awaited = False
