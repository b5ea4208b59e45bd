"""What a serving loop waits for: its listener, a wake-up from other threads, and whatever holds the listener back.

The standard module's loop notices `shutdown()` only at its next poll. Here a byte in a private pair of sockets ends
the wait at once. The pair lives only while a loop runs: a server that is not serving owns no other descriptor than
its listener.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol, Self

    class HasFileno(Protocol):
        def fileno(self) -> int: ...


class Wakeup:
    """Ends another thread's wait; also safe to use from a signal handler in the waiting thread itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a byte sent to a number closed meanwhile could reach somebody else's socket
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def __enter__(self) -> Self:
        try:
            self._ends = socket.socketpair()
        except OSError:
            return self  # no descriptor left: the loop still looks at its flag at each poll
        for end in self._ends:
            end.setblocking(False)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            ends, self._ends = self._ends, None
        for end in ends or ():
            end.close()

    @property
    def usable(self) -> bool:
        return self._ends is not None

    def fileno(self) -> int:
        return self._ends[0].fileno() if self._ends else -1

    def wake(self) -> None:
        # Never waits for the lock: whoever holds it is waking or closing already, and in a signal handler it may be
        # held by the very thread that was interrupted.
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._ends:
                self._ends[1].send(b"\0")
        except BlockingIOError:
            pass  # as many bytes as fit are waiting to be seen
        finally:
            self._lock.release()

    def clear(self) -> None:
        try:
            while self._ends and self._ends[0].recv(64):
                pass
        except BlockingIOError:
            pass  # the last byte is read


class Hold:
    """Leaves the listener out of one wait: for some seconds at most, or until one of the descriptors is readable.

    The descriptors belong to the wait, which closes them.
    """

    def __init__(self, seconds: float | None, descriptors: Sequence[int] = ()) -> None:
        self.seconds = seconds
        self.descriptors = descriptors


class ListenerWait:
    """The wait of one serving loop. The selector is the loop's own and outlives this object."""

    def __init__(self, selector: selectors.BaseSelector, listener: HasFileno, wakeup: Wakeup | None = None) -> None:
        self._selector = selector
        self._listener = listener
        self._wakeup = wakeup
        self._watching = True
        selector.register(listener, selectors.EVENT_READ)
        if wakeup is not None and wakeup.usable:
            selector.register(wakeup, selectors.EVENT_READ)

    def for_request(self, timeout: float | None, hold: Hold | None = None) -> bool:
        """Wait until something happens or the time is over. True if the listener is ready."""
        if hold is not None:
            self._wait_without_listener(timeout, hold)
            return False
        if not self._watching:
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._watching = True
        ready = self._selector.select(timeout)
        return bool(ready) and not self._only_woken(ready)

    def _wait_without_listener(self, timeout: float | None, hold: Hold) -> None:
        if self._watching:
            self._selector.unregister(self._listener)
            self._watching = False
        for descriptor in hold.descriptors:
            self._selector.register(descriptor, selectors.EVENT_READ)
        try:
            self._only_woken(self._selector.select(shorter(timeout, hold.seconds)))
        finally:
            for descriptor in hold.descriptors:
                self._selector.unregister(descriptor)
                os.close(descriptor)

    def _only_woken(self, ready: Iterable[tuple[selectors.SelectorKey, int]]) -> bool:
        if self._wakeup is None:
            return False
        others = 0
        for key, _ in ready:
            if key.fileobj is self._wakeup:
                self._wakeup.clear()
            else:
                others += 1
        return not others


def shorter(one: float | None, other: float | None) -> float | None:
    """Return the shorter of two time-outs, None being the longest."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
