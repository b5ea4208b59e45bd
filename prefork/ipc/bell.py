"""A bell, which one process rings and any number of others hear.

An eventfd(2) that only grows. Who listens watches it in an epoll of his own, edge-triggered (epoll(7)): so one ring is
heard by everybody, and nobody has to answer it.
"""

from __future__ import annotations

import contextlib
import os


class Bell:
    """Made by a master, or passed on to it; every other process of the server inherits it."""

    def __init__(self, passed: int | None = None) -> None:
        """Make it, or have the one that was passed on by the master before us."""
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if passed is None else passed

    def fileno(self) -> int:
        """Return the descriptor that becomes readable anew with each ring."""
        return self._descriptor

    def ring(self) -> None:
        """Wake everybody who listens. One that a process gone wild has filled wakes nobody any more."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self._descriptor, 1)

    def close(self) -> None:
        """Close this process's copy."""
        os.close(self._descriptor)
