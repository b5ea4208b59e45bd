"""How a pool leaves a connection to a less busy worker: it gives that one a moment, and does not rely on it."""

from __future__ import annotations

from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from prefork.serving.accepting import Intake, Intakes
    from prefork.serving.activity import Activity

# 6 ms together: longer than the other worker's leader may have to wait for the interpreter's lock.
MOMENTS = (0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032)
# Seconds for which nothing is left to a worker that took nothing, doubling until it takes something.
_SHORTEST_IGNORED = 0.02
_LONGEST_IGNORED = 1.0


class Spread:
    """The manners of a pool's leader, and what became of them lately. Used by the leader."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._unheeding = 0.0  # what a worker showed that took nothing: it hangs, or does not have this listener
        self._ignored = _SHORTEST_IGNORED
        self._ignored_until = 0.0

    def leaves(self, intake: Intake, wait: Intakes) -> bool:
        """Say whether what waits at the listener is nothing for us: somebody else took it, or there is other work."""
        other = self._activity.less_busy()
        if not other or (other == self._unheeding and monotonic() < self._ignored_until):
            return False
        for moment in MOMENTS:
            if not wait.is_left_by_others(intake, moment):
                return True
            other = self._activity.less_busy()
            if not other:
                return False
        again = other == self._unheeding
        self._ignored = min(2 * self._ignored, _LONGEST_IGNORED) if again else _SHORTEST_IGNORED
        self._unheeding = other
        self._ignored_until = monotonic() + self._ignored
        return False
