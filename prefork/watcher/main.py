"""The watcher: sees source files change and tells the master which. It knows nothing of the application but its places.

It is forked by the master and dies with it. The library that watches has threads of its own, so it is imported here,
in the child, and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from prefork.errors import ApplicationError
from prefork.ipc import messages
from prefork.ipc.channel import Channel, ChannelBroken
from prefork.logs import take_reopened
from prefork.system import processes
from prefork.system.privileges import Identity, become
from prefork.system.proctitle import set_title
from prefork.system.signals import FOR_THE_MASTER, Signals

_NAMES_IN_MESSAGE = 3
_ON_THE_WAY = 2.0  # seconds for which a change may be on its way to us


@dataclass(frozen=True, slots=True)
class Places:
    """Where the sources of an application are: directories of Python files, and configuration files. All absolute."""

    directories: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(slots=True)
class Order:
    """What a watcher is born with."""

    server_name: str
    places: Places
    unwatched_since: float  # wall-clock time, as files have it: what changed after it is news to the master
    channel: Channel[messages.ToWatcher]
    master_pid: int
    identity: Identity | None = None


def run(order: Order) -> int:
    """Be the watcher; return the exit status. Runs in a process just forked by the master."""
    Signals(handled=(), unheeded=FOR_THE_MASTER).install()
    set_title("watcher", order.server_name)
    try:
        _watch_or_say_why_not(order)
    except ChannelBroken:
        pass  # the master does not listen: the watcher that follows will find what changed since
    return 1


def _watch_or_say_why_not(order: Order) -> None:
    try:
        become(order.identity)
        processes.die_with_parent(order.master_pid)
        _watch(order)
    except (
        OSError,
        RuntimeError,
        ImportError,
        ApplicationError,
    ) as error:  # RuntimeError: watchfiles, of what it has no words for
        order.channel.send(messages.Failed(messages.shorten(_describe(error)), ""))


def _watch(order: Order) -> None:
    from prefork.watcher.files import watch

    last_told: float | None = None  # when; until the master knows that it need not be told again
    for turn, changed in enumerate(watch(order.places, order.unwatched_since)):
        if turn == 0:
            order.channel.send(messages.Ready())
        if changed:
            _tell(order.channel, changed)
            last_told = time.monotonic()
        elif last_told is not None and time.monotonic() - last_told > _ON_THE_WAY:
            order.channel.send(messages.Told(time.time() - _ON_THE_WAY))
            last_told = None
        for message, descriptors in order.channel.receive_all():
            for descriptor in descriptors:
                take_reopened(message.file, descriptor)


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"cannot watch {error.filename}: {error.strerror.lower()}"
    return f"cannot watch: {error}"


def _tell(channel: Channel[messages.ToWatcher], changed: Collection[str]) -> None:
    names = [messages.shorten(name) for name in sorted(changed)[:_NAMES_IN_MESSAGE]]
    channel.send(messages.Changed(names, len(changed) - len(names)))
