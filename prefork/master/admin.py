"""The admin helper as the master knows it: it serves on listeners of the master, and asks for the status.

It asks by itself, once a second, and the master answers by handing over a file in memory: whoever asks the helper, and
however slowly they read, the master does not notice.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from prefork.address import BindAddress, parse_bind
from prefork.admin import main
from prefork.config.settings import Settings
from prefork.ipc import messages
from prefork.ipc.channel import Channel
from prefork.master.helper import Helper
from prefork.master.sources import Sources
from prefork.master.workers import Processes
from prefork.policy.events import Event
from prefork.system.privileges import find_identity
from prefork.system.sockets import Listener, open_listeners, share_listener
from prefork.system.succession import PassedListener, pass_of

log = logging.getLogger("prefork.master")

_BACKLOG = 128


class Admin(Helper):
    """Owns the listeners of `admin` and `agent`, and tells the helper how the server is."""

    name = "admin helper"

    def __init__(
        self,
        settings: Settings,
        sources: Sources,
        processes: Processes,
        describe: Callable[[], dict[str, object]],
        passed: Sequence[PassedListener] | None = None,
    ) -> None:
        """Bind, or share what the master before us has `passed`, whose helper answers until we take over.

        Raise ListenerError.
        """
        super().__init__(sources, processes, messages.from_admin)
        self._server_name = settings.name
        self._identity = find_identity(settings.user, settings.group)
        self._describe = describe
        self._passed = {one.place: one for one in passed or ()}
        self._answering = passed is None
        self._listeners: dict[str, Listener] = {}
        try:
            for purpose, address in (("admin", settings.admin), ("agent", settings.agent)):
                if address != "off":
                    self._listeners[purpose] = self._open(parse_bind(address))
        except BaseException:
            self._close_listeners(self._listeners.values())
            raise
        self.kept = [listener.socket.fileno() for listener in self._listeners.values()]
        self.addresses = {purpose: listener.actual for purpose, listener in self._listeners.items()}

    def _open(self, address: BindAddress) -> Listener:
        passed = self._passed.get(address.place)
        if passed is not None:
            return share_listener(address, passed.descriptor, _BACKLOG)
        return open_listeners(address, _BACKLOG, ())[0]

    def deadline(self) -> float:
        """Return when `start_if_due` has something to do: never while another master's helper answers."""
        return super().deadline() if self._answering else math.inf

    def passed(self) -> list[PassedListener]:
        """Describe the listeners for a successor."""
        return [pass_of(listener) for listener in self._listeners.values()]

    def take_over(self) -> list[str]:
        """Own what the master before us has owned, and begin to answer; return the places."""
        for listener in self._listeners.values():
            if (passed := self._passed.get(listener.address.place)) is not None:
                listener.take_over(passed.inode)
        self._answering = True
        return [listener.address.place for listener in self._listeners.values()]

    def hand_over(self, places: Collection[str]) -> None:
        """Leave the listeners to a successor that has taken them over, and stop answering."""
        taken = [listener for listener in self._listeners.values() if listener.address.place in places]
        for listener in taken:
            listener.hand_over()
        if taken:
            self._answering = False
            super().close()

    def be(self, end: socket.socket, master_pid: int) -> int:
        """Become the admin helper; runs in the forked child."""
        sockets = {purpose: listener.socket for purpose, listener in self._listeners.items()}
        channel = Channel(end, messages.to_admin)
        return main.run(main.Order(self._server_name, sockets, channel, master_pid, self._identity))

    def hear(self, message: Any, pid: int) -> Iterable[Event]:
        """Answer the helper."""
        match message:
            case messages.Ready():
                for purpose, address in self.addresses.items():
                    log.info("%s", _announcement(purpose, address), extra={"pid": pid})
            case messages.AskStatus():
                self._tell_status()
        return ()

    def _tell_status(self) -> None:
        """Hand the status over; without it, if there is no descriptor or memory for it: the helper asks again."""
        status = messages.as_json(self._describe())
        try:
            descriptor = os.memfd_create("prefork-status")
        except OSError:
            self.tell(messages.Status())
            return
        try:
            _write_all(descriptor, status)
            self.tell(messages.Status(), descriptor)
        except OSError:
            self.tell(messages.Status())
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """End the helper and give the listeners back."""
        super().close()
        self._close_listeners(self._listeners.values())

    @staticmethod
    def _close_listeners(listeners: Iterable[Listener]) -> None:
        for listener in listeners:
            listener.unlink()
            listener.close()


def _announcement(purpose: str, address: str) -> str:
    if purpose == "agent":
        return f"answering agent checks: {address}"
    return f"admin pages: {address.replace('tcp://', 'http://')}{'/' if address.startswith('tcp') else ''}"


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
