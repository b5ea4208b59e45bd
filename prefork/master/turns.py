"""How long the master's loop is away from its wait: for that time it hears nobody.

A turn is from the end of one wait to the begin of the next. What counts is what the master itself did or waited for in
it; the time in which it could have run and the machine gave the processor to somebody else is nobody's fault here.
"""

from __future__ import annotations

import os
import time


class Turns:
    """Told of the begin and the end of each turn by the loop."""

    def __init__(self) -> None:
        self.longest = 0.0
        """In seconds, since the start."""
        self._begun: float | None = None
        try:
            self._statistics = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._statistics = -1  # /proc is hidden, or the kernel does not count

    def begin(self) -> None:
        """The wait is over. Again in the same turn it does no harm."""
        if self._begun is None:
            delayed = self._delayed()  # first, and last in `end`: what is between two looks at clocks is no turn
            self._begun = time.monotonic() - delayed

    def end(self) -> None:
        """The next wait begins."""
        now = time.monotonic()
        delayed = self._delayed()
        if self._begun is not None:
            self.longest = max(self.longest, now - delayed - self._begun)
            self._begun = None

    def _delayed(self) -> float:
        """Return for how long this thread has waited for a processor since its start (/proc/PID/schedstat)."""
        if self._statistics < 0:
            return 0.0
        try:
            return int(os.pread(self._statistics, 100, 0).split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            self.close()
            self._begun = None  # what it was begun with does not fit any more
            return 0.0

    def close(self) -> None:
        """Give back what was opened."""
        if self._statistics >= 0:
            os.close(self._statistics)
            self._statistics = -1
