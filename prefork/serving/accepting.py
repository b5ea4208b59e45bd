"""What the leader of a pool waits for: requests on any of its listeners, parked connections, and to be woken.

An accept that fails says one of three things. Somebody else was quicker (EAGAIN), or the queue is empty. That one
connection has gone, or its own network has trouble: the next may be fine. Or this process cannot accept now, for lack
of descriptors or memory: then trying again at once would spin, because what could not be accepted stays in the queue,
so the listener rests for a while and the others are served.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import select
import socket
from time import monotonic

from prefork.serving.pause import AcceptPause
from prefork.serving.wait import shorter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from prefork.serving.conversation import Conversation
    from prefork.serving.limits import Admission
    from prefork.serving.parking import Parking

log = logging.getLogger("prefork.serving")

# accept(2), "Error handling": pending errors of the new connection come out of accept. ECONNREFUSED is the answer to
# an earlier datagram (udp(7)).
GONE = frozenset(
    {
        errno.EINTR,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EMSGSIZE,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.ENOTCONN,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPIPE,
        errno.EPROTO,
        errno.ETIMEDOUT,
    }
)
_FD_SETSIZE = 1024  # select(2)
_IP_MINTTL = 21  # <linux/in.h>
_IPV6_MINHOPCOUNT = 73  # <linux/in6.h>
_CALM = 1.0  # seconds without a failure after which an episode is over; flapping would fill the log


class OverLimit(Exception):
    """A connection was taken that must not be served. Its arguments: the connection, and its client's address."""


def is_persistent(error: OSError) -> bool:
    """Say whether trying again at once would fail in the same way.

    An error without a number, or of a class of its own (ssl.SSLError numbers them differently), comes from a server's
    own `get_request()`, which has taken the connection.
    """
    return error.errno is not None and error.errno not in GONE and type(error).__module__ == "builtins"


class Rest:
    """The rests of one listener after failures that would repeat: `until` is when the present one is over.

    An episode of failures is over after a calm second; to end it with the first success would fill the log while
    descriptors come and go.
    """

    def __init__(self) -> None:
        self.until = 0.0
        self._pause: AcceptPause | None = None

    def begin(self, error: OSError, listener: object) -> None:
        now = monotonic()
        if self._pause is None:
            self._pause = AcceptPause()
        self._pause.failed(error, listener, now)
        self.until = now + self._pause.remaining(now)

    def note_success(self, listener: object) -> None:
        if self._pause is not None and monotonic() >= self.until + _CALM:
            self._pause.succeeded(listener)
            self._pause = None


class Intake:
    """One listener of a pool and the server that takes its requests. Used by the leader."""

    def __init__(self, server: Any, index: int) -> None:
        self.server = server
        self.index = index
        self.descriptor = server.fileno()
        self.datagrams = getattr(server, "socket_type", None) == socket.SOCK_DGRAM
        self.may_be_left = not self.datagrams  # what waits, to another worker
        self.may_have_more = _never_waits(server, self.datagrams)
        self.finishing = False  # the queue is to be served until it is empty
        self.empty = False  # the kernel said so after that
        self.exhausted = False  # the last attempt failed so that the next one would, too
        self.rest = Rest()

    def begin_drain(self, finishing: bool) -> None:
        """Note, under the pool's lock, whether the queue is to be served before the listener is left."""
        self.finishing = finishing
        try:
            self.server.draining = True
        except AttributeError:
            pass  # a property of the server's own

    def take(self) -> tuple[Any, Any] | None:
        """Return the next request and its client's address, if there is one now. May raise OverLimit."""
        # Read first: "empty" must have been seen after the drain began, when nothing new arrives any more.
        finishing = self.finishing
        self.exhausted = False
        try:
            request, client_address = self.server.get_request()
        except BlockingIOError:
            self.empty = finishing
            return None
        except OSError as error:
            if is_persistent(error):
                self.exhausted = True
                self.rest.begin(error, self.server.server_address)
            return None
        except BaseException as error:
            # The standard library's loop would end here, and the service with it.
            log.error("get_request failed: %s: %s; the listener rests", type(error).__name__, error, exc_info=error)
            self.exhausted = True
            self.rest.until = monotonic() + _CALM
            return None
        if self.rest.until:
            self.rest.note_success(self.server.server_address)
        if finishing:
            hear_from_afar(request)
        return request, client_address


