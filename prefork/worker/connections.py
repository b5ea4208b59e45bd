"""The open connections of a foreign server: counted from its accept to the close of their last holder.

Such a server's own code decides what becomes of a connection. It may outlive its handler, be wrapped by TLS, or simply
be forgotten; so it is the socket itself that tells of its end.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
import time
import weakref

from prefork.serving.cutting import cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from prefork.serving.activity import Activity
    from prefork.worker.access import Record

    Base = socket.socket
else:
    Base = object


class Connections:
    """What is open of one server. All servers of a worker share one row of the activity, and so one lock."""

    def __init__(
        self,
        activity: Activity,
        row: int,
        lock: threading.RLock,
        begin_record: Callable[[object], Record] | None = None,
    ) -> None:
        self.on_change: Callable[[], object] = lambda: None
        """Called when the last one has ended."""
        self._activity = activity
        self._row = row
        self._lock = lock  # reentrant: the garbage collector may end a connection at any moment
        self._begin_record = begin_record
        self._open: dict[int, _Open] = {}
        self._pid = os.getpid()

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, request: Any, listener: int, client_address: object) -> None:
        """Count a request."""
        with self._lock:
            on_end = functools.partial(self.closed, id(request))
            one = _Open(request, listener, client_address, on_end)
            if self._begin_record is not None:
                one.record = self._begin_record(client_address)
                if isinstance(request, tuple):  # a datagram, of which nothing more will be known
                    one.record.measure(request)
            self._open[id(request)] = one
            self._activity.opened(self._row, listener, client_address)

    def follow(self, connection: socket.socket) -> None:
        """Let the connection itself tell of its end."""
        connection.__class__ = _followed(type(connection))
        _owners[id(connection)] = self

    def measure(self, request: Any) -> None:
        """Complete the record of a connection that is about to be shut down or closed."""
        one = self._open.get(id(request))
        if one is not None and one.record is not None:
            one.record.measure(request)

    def closed(self, identity: int, *_: object) -> None:
        """Note the end of a request; again does no harm. In a child that a server forked, ends are not ours."""
        _owners.pop(identity, None)
        if os.getpid() != self._pid:
            return
        with self._lock:
            ended = self._open.pop(identity, None)
            if ended is None:
                return
            self._activity.closed(self._row, ended.failed, ended.listener, ended.since)
        if ended.record is not None:
            ended.record.end(ended.failed)
        if not self._open:
            self.on_change()

    def moved(self, identity: int, successor: socket.socket) -> None:
        """Note that another object holds the connection now."""
        self.follow(successor)
        with self._lock:
            moving = self._open.pop(identity, None)
            if moving is not None:
                moving.refer_to(successor, functools.partial(self.closed, id(successor)))
                self._open[id(successor)] = moving

    def note_failure(self, client_address: object, client_gone: bool = False) -> None:
        """Note that the handler of this client's connection raised."""
        with self._lock:
            for one in list(self._open.values()):
                if one.client_address == client_address and not one.failed:
                    one.failed = True
                    one.note_outcome("lost" if client_gone else "")
                    return

    def note_refused(self, request: Any) -> None:
        """Note that the server does not serve a request."""
        with self._lock:
            one = self._open.get(id(request))
            if one is not None:
                self._activity.refused(self._row, one.listener)
                one.note_outcome("refused")

    def cut(self) -> None:
        """End every connection under its handler's hands."""
        with self._lock:
            held = []
            for one in list(self._open.values()):
                one.note_outcome("cut")
                held.append(one.request())
        for request in held:
            cut(request)


class _Open:
    """One open request, held weakly if it can be, so that a forgotten connection is closed as ever."""

    def __init__(self, request: Any, listener: int, client_address: object, on_end: Callable[..., object]) -> None:
        self.listener = listener
        self.client_address = client_address
        self.since = time.monotonic()
        self.failed = False
        self.record: Record | None = None  # if there is an access log
        self.refer_to(request, on_end)

    def note_outcome(self, outcome: str) -> None:
        if self.record is not None:
            self.record.outcome = self.record.outcome or outcome

    def refer_to(self, request: Any, on_end: Callable[..., object]) -> None:
        try:
            self.request: Callable[[], Any] = weakref.ref(request, on_end)
        except TypeError:
            self.request = lambda: request


_owners: dict[int, Connections] = {}


class _Followed(Base):
    """An accepted connection that tells of its end."""

    __slots__ = ()

    def detach(self) -> int:
        successor = _successor(sys._getframe(1), self.fileno())
        descriptor = super().detach()
        owner = _owners.pop(id(self), None)
        if owner is not None and successor is not None:
            owner.moved(id(self), successor)
        elif owner is not None:
            owner.closed(id(self))
        return descriptor

    def shutdown(self, how: int) -> None:
        _measure(self)
        super().shutdown(how)

    def _real_close(self, *args: Any) -> None:
        _measure(self)
        try:
            super()._real_close(*args)  # type: ignore[misc]  # not in the stubs
        finally:
            owner = _owners.pop(id(self), None)
            if owner is not None:
                owner.closed(id(self))


def _measure(connection: socket.socket) -> None:
    owner = _owners.get(id(connection))
    if owner is not None:
        owner.measure(connection)


def _successor(caller: FrameType, descriptor: int) -> socket.socket | None:
    """Return the object that takes the descriptor over. An ssl.SSLSocket does so while it is made."""
    taker = caller.f_locals.get("self")
    return taker if isinstance(taker, socket.socket) and taker.fileno() == descriptor else None


_classes: dict[type[socket.socket], type[_Followed]] = {}


def _followed(original: type[socket.socket]) -> type[socket.socket]:
    if issubclass(original, _Followed):
        return original
    if original not in _classes:
        # Without slots it has the layout of the original, as a change of class demands.
        body = {"__slots__": (), "__module__": original.__module__}
        _classes[original] = type(original.__name__, (_Followed, original), body)
    return _classes[original]
