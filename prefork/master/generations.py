"""What a generation owns in the master: its settings, its listeners and its scoreboard.

A place to listen is the same listener in every generation, so a reload neither closes nor rebinds it; new ones are
bound before the old ones are closed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from prefork.address import BindAddress
from prefork.config.load import Loaded
from prefork.config.settings import Settings
from prefork.errors import ListenerError
from prefork.ipc.commons import Commons
from prefork.ipc.messages import Certificate
from prefork.ipc.scoreboard import Scoreboard
from prefork.policy.fleet import SLOTS, FleetSettings
from prefork.system.inherited import Inherited
from prefork.system.notify import Notifier, ServiceManager
from prefork.system.sockets import Listener, adopt_kept, open_listeners, share_listener, system_backlog_limit
from prefork.system.store import Store
from prefork.system.succession import Estate, PassedListener, pass_of

log = logging.getLogger("prefork.master")


@dataclass(slots=True)
class Generation:
    """One generation, from the reading of its settings to its release."""

    number: int
    loaded: Loaded
    listeners: list[Listener]
    board: Scoreboard
    certificates: list[Certificate] = field(default_factory=list)
    """What its workers show over TLS, as its mold says."""

    @property
    def settings(self) -> Settings:
        """The settings that its workers run with."""
        return self.loaded.settings

    def fleet_settings(self) -> FleetSettings:
        """The part of the settings that the supervisor decides with."""
        settings = self.settings
        return FleetSettings(
            workers=settings.workers,
            surge=settings.surge,
            boot_timeout=settings.boot_timeout,
            heartbeat_timeout=settings.heartbeat_timeout,
            handler_timeout=settings.handler_timeout,
            drain_delay=settings.drain_delay,
            drain_timeout=settings.drain_timeout,
            kill_timeout=settings.kill_timeout,
            canary_time=0.0 if settings.reload else settings.canary_time,
            preload=settings.preload,
            max_requests=settings.max_requests,
            max_requests_jitter=settings.max_requests_jitter,
            max_rss=settings.max_rss,
            max_age=settings.max_age,
            min_workers=settings.min_workers,
            max_workers=settings.max_workers,
        )


class Generations:
    """All generations that still own something."""

    def __init__(self, inherited: Sequence[Inherited], store: Store) -> None:
        self._inherited = inherited
        self._store = store
        self._living: dict[int, Generation] = {}

    def prepare(self, number: int, loaded: Loaded, passed: Sequence[PassedListener] = ()) -> Generation:
        """Bind what the settings add to the listeners there are, or were passed by the master before us.

        Raise ListenerError, or OSError for want of memory, with nothing left behind.
        """
        opened: list[Listener] = []
        try:
            listeners = [
                one
                for bind in loaded.settings.bind
                for address in self._members_at(bind, passed)
                for one in self._listeners_at(address, loaded.settings.backlog, passed, opened)
            ]
            _check_each_once(listeners)
            board = Scoreboard(SLOTS, loaded.settings.threads, [listener.actual for listener in listeners])
        except BaseException:
            _close(opened)
            raise
        for listener in opened:
            log.info("listening: %s%s", listener.actual, " (kept since the last start)" if listener.kept else "")
            self._keep(listener)
        _warn_about_backlog(loaded.settings, opened)
        self._living[number] = Generation(number, loaded, listeners, board)
        return self._living[number]

    def get(self, number: int) -> Generation:
        """Return a generation that has been prepared and not been released."""
        return self._living[number]

    def find(self, number: int | None) -> Generation | None:
        """Return a generation if it still owns something."""
        return self._living.get(number) if number is not None else None

    def _members_at(self, bind: BindAddress, passed: Sequence[PassedListener]) -> list[BindAddress]:
        """Return the address of each socket at a place, which keeps as many as it has.

        The kernel gives a new one its part of the clients at once, long before a worker of the new settings serves it.
        """
        if bind.kind not in ("udp", "tcp"):
            return [bind]
        places = [one.address.place for one in self.listeners() if not one.sealed] or [one.place for one in passed]
        there = sum(place.partition("#")[0] == bind.place for place in places)
        if not there or there == len(bind.members()):
            return bind.members()
        log.warning("listener not changed: %s keeps its sockets (%d) until the next start", bind, there)
        return replace(bind, sockets=there if there > 1 else None).members()

    def _listeners_at(
        self, address: BindAddress, backlog: int, passed: Sequence[PassedListener], opened: list[Listener]
    ) -> list[Listener]:
        held = [one for one in self.listeners() if one.address.place == address.place and not one.sealed]
        if held:
            if not held[0].address.has_same_socket(address):
                problem = "listener not changed: it stays %s until the next start, though the settings say %s"
                log.warning(problem, held[0].address, address)
            return held
        fresh = [share_listener(address, one.descriptor, backlog) for one in passed if one.place == address.place]
        if not fresh and (kept := self._store.take(address)) is not None:
            fresh = [adopt_kept(address, kept, backlog)]
        if not fresh:
            beside = [one for one in (*self.listeners(), *opened) if one.address.place == address.first.place]
            fresh = open_listeners(address, backlog, self._inherited, beside[0] if address.member else None)
        opened += fresh
        return fresh

    def keep_listeners(self, notifier: Notifier | None) -> None:
        """From now on have the service manager keep what is ours, and drop what it kept in vain."""
        self._store.begin(notifier)
        for listener in self.listeners():
            self._keep(listener)

    def _keep(self, listener: Listener) -> None:
        if not listener.inherited and not listener.kept:
            listener.kept = self._store.keep(listener.address, listener.socket)

    def take_over(self, passed: Sequence[PassedListener]) -> list[str]:
        """Own what the master before us has owned; return the places of all that we serve."""
        inodes = {one.place: one.inode for one in passed}
        for listener in self.listeners():
            if listener.address.place in inodes:
                listener.take_over(inodes[listener.address.place])
        return [listener.address.place for listener in self.listeners()]

    def make_estate(
        self,
        channel: int,
        control: PassedListener | None,
        manager: ServiceManager,
        helpers: Sequence[PassedListener],
        commons: Commons,
    ) -> Estate:
        """Describe what a successor gets: every listener that is not about to be closed."""
        kept = [pass_of(listener) for listener in self.listeners() if not listener.sealed]
        shared = list(commons.ferry.descriptors), list(commons.claims.descriptors)
        return Estate(channel, kept, list(self._inherited), control, manager, list(helpers), *shared)

    def hand_over(self, places: Collection[str]) -> None:
        """Leave to a successor the listeners that it has taken over; the others are sealed and served by us."""
        for listener in self.listeners():
            if listener.address.place in places:
                listener.hand_over()
            else:
                self._forget(listener)

    def listeners(self) -> list[Listener]:
        """Return every open listener of every generation, each once."""
        every = [listener for generation in self._living.values() for listener in generation.listeners]
        return list({id(listener): listener for listener in every if not listener.closed}.values())

    def seal_unserved(self, leaving: int, staying: Collection[int], final: bool) -> list[int]:
        """Seal the listeners of generation `leaving` that no generation of `staying` has (all of them if `final`).

        Return their places in the generation: the queues that its worker must serve before it stops accepting.
        """
        kept = set() if final else self._listeners_of(staying)
        unserved = [(i, one) for i, one in enumerate(self._living[leaving].listeners) if id(one) not in kept]
        for _, listener in unserved:
            if not final:
                self._forget(listener)
            if not listener.kept:  # else it goes on in the next start of the service
                listener.seal()
        # What waits in a socket that others hold too waits for them: for a successor, or the next start of the service.
        # At a stop its queue may never be empty, because nothing keeps the kernel from adding to it.
        waiting = [one.handed_over or (final and not one.sealed) for _, one in unserved]
        return [index for (index, _), waits in zip(unserved, waiting, strict=True) if not waits]

    def close_sealed(self, accepting: Collection[int]) -> None:
        """Close the sealed listeners of which no worker of the generations `accepting` takes connections any more."""
        needed = self._listeners_of(accepting)
        for listener in self.listeners():
            if listener.sealed and id(listener) not in needed:
                listener.unlink()
                listener.close()
                log.info("closed listener: its queue has been served", extra={"listener": str(listener.address)})

    def _listeners_of(self, numbers: Collection[int]) -> set[int]:
        living = [self._living[number] for number in numbers if number in self._living]
        return {id(listener) for generation in living for listener in generation.listeners}

    def handler_timeouts(self) -> dict[int, float]:
        """Return how long a handler of each generation may take."""
        return {number: generation.settings.handler_timeout for number, generation in self._living.items()}

    def release(self, number: int, final: bool) -> None:
        """Close what only this generation used. If `final`, what the service manager keeps is for the next start."""
        generation = self._living.pop(number, None)
        if generation is None:
            return
        held = {id(listener) for listener in self.listeners()}
        unused = [listener for listener in generation.listeners if id(listener) not in held]
        for listener in unused if not final else ():
            self._forget(listener)
        _close(unused)

    def _forget(self, listener: Listener) -> None:
        if listener.kept:
            listener.kept = False
            self._store.forget(listener.address)

    def close(self) -> None:
        """Close everything, at the end."""
        for number in list(self._living):
            self.release(number, final=True)


def _check_each_once(listeners: Iterable[Listener]) -> None:
    """Refuse one socket under two names, as `systemd:` and `systemd:web`: it would be counted twice."""
    known: dict[int, Listener] = {}
    for listener in listeners:
        other = known.setdefault(os.fstat(listener.socket.fileno()).st_ino, listener)
        if other is not listener:
            raise ListenerError(f"cannot bind {listener.address}: {other.address} has that socket, too; leave one out")


def _close(listeners: Iterable[Listener]) -> None:
    for listener in listeners:
        if not listener.kept:
            listener.unlink()
        listener.close()


def _warn_about_backlog(settings: Settings, opened: Sequence[Listener]) -> None:
    limit = system_backlog_limit()
    for listener in opened:
        wanted = listener.address.backlog or settings.backlog
        if limit is not None and wanted > limit and listener.address.kind in ("tcp", "unix"):
            problem = "backlog of %s clamped from %d to %d: net.core.somaxconn is lower; raise it, or lower backlog"
            log.warning(problem, listener.address, wanted, limit)
