"""Tallies: what became of the connections of each listener, counted by each thread in words of its own.

A block of words for each thread row and listener. Each word has one writer and is one aligned machine word, so a
reader never sees half of it; nothing is locked.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""The upper ends, in seconds, of the classes of durations; the last class has none."""

_ACCEPTED, _CLOSED, _FAILED, _REFUSED, _HANDED_OVER, _TAKEN_OVER, _NANOSECONDS, _CLASSES = range(8)
_BLOCK = _CLASSES + len(BOUNDS) + 1  # words
_WORD_BYTES = 8


@dataclass(frozen=True, slots=True)
class Tally:
    """Connections (or datagrams) of one listener, and how long requests took.

    `closed` have ended in an orderly way, whether their handler failed or not; `lost` were open in a worker that died,
    `refused` never served; while they were parked some were `handed_over` by one worker and `taken_over` by another.
    A request is a connection, or a message of those that are served message by message.
    """

    accepted: int = 0
    closed: int = 0
    failed: int = 0
    lost: int = 0
    refused: int = 0
    handed_over: int = 0
    taken_over: int = 0
    seconds: float = 0.0
    durations: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)

    @property
    def open(self) -> int:
        """Those that have not ended."""
        return self.accepted + self.taken_over - self.handed_over - self.closed - self.lost

    @property
    def served(self) -> int:
        """Those whose handler returned."""
        return self.closed - self.failed - self.refused

    def bury(self) -> Tally:
        """Return it as it is when its worker has gone: what was open is lost."""
        return replace(self, lost=self.lost + self.open)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.accepted + other.accepted,
            self.closed + other.closed,
            self.failed + other.failed,
            self.lost + other.lost,
            self.refused + other.refused,
            self.handed_over + other.handed_over,
            self.taken_over + other.taken_over,
            self.seconds + other.seconds,
            tuple(one + two for one, two in zip(self.durations, other.durations, strict=True)),
        )


Tallies = Mapping[str, Tally]
"""By the address of the listener."""


def add_up(several: Iterable[Tallies]) -> dict[str, Tally]:
    """Add up the tallies of each listener."""
    total: dict[str, Tally] = {}
    for tallies in several:
        for listener, tally in tallies.items():
            total[listener] = total[listener] + tally if listener in total else tally
    return total


class TallyBoard:
    """The words of all slots: shared memory, of which untouched pages cost nothing."""

    def __init__(self, slots: int, rows: int, listeners: Sequence[str]) -> None:
        self._listeners = tuple(listeners)
        self._words_of_slot = rows * len(listeners) * _BLOCK
        size = max(1, slots * self._words_of_slot) * _WORD_BYTES
        self._words = memoryview(mmap.mmap(-1, size, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)).cast("Q")

    def slot(self, slot: int) -> TallyRows:
        """Return the words of a slot."""
        start = slot * self._words_of_slot
        return TallyRows(self._words[start : start + self._words_of_slot], self._listeners)


class TallyRows:
    """The words of one slot: written in the worker, read in the master."""

    def __init__(self, words: memoryview[int], listeners: tuple[str, ...]) -> None:
        self._words = words
        self._listeners = listeners
        self._row = len(listeners) * _BLOCK

    def clear(self) -> None:
        """Forget the slot's former worker."""
        self._words.cast("B")[:] = bytes(self._words.nbytes)

    def opened(self, row: int, listener: int) -> None:
        """Count a connection (the thread of that row only)."""
        self._words[row * self._row + listener * _BLOCK + _ACCEPTED] += 1

    def refused(self, row: int, listener: int) -> None:
        """Count that it is closed without being served (the thread of that row only)."""
        self._words[row * self._row + listener * _BLOCK + _REFUSED] += 1

    def closed(self, row: int, listener: int, failed: bool, seconds: float | None = None) -> None:
        """Count its end, and how long it took if that was one request (the thread of that row only)."""
        if seconds is not None:
            self.took(row, listener, seconds)
        words, at = self._words, row * self._row + listener * _BLOCK
        if failed:
            words[at + _FAILED] += 1
        words[at + _CLOSED] += 1  # last: this ends it

    def handed_over(self, row: int, listener: int) -> None:
        """Count that another worker has it now (the thread of that row only)."""
        self._words[row * self._row + listener * _BLOCK + _HANDED_OVER] += 1

    def taken_over(self, row: int, listener: int) -> None:
        """Count one that another worker has handed over (the thread of that row only)."""
        self._words[row * self._row + listener * _BLOCK + _TAKEN_OVER] += 1

    def took(self, row: int, listener: int, seconds: float) -> None:
        """Note how long a request took (the thread of that row only)."""
        words, at = self._words, row * self._row + listener * _BLOCK
        words[at + _NANOSECONDS] += int(1e9 * seconds)
        words[at + _CLASSES + bisect_left(BOUNDS, seconds)] += 1

    def read(self) -> dict[str, Tally]:
        """Add up all thread rows."""
        words = self._words.tolist()
        total: dict[str, Tally] = {}
        for index, listener in enumerate(self._listeners):
            sums = [sum(words[index * _BLOCK + word :: self._row]) for word in range(_BLOCK)]
            # What is counted while we read may be seen at its end and not at its beginning.
            moved = sums[_HANDED_OVER] - sums[_TAKEN_OVER]
            tally = Tally(
                accepted=max(sums[_ACCEPTED], sums[_CLOSED] + moved),
                closed=sums[_CLOSED],
                failed=sums[_FAILED],
                refused=sums[_REFUSED],
                handed_over=sums[_HANDED_OVER],
                taken_over=sums[_TAKEN_OVER],
                seconds=sums[_NANOSECONDS] / 1e9,
                durations=tuple(sums[_CLASSES:]),
            )
            total[listener] = total[listener] + tally if listener in total else tally
        return total
