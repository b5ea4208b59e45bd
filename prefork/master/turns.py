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
            self._begun = self._own_time()

    def end(self) -> None:
        """The next wait begins."""
        if self._begun is not None:
            self.longest = max(self.longest, self._own_time() - self._begun)
            self._begun = None

    def _own_time(self) -> float:
        """Return a clock that stands still while the processor is with others (proc_pid_schedstat, in nanoseconds)."""
        now = time.monotonic()
        if self._statistics < 0:
            return now
        delayed = os.pread(self._statistics, 100, 0).split()[1]
        return now - int(delayed) / 1e9

    def close(self) -> None:
        """Give back what was opened."""
        if self._statistics >= 0:
            os.close(self._statistics)
            self._statistics = -1
