"""Keeps the service manager informed: compares what it was told last with what holds now, and sends the difference."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator

from prefork.master.sources import Sources
from prefork.policy.announcement import Announcement
from prefork.policy.events import Event
from prefork.system.notify import Notifier, ServiceManager

log = logging.getLogger("prefork.master")


def changes(previous: Announcement | None, current: Announcement, now: float) -> Iterator[str]:
    """Yield the lines of the message that turns one belief into the other (sd_notify(3))."""
    entered = previous is None or (previous.state, previous.candidate) != (current.state, current.candidate)
    if entered:
        match current.state:
            case "serving":
                yield from ("READY=1", f"MAINPID={os.getpid()}")
            case "reloading":
                # The time tells this reload from one that was already running when ours was ordered.
                yield from ("RELOADING=1", f"MONOTONIC_USEC={now * 1e6:.0f}")
            case "stopping":
                yield "STOPPING=1"
        if current.patience:
            yield f"EXTEND_TIMEOUT_USEC={current.patience * 1e6:.0f}"
    if previous is None or previous.status != current.status:
        yield f"STATUS={current.status}"


class Announcer:
    """Tells the service manager, if there is one. A source of the master while something could not be sent."""

    def __init__(self, manager: ServiceManager, sources: Sources) -> None:
        self.manager = manager
        self._sources = sources
        self._notifier: Notifier | None = None  # until `begin()`
        self._told: Announcement | None = None
        self._next_sign = math.inf

    @property
    def notifier(self) -> Notifier | None:
        """The way to the service manager; None if there is none."""
        return self._notifier

    def begin(self) -> None:
        """Speak for the service from now on."""
        self._notifier = _open(self.manager)
        self._told = None
        if self._notifier is not None and self.manager.watchdog:
            self._next_sign = -math.inf

    def hand_over(self, pid: int | None) -> None:
        """Say which process is the master from now on, and nothing more."""
        if self._notifier is not None and pid is not None:
            self._notifier.send(f"MAINPID={pid}")
        self.close()

    def announce(self, current: Announcement, now: float) -> None:
        """Tell what has changed since it was told last."""
        if self._notifier is None:
            return
        if lines := list(changes(self._told, current, now)):
            self._notifier.send(*lines)
        self._told = current

    def deadline(self) -> float:
        """Return when the next sign of life is due."""
        return self._next_sign

    def give_sign(self, now: float) -> None:
        """Say that the master works. Call it when it has just looked at its workers, and for no other reason."""
        if self._notifier is not None and self.manager.watchdog and now >= self._next_sign:
            self._next_sign = now + self.manager.watchdog / 2
            self._notifier.send("WATCHDOG=1")

    def wait_if_pending(self) -> None:
        """Have the loop call us when the service manager has read something."""
        if self._notifier is not None and self._notifier.pending:
            self._sources.add(self, for_writing=True)

    def fileno(self) -> int:
        """The socket, writable when there is room again."""
        return -1 if self._notifier is None else self._notifier.fileno()

    def events(self) -> Iterable[Event]:
        """Send what could not be sent before."""
        if self._notifier is not None:
            self._notifier.flush()
            if not self._notifier.pending:
                self._sources.remove(self)
        return ()

    def close(self) -> None:
        """Stop telling."""
        if self._notifier is not None:
            self._sources.remove(self)
            self._notifier.close()
            self._notifier = None
            self._next_sign = math.inf


def _open(manager: ServiceManager) -> Notifier | None:
    if not manager.address:
        return None
    try:
        return Notifier(manager.address)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        log.warning("service manager not told: %s: %s; unset NOTIFY_SOCKET if there is none", manager.address, reason)
        return None
