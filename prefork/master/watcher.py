"""The watcher of `--reload` as the master knows it: started, heard, and followed by another one when it dies.

It is a helper: no part of the fleet, and unknown to the supervisor, who only hears that a reload is wanted.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

from prefork.config.documents import NAMES
from prefork.config.settings import Settings
from prefork.ipc import messages
from prefork.ipc.channel import Channel, ChannelBroken, make_pair
from prefork.logs import open_descriptors
from prefork.master.sources import Sources
from prefork.master.workers import Processes
from prefork.policy.backoff import Backoff
from prefork.policy.events import Event, ReloadRequested
from prefork.system import processes
from prefork.system.privileges import find_identity
from prefork.watcher import main
from prefork.watcher.main import Places

log = logging.getLogger("prefork.master")

_PROVEN_AFTER = 1.0  # seconds of watching
_UNTOLD = 2.0  # seconds: what changed so shortly before its end a watcher may not have told


@dataclass(slots=True)
class _WatcherProcess:
    pid: int
    places: Places
    channel: Channel[messages.FromWatcher]
    ready_at: float | None = None
    failure: str = ""


class Watcher:
    """Keeps one watcher process running. A source of the master while it does."""

    def __init__(self, settings: Settings, sources: Sources, processes: Processes) -> None:
        self._settings = settings
        self._sources = sources
        self._processes = processes
        self._process: _WatcherProcess | None = None
        self._backoff = Backoff(_PROVEN_AFTER)
        self._unwatched_since = time.time()  # to be compared with the times of files

    def deadline(self) -> float:
        """Return when `start_if_due` has something to do."""
        return self._backoff.not_before if self._process is None else math.inf

    def start_if_due(self, now: float) -> None:
        """Start a watcher if there is none and the last one is long enough gone."""
        if now < self.deadline() or self._process is not None:
            return
        try:
            self._process = self._start()
        except OSError as error:
            delay = self._backoff.failed(now)
            log.warning(
                "cannot start the watcher: %s; tried again in %g s", (error.strerror or str(error)).lower(), delay
            )
        else:
            self._sources.add(self)
            self._processes.follow_helper(self._process.pid, self._gone)

    def _start(self) -> _WatcherProcess:
        places, since = places_of(self._settings), self._unwatched_since
        ours, theirs = make_pair()
        identity = find_identity(self._settings.user, self._settings.group)
        channel = Channel(theirs, messages.to_watcher)
        order = main.Order(self._settings.name, places, since, channel, os.getpid(), identity)
        try:
            pid = processes.fork(lambda: _be_watcher(order))
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return _WatcherProcess(pid, places, Channel(ours, messages.from_watcher))

    def fileno(self) -> int:
        """The master's end of the channel."""
        return -1 if self._process is None else self._process.channel.fileno()

    def events(self) -> Iterable[Event]:
        """Translate what the watcher said. The end of its channel is no event: its death is."""
        process = self._process
        if process is None:
            return
        try:
            received = process.channel.receive()
        except ChannelBroken as error:
            log.error("killing the watcher: it %s", error, extra={"pid": process.pid})
            processes.kill_child(process.pid)
            return
        for message in received:
            match message:
                case messages.Ready():
                    process.ready_at = time.monotonic()
                    places = ", ".join(process.places.directories)
                    log.info("watching: a change below %s is a reload", places, extra={"pid": process.pid})
                case messages.Changed(names, more):
                    others = f" and {more} more" if more else ""
                    yield ReloadRequested(f"source changed: {', '.join(names)}{others}")
                case messages.Failed(reason):
                    process.failure = reason
        if process.channel.closed_by_peer:
            self._sources.remove(self)

    def _gone(self, how: str) -> Iterable[Event]:
        """Forget a reaped watcher, after its last words."""
        process = self._process
        assert process is not None
        yield from self.events()
        self._sources.remove(self)
        process.channel.close()
        self._process = None
        now = time.monotonic()
        lasted = 0.0 if process.ready_at is None else now - process.ready_at
        if process.ready_at is not None:
            self._unwatched_since = max(self._unwatched_since, time.time() - _UNTOLD)
        delay = self._backoff.ended(lasted, now)
        when = f"in {delay:g} s" if delay else "at once"
        reason = process.failure or how
        log.warning("watcher lost: %s; another one starts %s", reason, when, extra={"pid": process.pid})

    def channels(self) -> list[Channel[messages.FromWatcher]]:
        """Return the channel of the watcher, if there is one."""
        return [] if self._process is None else [self._process.channel]

    def close(self) -> None:
        """Kill the watcher and wait for it, at the end of the master."""
        if self._process is not None:
            self._sources.remove(self)
            self._process.channel.close()
            processes.kill_child(self._process.pid)
            os.waitpid(self._process.pid, 0)
            self._process = None


def _be_watcher(order: main.Order) -> int:
    """Become the watcher; runs in the forked child."""
    processes.close_descriptors_except({order.channel.fileno(), *open_descriptors()})
    return main.run(order)


def places_of(settings: Settings) -> Places:
    """Return where the sources are: what our settings let Python import, and the configuration there is or may be."""
    directories = [settings.chdir, *filter(os.path.isdir, settings.pythonpath)]
    files = [settings.config] if settings.config else [os.path.join(settings.chdir, name) for name in NAMES]
    return Places(
        directories=tuple(dict.fromkeys(os.path.normpath(directory) for directory in directories)),
        files=tuple(os.path.normpath(file) for file in files),
    )
