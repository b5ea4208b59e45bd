"""The listeners that the service manager keeps for us, so that a restart or our death refuses no connection.

With FDSTORE=1 the manager holds a copy of a descriptor and passes it, by its name, to the next start of the service
(sd_pid_notify_with_fds(3)). The name is made of the place where we listen, so the next start finds it by its `bind`.
For a socket file it also has the inode: a file that was replaced meanwhile belongs to somebody else.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Sequence
from urllib.parse import quote

from prefork.address import BindAddress
from prefork.system.inherited import Inherited
from prefork.system.notify import Notifier

log = logging.getLogger("prefork.master")

_PREFIX = "bind="
_LONGEST_NAME = 255  # FDNAME_MAX of systemd


class Store:
    """What is kept, and what was given back at the start. Without a service manager that keeps, it is empty."""

    def __init__(self, inherited: Sequence[Inherited], size: int) -> None:
        self._found = {one.name: one.descriptor for one in inherited if one.name.startswith(_PREFIX)}
        self._size = size
        self._notifier: Notifier | None = None  # until `begin()`
        self._kept: dict[str, str] = {}  # by place: the name under which it is kept

    @staticmethod
    def passed(inherited: Sequence[Inherited]) -> list[Inherited]:
        """Return what a socket unit passed, which is all that we did not ask the manager to keep."""
        return [one for one in inherited if not one.name.startswith(_PREFIX)]

    def take(self, address: BindAddress) -> socket.socket | None:
        """Return the socket that was kept of this place, if it still is what clients reach there."""
        name = _name(address)
        descriptor = self._found.pop(name, None)
        if descriptor is None:
            return None
        self._kept[address.place] = name
        return socket.socket(fileno=descriptor)

    def begin(self, notifier: Notifier | None) -> None:
        """Have the manager keep from now on, and drop what no listener of this start wanted."""
        self._notifier = notifier
        for name, descriptor in self._found.items():
            os.close(descriptor)
            self._drop(name)
            log.info("dropped a kept listener: no bind names it any more: %s", name.removeprefix(_PREFIX))
        self._found.clear()

    def keep(self, address: BindAddress, kept: socket.socket) -> bool:
        """Have the manager keep a listener; tell whether it does."""
        if self._notifier is None or self._size == 0:
            return False
        if len(self._kept) >= self._size:
            problem = "listener not kept over a restart: %s: the service manager keeps %d; raise FileDescriptorStoreMax"
            log.warning(problem, address, self._size)
            return False
        name = self._kept[address.place] = _name(address)
        # Not polled: the manager would drop a socket at its first error or hang-up.
        self._notifier.send("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", descriptor=kept)
        return True

    def forget(self, address: BindAddress) -> None:
        """Have the manager drop its copy, before ours is sealed or its socket file removed."""
        name = self._kept.pop(address.place, None)
        if name is not None:
            self._drop(name)

    def _drop(self, name: str) -> None:
        if self._notifier is not None:
            self._notifier.send("FDSTOREREMOVE=1", f"FDNAME={name}")


def _name(address: BindAddress) -> str:
    name = _PREFIX + quote(address.place, safe="/@[].", errors="surrogateescape")
    if address.path and not address.path.startswith("@"):
        try:
            found = os.lstat(address.path)
            name += f"={found.st_dev}-{found.st_ino}"
        except OSError:
            pass  # removed: then no kept socket is reached by it
    if len(name) > _LONGEST_NAME:
        return _PREFIX + hashlib.sha256(name.encode()).hexdigest()
    return name
