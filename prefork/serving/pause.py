"""How long a listener rests when the system has no descriptor or memory left for another connection.

Such a connection stays in the queue and keeps the listener readable, so a loop that merely tries again spins. One
episode begins with the first failure and ends with the next request that is had; each of the two is said once.
"""

from __future__ import annotations

import errno
import sys

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
SHORTEST_PAUSE = 0.1
LONGEST_PAUSE = 1.0


class AcceptPause:
    """One episode: from the first failure to the next success."""

    def __init__(self) -> None:
        self._length = 0.0
        self._until = 0.0

    def failed(self, error: OSError, listener: object, now: float) -> None:
        if not self._length:
            warn(f"cannot accept on {listener!r}: {error}; the listener rests, then tries again")
        self._length = min(self._length * 2, LONGEST_PAUSE) or SHORTEST_PAUSE
        self._until = now + self._length

    def succeeded(self, listener: object) -> None:
        warn(f"accepting on {listener!r} again: the shortage is over")

    def remaining(self, now: float) -> float:
        return max(0.0, self._until - now)


def warn(text: str) -> None:
    """Log a warning, without importing anything: when no descriptor is left, an import fails."""
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("prefork.serving").warning("%s", text)
    elif sys.stderr is not None:
        sys.stderr.write(text + "\n")
