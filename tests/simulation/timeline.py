"""Virtual time: what is going to happen, and when."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

Act = Callable[[], None]


class Timeline:
    def __init__(self, now: float) -> None:
        self.now = now
        self._agenda: list[tuple[float, int, Act]] = []
        self._entries = 0

    def at(self, delay: float, act: Act) -> None:
        self.plan(self.now + delay, act)

    def plan(self, time: float, act: Act) -> None:
        self._entries += 1
        heapq.heappush(self._agenda, (time, self._entries, act))

    @property
    def next_due(self) -> float:
        return self._agenda[0][0] if self._agenda else math.inf

    def do_next(self) -> None:
        self.now, _, act = heapq.heappop(self._agenda)
        act()

    def postpone_everything(self, length: float) -> None:
        self._agenda = [(time + length, entry, act) for time, entry, act in self._agenda]
        self.now += length
