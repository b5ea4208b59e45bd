"""What the master can hear, and the one wait in which it hears it.

A source has a descriptor, returns as events what is there without blocking, and bounds what it reads.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable
from signal import Signals as SignalNumber
from typing import Protocol

from prefork.policy.events import Event, ReloadRequested, ScaleChanged, StopRequested, UpgradeRequested
from prefork.system.signals import Signals


class Source(Protocol):
    """Something that the master waits for."""

    def fileno(self) -> int:
        """Return its descriptor."""
        ...

    def events(self) -> Iterable[Event]:
        """Return what happened, without waiting for more."""
        ...

    def close(self) -> None:
        """Give its descriptors back."""
        ...


class Sources:
    """All sources in one epoll descriptor, which is itself readable when any of them is."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sources: dict[int, Source] = {}

    def fileno(self) -> int:
        """The descriptor that the master's loop selects on."""
        return self._epoll.fileno()

    def __len__(self) -> int:
        return len(self._sources)

    def add(self, source: Source, for_writing: bool = False) -> None:
        """Wait for a source from now on; again to change whether it also waits to write."""
        wanted = select.EPOLLIN | (select.EPOLLOUT if for_writing else 0)
        descriptor = source.fileno()
        if descriptor in self._sources:
            self._epoll.modify(descriptor, wanted)
        else:
            self._epoll.register(descriptor, wanted)
        self._sources[descriptor] = source

    def remove(self, source: Source) -> None:
        """Stop waiting for a source, before it is closed. No harm if it is not there."""
        descriptor = source.fileno()
        if self._sources.get(descriptor) is source:
            del self._sources[descriptor]
            self._epoll.unregister(descriptor)

    def next_ready(self) -> Source | None:
        """Return one source that has something, in turn, or None."""
        for descriptor, _ in self._epoll.poll(0, 1):
            return self._sources.get(descriptor)
        return None

    def close(self) -> None:
        """Close every source and the wait itself."""
        for source in list(self._sources.values()):
            self.remove(source)
            source.close()
        self._epoll.close()


HEEDED = (
    SignalNumber.SIGTERM,
    SignalNumber.SIGINT,
    SignalNumber.SIGQUIT,
    SignalNumber.SIGHUP,
    SignalNumber.SIGUSR1,
    SignalNumber.SIGUSR2,
    SignalNumber.SIGTTIN,
    SignalNumber.SIGTTOU,
    SignalNumber.SIGCHLD,
)
UNHEEDED = (SignalNumber.SIGWINCH,)


class SignalSource:
    """The signals of the contract as events; SIGCHLD only wakes the loop, which reaps at every turn."""

    def __init__(self, reopen_logs: Callable[[], None]) -> None:
        self._signals = Signals(HEEDED, UNHEEDED)
        self._signals.install()
        self._reopen_logs = reopen_logs

    def fileno(self) -> int:
        """The wake-up pipe."""
        return self._signals.fileno()

    def events(self) -> Iterable[Event]:
        """Translate the signals that arrived."""
        for number in self._signals.take():
            match number:
                case SignalNumber.SIGTERM:
                    yield StopRequested(quick=False, origin="SIGTERM")
                case SignalNumber.SIGINT | SignalNumber.SIGQUIT:
                    yield StopRequested(quick=True, origin=number.name)
                case SignalNumber.SIGHUP:
                    yield ReloadRequested("SIGHUP")
                case SignalNumber.SIGUSR2:
                    yield UpgradeRequested("SIGUSR2")
                case SignalNumber.SIGTTIN:
                    yield ScaleChanged(1, "SIGTTIN")
                case SignalNumber.SIGTTOU:
                    yield ScaleChanged(-1, "SIGTTOU")
                case SignalNumber.SIGUSR1:
                    self._reopen_logs()

    def close(self) -> None:
        """Close the wake-up pipe."""
        self._signals.close()
