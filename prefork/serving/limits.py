"""How many connections may be open: the whole server's limit, and that of one client address.

At the server's limit a worker does not accept: connections wait in the listener's queue, as they do when all threads
are busy, until somebody, in whatever worker, ends one and rings the bell. A place is taken before the accept and given
back if nothing came of it, so the limit is never exceeded. Two workers that reach for the last place at the same time
may both miss it: the one that sees so tries again a moment later, each slot after a time of its own.

A connection too many of one address has to be accepted to know whose it is. It is closed at once.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import select
import socket
import struct
import threading
from collections import deque
from time import monotonic

from prefork.serving.accepting import Intake, OverLimit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Account(Protocol):
        """What this process has open, beside the others'. Methods that write are called under one lock."""

        slot: int

        def fileno(self) -> int:
            """Return a descriptor that becomes readable anew when somebody has given something back."""

        def add(self, change: int) -> None: ...
        def total(self) -> int: ...
        def wait_for_room(self, waiting: bool) -> None: ...
        def ring_if_awaited(self) -> None: ...
        def add_peer(self, fingerprint: int, change: int) -> None: ...
        def peer_total(self, fingerprint: int) -> int: ...


_CALM = 1.0  # seconds with room after which an overload is over; at the limit every close makes room for a moment
_RETRY = 0.001  # seconds, times the slot's place: after two workers missed the last place
_ATTEMPTS = 3
_SAY_AGAIN = 30.0  # seconds; about one peer
_MOST_PEERS_SAID = 1024


