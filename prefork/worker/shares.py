"""Which sockets of a place that has several (`?sockets=N`) this worker serves: as many as the others, give or take one.

Each is served by one worker at a time, so that what one client sends comes to the same worker as long as that serves.
The workers agree by claims (prefork/ipc/claims.py). Who has too few takes what is free at once, or asks, and another
who has at least two more leaves one, and lets go of it when none of its threads takes anything from it any more. What
is still free a moment later, because a worker that died is not replaced yet, is taken by those who have enough.
"""

from __future__ import annotations

import math
import os
import select
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prefork.ipc.claims import Claims
    from prefork.system.sockets import Listener

_FOR_OTHERS = 0.1  # seconds for which something free is left to those who have too few
_FOR_ANYBODY = 1.0  # seconds after which anybody takes it
_UNTIL_ASKING = 1.0  # seconds: in a reload those who have them leave soon, and each is to move once


def groups_of(listeners: Sequence[Listener]) -> list[list[Listener]]:
    """Return the listeners that share a place with others, place by place."""
    by_place: dict[str, list[Listener]] = {}
    for listener in listeners:
        if listener.address.sockets:
            by_place.setdefault(listener.address.first.place, []).append(listener)
    return list(by_place.values())


class Share:
    """What this worker has of one place. `inodes`: of each socket, by the index of its listener."""

    def __init__(self, claims: Claims, inodes: Mapping[int, int]) -> None:
        self._claims = claims
        self._inodes = inodes
        self._group = next(iter(inodes.values()))
        self._free_since: dict[int, float] = {}  # by index
        self._asks = False
        self._few_since = math.inf
        self._rings = False  # when it has looked
        self.held: list[int] = []
        self.leaving: list[int] = []  # and not held any more, but still ours

    def look(self, workers: int, now: float) -> float:
        """Take what is ours, or leave one that another should have; return when to look again at the latest."""
        ours = {*self.held, *self.leaving}
        owners = {index: self._claims.owner(inode) for index, inode in self._inodes.items() if index not in ours}
        others = Counter(owner for owner in owners.values() if owner is not None)
        enough, most = len(self._inodes) // workers, -(-len(self._inodes) // workers)
        due = self._take([index for index, owner in owners.items() if owner is None], enough, most, now)
        due = min(due, self._ask(max(others.values(), default=0), now))
        if not self._free_since and not self.leaving:
            self._leave(others, most)
        return due

    def let_go(self) -> None:
        """Leave to another worker what nothing is taken from any more."""
        for index in self.leaving:
            self._claims.release(self._inodes[index])
        if self.leaving:
            self.leaving.clear()
            self._claims.ring()

    def _take(self, free: Sequence[int], enough: int, most: int, now: float) -> float:
        """Take some of what is free, at once or when it has been for a while; return when that is."""
        too_few = len(self.held) < enough or self._asks
        self._free_since = {index: self._free_since.get(index, now) for index in free}
        due = math.inf
        for index, since in list(self._free_since.items()):
            if len(self.held) >= most:
                since += _FOR_ANYBODY
            elif not too_few:
                since += _FOR_OTHERS
            if now < since:
                due = min(due, since)
            elif self._claims.claim(self._inodes[index]):
                self.held.append(index)
                del self._free_since[index]
                self._rings = True  # another may let go of the next one
        return due

    def _ask(self, most_of_others: int, now: float) -> float:
        """Ask for one, and for the next one when we have got that, or let others ask; return when to ask."""
        due = math.inf
        if most_of_others <= len(self.held) + 1:
            self._few_since = math.inf
            if self._asks:
                self._claims.stop_asking(self._group)
                self._asks, self._rings = False, True
        elif not self._asks:
            self._few_since = min(self._few_since, now)
            if now < self._few_since + _UNTIL_ASKING:
                due = self._few_since + _UNTIL_ASKING
            elif self._claims.ask(self._group):  # else another asks, and rings when it has enough
                self._asks = self._rings = True
        if self._rings:
            self._rings = False
            self._claims.ring()
        return due

    def _leave(self, others: Mapping[int, int], most: int) -> None:
        """If another asks who has at least two less, leave one, or all that is more than anybody should have."""
        asker = self._claims.asker(self._group)
        if asker is not None and len(self.held) > others.get(asker, 0) + 1:
            for _ in range(max(1, len(self.held) - most)):
                self.leaving.append(self.held.pop())


class Shares:
    """All places of a worker that have several sockets. Used by its main thread."""

    def __init__(self, claims: Claims, groups: Iterable[Sequence[Listener]]) -> None:
        self._claims = claims
        inodes = [{one.index: os.fstat(one.socket.fileno()).st_ino for one in group} for group in groups]
        self._every = frozenset(index for group in inodes for index in group)
        self._shares = [Share(claims, group) for group in inodes]
        self._heard = select.epoll()  # what the bell rang for
        self._heard.register(claims, select.EPOLLIN | select.EPOLLET)
        self.due = math.inf
        """When to look again, whether or not it rings."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when it is time to look."""
        return self._heard.fileno()

    def begin(self, now: float) -> frozenset[int]:
        """Count among those who serve, and return which listeners are left to others."""
        self._claims.begin()
        self._claims.ring()
        return self.look(now)

    def look(self, now: float) -> frozenset[int]:
        """Take, and choose what to let go of; return which listeners are left to others."""
        self.hear()
        workers = 1 + self._claims.others()
        self.due = min([share.look(workers, now) for share in self._shares], default=math.inf)
        return self._every.difference(*(share.held for share in self._shares))

    @property
    def leaving(self) -> bool:
        """Whether some of what is left to others is still ours, until `let_go()`."""
        return any(share.leaving for share in self._shares)

    def let_go(self) -> None:
        """To be called when nothing is taken any more from what is left to others."""
        for share in self._shares:
            share.let_go()

    def hear(self) -> None:
        """Wait for the next ring."""
        self._heard.poll(0)
        self.due = math.inf

    def end(self) -> None:
        """Let go of everything."""
        self._claims.end()
        self._claims.ring()
