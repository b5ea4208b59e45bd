"""How busy the workers of a generation are, as one number each, so that a busy one can leave a connection to another.

The number is what is served at the moment, and, among equals, how much has ever been taken: so the idle take turns, and
who took something out of turn makes up for it. A new worker begins with as much as the others have. 0 means that the
slot's worker does not accept. Written by the worker alone, under its pool's lock, except before it is forked and after
it has gone.
"""

from __future__ import annotations

import math
import mmap

_BYTES = 8
_USED = 0  # the first number: how many slots have ever been used, so that no more are looked at; the master's
_BUSY = 1e12  # nobody will ever have taken as many, and a double still counts them one by one


class Loads:
    """The numbers of all slots of a generation."""

    def __init__(self, slots: int) -> None:
        memory = mmap.mmap(-1, (slots + 1) * _BYTES, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        self._numbers = memoryview(memory).cast("d")

    def worker(self, slot: int) -> WorkerLoad:
        return WorkerLoad(self._numbers, slot + 1)


class WorkerLoad:
    """The number of one worker."""

    def __init__(self, numbers: memoryview[float], place: int) -> None:
        self._numbers = numbers
        self._place = place
        self._busy = 0
        self._taken = 0.0

    def clear(self) -> None:
        """Say that nobody accepts (before the worker is forked, or after its end)."""
        self._numbers[self._place] = 0.0
        self._numbers[_USED] = max(self._numbers[_USED], self._place)

    def change(self, busy: int | None) -> None:
        """Say how much is being served now; None: nothing is accepted any more."""
        if busy is None:
            self._numbers[self._place] = 0.0
            return
        if not self._taken:
            # A number that is none was scribbled there by an application.
            self._taken = max([1.0, *(number % _BUSY for number in self._shown() if 0.0 < number < math.inf)])
        if busy > self._busy:
            self._taken += 1
        self._busy = busy
        self._numbers[self._place] = busy * _BUSY + self._taken

    def less_busy(self) -> float:
        """Return the number of a worker that serves less, or, if we serve nothing, has taken less; or 0."""
        least = min(filter(None, self._shown()), default=0.0)
        return least if least < (self._busy * _BUSY if self._busy else self._numbers[self._place]) else 0.0

    def _shown(self) -> list[float]:
        shown: list[float] = self._numbers[1 : int(self._numbers[_USED]) + 1].tolist()  # type: ignore[assignment]  # "d"
        return shown
