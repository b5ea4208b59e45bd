"""An episode in which the system has no thread for a pool: said when it begins, and when it has been over for a while.

To end it with the first thread that can be started would fill the log while others on the machine come and go.
"""

from __future__ import annotations

import logging
from time import monotonic

log = logging.getLogger("prefork.serving")

_CALM = 1.0  # seconds without a failure after which a thread that was started ends the episode


class ThreadShortage:
    """Told under the pool's lock of every thread that could not be started, and of those that could."""

    def __init__(self) -> None:
        self.lasts = False
        self._relieved = False  # a thread was started since the last failure
        self._failed_at = 0.0

    def failed(self, error: BaseException, threads: int) -> None:
        self._failed_at = monotonic()
        self._relieved = False
        if not self.lasts:
            self.lasts = True
            log.warning("cannot start a thread: %s; serving with the %d there are, and trying again", error, threads)

    def succeeded(self) -> None:
        self._relieved = True

    def settle(self) -> None:
        """End the episode if it is over."""
        if self.lasts and self._relieved and monotonic() >= self._failed_at + _CALM:
            self.lasts = False
            log.warning("threads can be started again: the shortage is over")
