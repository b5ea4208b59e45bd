"""A helper process as the master knows it: started, heard, and followed by another one when it dies.

It is no part of the fleet and unknown to the supervisor. It has a channel to the master and dies with it.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from prefork.ipc import messages
from prefork.ipc.channel import Channel, ChannelBroken, make_pair
from prefork.logs import open_descriptors
from prefork.master.sources import Sources
from prefork.master.workers import Processes
from prefork.policy.backoff import Backoff
from prefork.policy.events import Event
from prefork.system import processes

log = logging.getLogger("prefork.master")

_PROVEN_AFTER = 1.0  # seconds of being ready


@dataclass(slots=True)
class _Process:
    pid: int
    channel: Channel[Any]
    ready_at: float | None = None
    failure: str = ""


class Helper:
    """Keeps one process running. A source of the master while it does. A subclass says what it is."""

    name: str
    """As in "the watcher"."""
    kept: Collection[int] = ()
    """The descriptors that it inherits, besides its channel and the log."""

    def __init__(self, sources: Sources, processes: Processes, decoder: msgspec.msgpack.Decoder[Any]) -> None:
        self._sources = sources
        self._processes = processes
        self._decoder = decoder
        self._process: _Process | None = None
        self._backoff = Backoff(_PROVEN_AFTER)

    def be(self, end: socket.socket, master_pid: int) -> int:
        """Become the helper; runs in the forked child, and its end of the channel is `end`."""
        raise NotImplementedError

    def hear(self, message: Any, pid: int) -> Iterable[Event]:
        """Take what the helper said, but `Failed`."""
        raise NotImplementedError

    def deadline(self) -> float:
        """Return when `start_if_due` has something to do."""
        return self._backoff.not_before if self._process is None else math.inf

    def start_if_due(self, now: float) -> None:
        """Start a process if there is none and the last one is long enough gone."""
        if now < self.deadline() or self._process is not None:
            return
        try:
            self._process = self._start()
        except OSError as error:
            delay = self._backoff.failed(now)
            reason = (error.strerror or str(error)).lower()
            log.warning("cannot start the %s: %s; tried again in %g s", self.name, reason, delay)
        else:
            self._sources.add(self)
            self._processes.follow_helper(self._process.pid, self._gone)

    def _start(self) -> _Process:
        ours, theirs = make_pair()
        master_pid = os.getpid()
        kept = {theirs.fileno(), *open_descriptors(), *self.kept}

        def be_helper() -> int:
            processes.close_descriptors_except(kept)
            return self.be(theirs, master_pid)

        try:
            pid = processes.fork(be_helper)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return _Process(pid, Channel(ours, self._decoder))

    def fileno(self) -> int:
        """The master's end of the channel."""
        return -1 if self._process is None else self._process.channel.fileno()

    def events(self) -> Iterable[Event]:
        """Translate what the helper said. The end of its channel is no event: its death is."""
        process = self._process
        if process is None:
            return
        try:
            received = process.channel.receive()
        except ChannelBroken as error:
            log.error("killing the %s: it %s", self.name, error, extra={"pid": process.pid})
            processes.kill_child(process.pid)
            return
        for message in received:
            if isinstance(message, messages.Ready):
                process.ready_at = time.monotonic()
            if isinstance(message, messages.Failed):
                process.failure = message.reason
            else:
                yield from self.hear(message, process.pid)
        if process.channel.closed_by_peer:
            self._sources.remove(self)

    def _gone(self, how: str) -> Iterable[Event]:
        """Forget a reaped process, after its last words."""
        process = self._process
        assert process is not None
        yield from self.events()
        self._sources.remove(self)
        process.channel.close()
        self._process = None
        now = time.monotonic()
        delay = self._backoff.ended(0.0 if process.ready_at is None else now - process.ready_at, now)
        when = f"in {delay:g} s" if delay else "at once"
        reason = process.failure or how
        log.warning("%s lost: %s; another one starts %s", self.name, reason, when, extra={"pid": process.pid})

    def tell(self, message: messages.Message, *descriptors: int) -> None:
        """Send the helper something, if it is there and listens."""
        try:
            if self._process is not None:
                self._process.channel.send(message, *descriptors)
        except ChannelBroken:
            pass  # it is dying, and whoever follows it will ask or find out for itself

    def channels(self) -> list[Channel[Any]]:
        """Return the channel of the helper, if there is one."""
        return [] if self._process is None else [self._process.channel]

    def close(self) -> None:
        """Kill the helper and wait for it: it has nothing to lose."""
        if self._process is not None:
            self._sources.remove(self)
            processes.kill_child(self._process.pid)
            self._process.channel.close()  # after that: it need not find out that nobody listens, and say so
            os.waitpid(self._process.pid, 0)
            self._processes.forget_helper(self._process.pid)
            self._process = None