class Intakes:
    """All listeners of a pool and its parked connections as one wait. The leader waits; any thread may wake it."""

    def __init__(self, parking: Parking, admission: Admission | None = None) -> None:
        self._parking = parking
        self._admission = admission
        self._bell = -1 if admission is None else admission.fileno()
        # Not an epoll: that would keep its place in the listener's queue of waiters, so that of all workers always the
        # same one is woken first.
        self._poll = select.poll()
        self._poll.register(parking.fileno(), select.POLLIN)
        self._queue = select.poll()
        self._room = -1  # where something could not be written
        self._by_descriptor: dict[int, Intake] = {}
        self._resting: list[Intake] = []
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._wakeup, select.POLLIN)
        if admission is not None:
            self._poll.register(self._bell, select.POLLIN)

    def add(self, intake: Intake) -> None:
        self._by_descriptor[intake.descriptor] = intake
        self._poll.register(intake.descriptor, select.POLLIN)

    def wait(self, *, at_once: bool = False) -> list[Intake | Conversation]:
        """Wait for something to serve or a wake-up, for ever if nothing rests; with `at_once`, only look."""
        ready: list[Intake | Conversation] = []
        news = self._poll.poll(0 if at_once else self._timeout())
        room, self._room = self._room, -1
        if room >= 0:
            self._poll.unregister(room)
        for descriptor, _ in news:
            if descriptor == room:
                continue
            if descriptor == self._wakeup:
                os.eventfd_read(self._wakeup)
            elif descriptor == self._bell:
                self._hear_bell()
            elif descriptor in self._by_descriptor:
                ready.append(self._by_descriptor[descriptor])
            else:
                ready += self._parking.readable()
        return ready

    def _hear_bell(self) -> None:
        """There may be room again: take up the listeners that rested until then."""
        assert self._admission is not None
        self._admission.hear()
        for intake in self._resting:
            if intake.rest.until == math.inf:
                intake.rest.until = 0.0

    def sees_room(self, descriptor: int) -> bool:
        """Say whether something can be written there; if not, the next wait ends as soon as that is so."""
        self._queue.register(descriptor, select.POLLOUT)
        try:
            room = bool(self._queue.poll(0))
        finally:
            self._queue.unregister(descriptor)
        if not room:
            self._room = descriptor
            self._poll.register(descriptor, select.POLLOUT)
        return room

    def is_left_by_others(self, intake: Intake, seconds: float) -> bool:
        """Wait for so long, and say whether something still waits at the listener: or false, if there is other work."""
        return not self.has_other_work(seconds) and self.is_waiting(intake)

    def has_other_work(self, seconds: float) -> bool:
        """Wait for so long, or until there is a wake-up or a parked connection has something to say."""
        others = [self._wakeup, self._parking.fileno()]
        # The only wait that can be shorter than a millisecond. Without it there is no time to be given.
        return max(others) < _FD_SETSIZE and bool(select.select(others, [], [], seconds)[0])

    def is_waiting(self, intake: Intake) -> bool:
        """Say whether something waits at the listener now."""
        self._queue.register(intake.descriptor, select.POLLIN)
        try:
            return bool(self._queue.poll(0))
        finally:
            self._queue.unregister(intake.descriptor)

    def let_rest(self, intake: Intake) -> None:
        """Leave the listener out of the wait until its rest is over."""
        self._poll.unregister(intake.descriptor)
        self._resting.append(intake)

    def rests(self, intake: Intake) -> bool:
        if self._resting:
            self._end_rests()
        return intake in self._resting

    def serve(self, intakes: Collection[Intake]) -> None:
        """Wait for these listeners, and for no other."""
        self.only(intakes)
        for intake in intakes:
            if intake.descriptor not in self._by_descriptor:
                self.add(intake)

    def only(self, intakes: Collection[Intake]) -> None:
        """Forget every listener but these."""
        for descriptor, intake in list(self._by_descriptor.items()):
            if intake not in intakes:
                del self._by_descriptor[descriptor]
                if intake in self._resting:
                    self._resting.remove(intake)
                else:
                    self._poll.unregister(descriptor)

    def wake(self) -> None:
        os.eventfd_write(self._wakeup, 1)

    def close(self) -> None:
        os.close(self._wakeup)

    def _timeout(self) -> float | None:
        """Return the milliseconds until a listener has rested, or a parked connection is idle for too long."""
        seconds = shorter(self._end_rests() if self._resting else None, self._parking.timeout())
        return None if seconds is None else 1000 * seconds + 1

    def _end_rests(self) -> float | None:
        """Take up again the listeners that have rested; return the seconds until the next one has."""
        now = monotonic()
        for intake in [intake for intake in self._resting if intake.rest.until <= now]:
            self._resting.remove(intake)
            self._poll.register(intake.descriptor, select.POLLIN)
        soonest = min((intake.rest.until for intake in self._resting), default=math.inf)
        return None if soonest == math.inf else soonest - now


def _never_waits(server: Any, datagrams: bool) -> bool:
    """Say whether get_request() returns at once when there is nothing, so that one may try without a wait."""
    if datagrams:
        return bool(getattr(server, "receives_at_once", False))
    if getattr(server.get_request, "__qualname__", "") != "TCPServer.get_request":
        return False  # an override may do anything
    return not os.get_blocking(server.fileno()) and not server.socket.gettimeout()


def hear_from_afar(request: Any) -> None:
    """Withdraw what a TCP connection may have inherited from its listener if that was sealed while they shook hands."""
    if not isinstance(request, socket.socket) or request.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        request.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, 0)
        if request.family == socket.AF_INET6:
            request.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, 0)
    except OSError:
        pass  # it has gone, which its handler will notice
