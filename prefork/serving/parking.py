"""Where connections wait between two messages: each is one entry of an epoll, and no thread.

An entry is disarmed by the kernel when it reports (EPOLLONESHOT), so a message is taken by one thread; parking the
connection again arms it, and reports at once what has come meanwhile. The limit on idleness costs nothing per message:
the connections lie in the order in which they were parked, so the first one tells when somebody has to look again.
"""

from __future__ import annotations

import contextlib
import math
import select
from collections import deque
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from prefork.serving.conversation import Conversation

_AT_A_TIME = 64  # so many are taken up before the listeners are looked at again
_MOVED_AT_A_TIME = 16  # so many are handed over before others are looked at again
_NEWS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT
_HANG_UP = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Parking:
    """The parked connections of a pool, used under its lock; only `readable` and `timeout`, by its leader, without."""

    def __init__(self, idle_timeout: float = 0.0) -> None:
        self._idle_timeout = idle_timeout  # 0: none
        self._look_at = math.inf  # when somebody has to look for idle ones
        self._parked: dict[int, Conversation] = {}  # by descriptor, the longest parked first
        self._epoll: Any = None  # a select.epoll while it is open
        self._staying: Collection[int] | None = None  # while others are handed over: listeners of which none is
        self._to_move: deque[Conversation] = deque()  # those that were parked since and may be handed over

    def open(self) -> None:
        self._epoll = select.epoll()

    def __len__(self) -> int:
        return len(self._parked)

    def fileno(self) -> int:
        """Return what is readable while a parked connection is."""
        descriptor: int = self._epoll.fileno()
        return descriptor

    def add(self, conversation: Conversation) -> bool:
        """Park it, and say whether the leader must be told. Raise OSError if the kernel cannot watch it."""
        conversation.queued = conversation.unread
        tell = conversation.unread
        if self._idle_timeout:
            conversation.parked_at = monotonic()
            if self._look_at == math.inf:
                self._look_at = conversation.parked_at + self._idle_timeout
                tell = True
        self._parked[conversation.descriptor] = conversation  # before the entry is armed: the leader finds it there
        if not conversation.unread:
            self._watch(conversation)
            tell |= self._choose(conversation)
        return tell

    def begin_to_move(self, staying: Collection[int]) -> None:
        """Choose all that may be handed over, now and later, but those of the listeners `staying`."""
        self._staying = staying
        self._to_move.clear()
        for conversation in self._parked.values():
            self._choose(conversation)

    def _choose(self, conversation: Conversation) -> bool:
        chosen = self.is_to_move(conversation)
        if chosen:
            self._to_move.append(conversation)
        return chosen

    def is_to_move(self, conversation: Conversation) -> bool:
        """Say whether it is handed over when it is parked; that does not change while it is served."""
        return self._staying is not None and conversation.listener not in self._staying and conversation.may_move

    @property
    def has_some_to_move(self) -> bool:
        return bool(self._to_move)

    def to_move(self) -> list[Conversation]:
        """Return some that are to be handed over. They are taken out of the epoll, which would go on reporting them."""
        found: list[Conversation] = []
        while self._to_move and len(found) < _MOVED_AT_A_TIME:
            conversation = self._to_move.popleft()
            if self._parked.get(conversation.descriptor) is conversation and not conversation.queued:
                conversation.queued = conversation.moving = True
                conversation.registered = False
                with contextlib.suppress(OSError):  # somebody has closed it, which who carries it will notice
                    self._epoll.unregister(conversation.descriptor)
                found.append(conversation)
        return found

    def remove(self, conversation: Conversation) -> None:
        """Note that a thread carries it again; or for the first time, if it comes from another process."""
        self._parked.pop(conversation.descriptor, None)

    def readable(self) -> list[Conversation]:
        """Return those that have something to read. Each is returned once, and is to be served."""
        found = []
        for descriptor, news in self._epoll.poll(0, _AT_A_TIME):
            conversation = self._parked.get(descriptor)
            if conversation is not None and not conversation.queued:
                conversation.queued = True
                conversation.hung_up = bool(news & _HANG_UP)
                found.append(conversation)
        return found

    def expired(self) -> list[Conversation]:
        """Return those that have been idle for too long, to be ended."""
        if self._look_at == math.inf or monotonic() < self._look_at:
            return []
        now, found = monotonic(), []
        self._look_at = math.inf
        for conversation in self._parked.values():
            if conversation.parked_at + self._idle_timeout > now:
                self._look_at = conversation.parked_at + self._idle_timeout
                break
            if not conversation.queued:
                conversation.queued = conversation.leaving = True
                found.append(conversation)
        return found

    def part_with_all(self) -> list[Conversation]:
        """Return those that have nothing to read, to be ended, after those that have, to be served.

        Those that are to be handed over wait for that.
        """
        found = []
        while ready := self.readable():
            found += ready
        for conversation in self._parked.values():
            if not conversation.queued and not self.is_to_move(conversation):
                conversation.queued = conversation.leaving = True
                found.append(conversation)
        return found

    def timeout(self) -> float | None:
        """Return the seconds until somebody has to look for idle connections."""
        return None if self._look_at == math.inf else max(0.0, self._look_at - monotonic())

    def requests(self) -> list[object]:
        return [conversation.request for conversation in self._parked.values()]

    def close(self) -> None:
        self._epoll.close()

    def _watch(self, conversation: Conversation) -> None:
        try:
            if conversation.registered:
                self._epoll.modify(conversation.descriptor, _NEWS)
            else:
                self._epoll.register(conversation.descriptor, _NEWS)
        except OSError:
            self.remove(conversation)
            raise
        conversation.registered = True
