"""The watcher of `--reload`: the helper from whom the supervisor hears that a reload is wanted."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterable
from typing import Any

from prefork.config.documents import NAMES
from prefork.config.settings import Settings
from prefork.ipc import messages
from prefork.ipc.channel import Channel
from prefork.master.helper import Helper
from prefork.master.sources import Sources
from prefork.master.workers import Processes
from prefork.policy.events import Event, ReloadRequested
from prefork.system.privileges import find_identity
from prefork.watcher import main
from prefork.watcher.main import Places

log = logging.getLogger("prefork.master")


class Watcher(Helper):
    """Knows since when there may be changes that no watcher has told: the next one looks for them first."""

    name = "watcher"

    def __init__(self, settings: Settings, sources: Sources, processes: Processes) -> None:
        super().__init__(sources, processes, messages.from_watcher)
        self._settings = settings
        self._unwatched_since = time.time()  # to be compared with the times of files

    def be(self, end: socket.socket, master_pid: int) -> int:
        """Become the watcher; runs in the forked child."""
        channel = Channel(end, messages.to_watcher)
        places, identity = places_of(self._settings), find_identity(self._settings.user, self._settings.group)
        return main.run(main.Order(self._settings.name, places, self._unwatched_since, channel, master_pid, identity))

    def hear(self, message: Any, pid: int) -> Iterable[Event]:
        """Translate what the watcher said."""
        match message:
            case messages.Ready():
                places = ", ".join(places_of(self._settings).directories)
                log.info("watching: a change below %s is a reload", places, extra={"pid": pid})
            case messages.Told(until):
                self._unwatched_since = max(self._unwatched_since, until)
            case messages.Changed(names, more):
                others = f" and {more} more" if more else ""
                yield ReloadRequested(f"source changed: {', '.join(names)}{others}")


def places_of(settings: Settings) -> Places:
    """Return where the sources are: what our settings let Python import, and the configuration there is or may be."""
    directories = [settings.chdir, *filter(os.path.isdir, settings.pythonpath)]
    files = [settings.config] if settings.config else [os.path.join(settings.chdir, name) for name in NAMES]
    return Places(
        directories=tuple(dict.fromkeys(os.path.normpath(directory) for directory in directories)),
        files=tuple(os.path.normpath(file) for file in files),
    )
