"""The two ends of an upgrade: the successor as this master knows it, and the predecessor as its successor knows it.

They share a channel: the successor says that it serves, and what it took over, or why it cannot. Until then neither
relies on the other; a successor whose predecessor is killed meanwhile simply goes on.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Sequence

from prefork.ipc import messages
from prefork.ipc.channel import Channel, ChannelBroken, make_pair
from prefork.master.sources import Sources
from prefork.master.workers import Processes
from prefork.policy import events
from prefork.policy.events import Event
from prefork.system import processes
from prefork.system.succession import Estate, become_successor

log = logging.getLogger("prefork.master")

TakenOver = Callable[[Sequence[str], bool], object]
"""Called with the places of the listeners that the successor serves, and whether it has the control file."""


class Successor:
    """Starts a new master and hears it. A source of the old one while there is one."""

    def __init__(self, sources: Sources, children: Processes, taken_over: TakenOver) -> None:
        self._sources = sources
        self._children = children
        self._taken_over = taken_over
        self._channel: Channel[messages.FromSuccessor] | None = None
        self._takes_over = False
        self.pid: int | None = None  # while it is our child and may be given up
        self._given_up: set[int] = set()  # killed, and not reaped yet

    def start(self, make_estate: Callable[[int], Estate]) -> Iterable[Event]:
        """Fork it; `make_estate` is given its end of the channel. What cannot be started has failed at once."""
        if os.getpid() == 1:
            return [events.SuccessorFailed("the master is process 1: all other processes would end with it")]
        ours, theirs = make_pair()
        try:
            pid = processes.fork(lambda: _be_successor(theirs, make_estate(theirs.fileno())))
        except OSError as error:
            ours.close()
            return [events.SuccessorFailed(f"cannot fork: {(error.strerror or str(error)).lower()}")]
        finally:
            theirs.close()
        self.pid, self._takes_over = pid, False
        self._channel = Channel(ours, messages.from_successor)
        self._sources.add(self)
        self._children.follow_helper(pid, lambda how: self._gone(pid, how))
        return ()

    def fileno(self) -> int:
        """Our end of the channel."""
        return -1 if self._channel is None else self._channel.fileno()

    def events(self) -> Iterable[Event]:
        """Translate what the successor said. The end of its channel is no event: its death is."""
        if self._channel is None:
            return
        try:
            received = self._channel.receive()
        except ChannelBroken as error:
            self._sources.remove(self)
            yield events.SuccessorFailed(f"it {error}")
            return
        for message in received:
            match message:
                case messages.Serves(places, has_control):
                    self._taken_over(places, has_control)
                    self._tell_handed_over(self._channel)
                    yield events.SuccessorReady(self._takes_over)
                case messages.TakesOver():
                    self._takes_over = True
                case messages.Failed(reason, detail):
                    yield events.SuccessorFailed(reason, detail)
        if self._channel.closed_by_peer:
            self._sources.remove(self)

    def _tell_handed_over(self, channel: Channel[messages.FromSuccessor]) -> None:
        try:
            channel.send(messages.HandedOver())
        except ChannelBroken as error:
            log.debug("the successor does not listen: %s", error)

    def _gone(self, pid: int, how: str) -> Iterable[Event]:
        """Forget a reaped successor, after its last words."""
        if pid in self._given_up:
            self._given_up.remove(pid)
            return
        yield from self.events()
        self._forget()
        yield events.SuccessorFailed(f"it ended before it served: {how}")

    def end(self) -> None:
        """Kill it if it lives; it is reaped like every child, and whatever it has said meanwhile comes too late."""
        if self.pid is not None:
            processes.kill_child(self.pid)
            self._given_up.add(self.pid)
        self._forget()

    def close(self) -> None:
        """Let go of it at the end of the master; those that we have killed have gone by then, and hold no listener."""
        for pid in self._given_up:
            os.waitpid(pid, 0)
            self._children.forget_helper(pid)
        self._given_up.clear()
        self._forget()

    def _forget(self) -> None:
        self.pid = None
        if self._channel is not None:
            self._sources.remove(self)
            self._channel.close()
            self._channel = None


class Predecessor:
    """Whose estate this master has taken over. Tells it once how that went; the listeners are ours in any case."""

    def __init__(self, estate: Estate) -> None:
        self.estate = estate
        self._channel = Channel(socket.socket(fileno=estate.channel), messages.to_successor)
        self._sources: Sources | None = None
        self._handed_over: Callable[[], object] | None = None

    def tell_serving(self, places: Sequence[str], has_control: bool, takes_over: bool) -> None:
        """Say that it can leave, and whether its connections can be handed over."""
        if takes_over and self.estate.ferry:  # an older version does not know what that means
            self._tell(messages.TakesOver())
        self._tell(messages.Serves(list(places), has_control))

    def tell_failure(self, reason: str, detail: str) -> None:
        """Say why it has to go on."""
        self._tell(messages.Failed(messages.shorten(reason), messages.shorten(detail)))

    def _tell(self, message: messages.FromSuccessor) -> None:
        try:
            self._channel.send(message)
        except ChannelBroken as error:
            log.debug("the predecessor is gone: %s", error)

    def wait_for_hand_over(self, sources: Sources, handed_over: Callable[[], object]) -> None:
        """Have `handed_over` called when it says, or its end says, that there is no other master any more."""
        self._sources, self._handed_over = sources, handed_over
        sources.add(self)

    def fileno(self) -> int:
        """Our end of the channel."""
        return self._channel.fileno()

    def events(self) -> Iterable[Event]:
        """Hear that all is ours. It is no event: the supervisor does not know of any predecessor."""
        assert self._sources is not None
        assert self._handed_over is not None
        if self._channel.receive() or self._channel.closed_by_peer:
            self._sources.remove(self)
            self._channel.close()
            self._handed_over()
        return ()

    def close(self) -> None:
        """Stop waiting."""
        self._channel.close()


def _be_successor(end: socket.socket, estate: Estate) -> int:
    """Become the successor; runs in the forked child. Signals stay blocked until it has installed its own."""
    try:
        become_successor(estate)
    except OSError as error:
        reason = f"cannot be started: {(error.strerror or str(error)).lower()}"
        Channel(end, messages.from_successor).send(messages.Failed(reason, ""))
    return 1