class Admission:
    """Asked by the leader before and after each accept, told by each thread of an end.

    `key` makes fingerprints that nobody outside can aim at; it must be the same in all processes of the server.
    """

    def __init__(self, account: Account, connections: int, per_peer: int, key: bytes) -> None:
        self.refused_peers: deque[str] = deque(maxlen=16)
        """Peers to be reported, each once in a while; any thread appends, the main thread takes."""
        self._account = account
        self._connections = connections
        self._per_peer = per_peer
        self._key = key
        self._lock = threading.Lock()  # of the account and of what is open
        self._open: dict[int, int] = {}  # the fingerprint of its peer (or 0) by the identity of a connection
        self._full_until = 0.0  # the end of the calm that ends an overload; the leader's, read by the main thread
        self._said: dict[str, float] = {}  # when each peer was last reported
        self._bell = select.epoll()
        self._bell.register(account, select.EPOLLIN | select.EPOLLET)

    def fileno(self) -> int:
        """A descriptor that is readable when there may be room again; each ring is seen by every worker."""
        return self._bell.fileno()

    def hear(self) -> None:
        """Take the ring that made the descriptor readable."""
        self._bell.poll(0)
        if self._full_until == math.inf and not self._is_full():
            self._wait_for_room(False)  # perhaps nobody is left in the queue to take it

    def overloaded(self) -> bool:
        """Say whether connections had to wait for room, now or within the last second."""
        return monotonic() < self._full_until

    def reserve(self) -> float:
        """Take a place for a connection; return 0, or when to try again (infinity: when the bell rings)."""
        if not self._connections:
            return 0.0
        with self._lock:
            self._account.add(1)
        if self._account.total() <= self._connections:
            if self._full_until == math.inf:
                self._wait_for_room(False)
            return 0.0
        with self._lock:
            self._account.add(-1)
        if self._is_full():
            self._wait_for_room(True)
            # Who gave something back before it could see that we wait has not rung: so we look once more.
            if self._is_full():
                return math.inf
            self._wait_for_room(False)
        # Others that missed the last place because of us may take it.
        self._account.ring_if_awaited()
        return monotonic() + _RETRY * (1 + self._account.slot)

    def _is_full(self) -> bool:
        return self._account.total() >= self._connections

    def _wait_for_room(self, waiting: bool) -> None:
        self._full_until = math.inf if waiting else monotonic() + _CALM
        with self._lock:
            self._account.wait_for_room(waiting)

    def intake(self, server: Any, index: int) -> Intake:
        """Return the intake of a listener: datagrams are no connections, and are not limited."""
        datagrams = getattr(server, "socket_type", socket.SOCK_STREAM) == socket.SOCK_DGRAM
        return Intake(server, index) if datagrams else LimitedIntake(server, index, self)

    def cancel(self) -> None:
        """Give back the place of a connection that did not come."""
        if self._connections:
            with self._lock:
                self._account.add(-1)
            self._account.ring_if_awaited()

    def begun(self, connection: Any) -> None:
        """Count a connection that was accepted."""
        with self._lock:
            self._open[id(connection)] = 0

    def take_over(self, connection: Any, client_address: object) -> None:
        """Count a connection that another worker has handed over. It is admitted already, so no limit holds it back.

        On the way nobody counts it; therefore a limit may be exceeded by those that moved while others were accepted.
        """
        name = peer_name(connection, client_address) if self._per_peer else ""
        fingerprint = self._fingerprint(name) if name else 0
        with self._lock:
            if self._connections:
                self._account.add(1)
            if fingerprint:
                self._account.add_peer(fingerprint, 1)
            self._open[id(connection)] = fingerprint

    def identify(self, connection: Any, client_address: object) -> bool:
        """Count a connection for its peer, once it is known; False: the peer has too many, so it is to be closed."""
        name = peer_name(connection, client_address) if self._per_peer else ""
        if not name:
            return True
        fingerprint = self._fingerprint(name)
        if self._add_peer(fingerprint):
            with self._lock:
                self._open[id(connection)] = fingerprint
            return True
        self._note_refused(name)
        return False

    def release_peer(self, connection: Any) -> None:
        """Count a connection for its peer no longer: when the peer sees its end it may come back at once."""
        with self._lock:
            if fingerprint := self._open.get(id(connection)):
                self._open[id(connection)] = 0
                self._account.add_peer(fingerprint, -1)

    def ended(self, connection: Any) -> None:
        """Count the end of a connection; of a datagram, or again, it does no harm."""
        with self._lock:
            fingerprint = self._open.pop(id(connection), None)
            if fingerprint:
                self._account.add_peer(fingerprint, -1)
        if fingerprint is not None:
            self.cancel()

    def _add_peer(self, fingerprint: int) -> bool:
        """Count one more of a peer, unless that is too many."""
        for _ in range(_ATTEMPTS):
            with self._lock:
                self._account.add_peer(fingerprint, 1)
            if self._account.peer_total(fingerprint) <= self._per_peer:
                return True
            with self._lock:
                self._account.add_peer(fingerprint, -1)
            if self._account.peer_total(fingerprint) >= self._per_peer:
                return False
        return False

    def _fingerprint(self, name: str) -> int:
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, key=self._key).digest()) or 1

    def _note_refused(self, name: str) -> None:
        now = monotonic()
        if now - self._said.get(name, -math.inf) < _SAY_AGAIN:
            return
        if len(self._said) >= _MOST_PEERS_SAID:
            self._said.clear()
        self._said[name] = now
        self.refused_peers.append(name)


class LimitedIntake(Intake):
    """A listener of streams whose connections are admitted or not."""

    def __init__(self, server: Any, index: int, admission: Admission) -> None:
        super().__init__(server, index)
        self._admission = admission

    def take(self) -> tuple[Any, Any] | None:
        """Return the next connection, if there is one, and room for it. Raise OverLimit if its peer has too many."""
        retry_at = self._admission.reserve()
        if retry_at:
            self.exhausted = True
            self.rest.until = retry_at
            return None
        taken = super().take()
        if taken is None:
            self._admission.cancel()
            return None
        self._admission.begun(taken[0])
        # Behind a proxy the peer is known later: the thread that reads the PROXY header identifies it.
        if getattr(self.server, "trusted_proxies", None) is None and not self._admission.identify(*taken):
            raise OverLimit(*taken)
        return taken


def peer_name(connection: Any, client_address: object) -> str:
    """Return what counts as one peer: an IPv4 address, an IPv6 network of 64 bits, a Unix user; "" if none is known."""
    match client_address:
        case (str(host), int(), *_):
            return _network(host)
    if isinstance(connection, socket.socket) and connection.family == socket.AF_UNIX:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return f"uid {struct.unpack('3i', credentials)[1]}"
    return ""


def _network(host: str) -> str:
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
