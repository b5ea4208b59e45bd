"""The control socket: operators' commands as JSON lines, in the master's own wait.

Nothing on disk by default: an abstract Unix address made of uid and pid, which cannot go stale or be stolen. Whoever
connects must be the same user or root (SO_PEERCRED). A client sends one request; some answers come at once, others
when what was asked for has happened, and until then the client receives each decision as it is logged. Everything a
client can do is bounded: how many there are, how much one sends, how long it takes, and how much of the log it leaves
unread. An answer is as long as it is, and dropped if it is not read in time.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from prefork.address import BindAddress
from prefork.ipc import messages
from prefork.master.sources import Sources
from prefork.policy.events import Event
from prefork.serving.pause import EXHAUSTED
from prefork.system.sockets import Listener, open_listeners, share_listener
from prefork.system.succession import PassedListener, pass_of

log = logging.getLogger("prefork.control")

_MOST_CLIENTS = 40
MOST_FOLLOWERS = 32  # the other places are for questions that are answered at once, those of probes above all
_REQUEST_BYTES = 65536
_UNREAD_BYTES = 1 << 20  # of the log
_REQUEST_TIME = 10.0
_REST = 1.0  # seconds
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """One line from a client."""

    command: str
    workers: int | None = None
    change: int | None = None
    quick: bool = False
    slot: int | None = None


class Desk(Protocol):
    """What answers the requests: the master."""

    def take_request(self, client: Client, request: Request) -> Iterable[Event]:
        """Answer the client, now or later, and return what the request means to the supervisor."""
        ...


class Client:
    """One connected client: a request comes in, lines go out."""

    def __init__(self, connection: socket.socket, uid: int, server: ControlServer) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._server = server
        self._received = b""
        self._unsent = b""
        self._answered = False
        self.uid = uid
        self.following: str | None = None  # the command whose end the client waits for
        self.deadline = time.monotonic() + _REQUEST_TIME

    def fileno(self) -> int:
        """The connection."""
        return self._connection.fileno()

    def events(self) -> Iterable[Event]:
        """Read the request, or write what could not be written before."""
        if self._unsent:
            self._flush()
        if self._connection.fileno() < 0:
            return ()
        try:
            received = self._connection.recv(_REQUEST_BYTES)
        except BlockingIOError:
            return ()
        except OSError:
            received = b""
        if not received:
            self._server.drop(self)
            return ()
        if self.following is not None or self._answered:
            return ()  # more than one request: the rest is not for us
        self._received += received
        line, newline, _ = self._received.partition(b"\n")
        if newline:
            self.deadline = math.inf
            return self._take(line)
        if len(self._received) >= _REQUEST_BYTES:
            self.fail("the request is longer than 64 KiB")
        return ()

    def _take(self, line: bytes) -> Iterable[Event]:
        try:
            request = msgspec.json.decode(line, type=Request)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self.fail(f"this is no request: {error}")
            return ()
        return self._server.desk.take_request(self, request)

    def tell(self, text: str, at: float, workers: Mapping[str, int]) -> None:
        """Send a line of the log, with its time and the number of workers in each state."""
        self._send({"log": text, "at": at, "workers": workers})
        if len(self._unsent) > _UNREAD_BYTES:
            self._server.drop(self)  # it does not read

    def answer(self, result: object = None) -> None:
        """Say that what was asked for is done, and hang up."""
        self._finish({"ok": True} if result is None else {"ok": True, "result": result})

    def fail(self, error: str, detail: str = "") -> None:
        """Say why it was not done, and hang up."""
        self._finish({"ok": False, "error": error, "detail": detail})

    def _finish(self, message: Mapping[str, object]) -> None:
        self.following = None
        self._answered = True
        self.deadline = time.monotonic() + _REQUEST_TIME  # for reading the answer
        self._send(message)

    def _send(self, message: Mapping[str, object]) -> None:
        self._unsent += messages.as_json(message) + b"\n"
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except BlockingIOError:
            pass  # the rest when the client has read something
        except OSError:
            self._server.drop(self)
            return
        if self._answered and not self._unsent:
            self._server.drop(self)
        else:
            self._server.wait_for(self, to_write=bool(self._unsent))

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class ControlServer:
    """Accepts the clients and keeps their deadlines."""

    def __init__(self, where: str, sources: Sources, desk: Desk, passed: PassedListener | None = None) -> None:
        """Listen at once; on a socket file that a predecessor still serves, only when told to `take_over`."""
        address = _address_at(where)
        self._passed = passed if passed is not None and passed.place == address.place else None
        self._listener = _listen(address, self._passed)
        self._sources = sources
        self.desk = desk
        self._clients: list[Client] = []
        self._rests_until = math.inf  # while no descriptor is free
        self._short = False  # said, and no client has been accepted since
        self._refused: set[int] = set()  # users that the log has named
        if self._passed is None:
            sources.add(self)

    def take_over(self) -> bool:
        """Begin to accept where the master before us does not any more; return whether there is such a place."""
        if self._passed is not None:
            self._listener.take_over(self._passed.inode)
            self._sources.add(self)
        return self._passed is not None

    def hand_over(self) -> None:
        """Accept nobody any more: our successor does. Who is connected stays."""
        self._sources.remove(self)
        self._rests_until = math.inf
        self._listener.hand_over()

    def passed(self) -> PassedListener | None:
        """Return what a successor needs to accept on our socket file; None if each has an address of its own."""
        return pass_of(self._listener) if self._listener.inode is not None else None

    def fileno(self) -> int:
        """The listening socket."""
        return self._listener.socket.fileno()

    def events(self) -> Iterable[Event]:
        """Accept one client."""
        try:
            connection, _ = self._listener.socket.accept()
        except OSError as error:
            if error.errno in EXHAUSTED:
                self._rest()
            return ()  # or it has left
        self._short = False
        _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if uid not in (0, os.getuid()):
            self._refuse(connection, uid)
            return ()
        self._make_room()
        client = Client(connection, uid, self)
        self._clients.append(client)
        self._sources.add(client)
        return ()

    def _rest(self) -> None:
        """Wait with the next client until there may be a descriptor for it; who waits keeps the listener readable."""
        if not self._short:
            self._short = True
            log.warning("control clients have to wait: no descriptor is free; tried again in %g s", _REST)
        self._sources.remove(self)
        self._rests_until = time.monotonic() + _REST

    def _refuse(self, connection: socket.socket, uid: int) -> None:
        connection.close()
        if uid not in self._refused:  # anybody can reach an abstract address: not as often as they like into our log
            self._refused.add(uid)
            log.warning("control clients refused: uid %d may not control this server; said once", uid)

    def _make_room(self) -> None:
        """Hang up on the one that has been silent longest if we are full: those that ask must not wait for it."""
        if len(self._clients) >= _MOST_CLIENTS:
            self.drop(next(client for client in self._clients if client.following is None))

    def wait_for(self, client: Client, to_write: bool) -> None:
        """Let the master's wait end when the client sends, or also when it has read."""
        if client in self._clients:
            self._sources.add(client, for_writing=to_write)

    def drop(self, client: Client) -> None:
        """Forget a client."""
        if client in self._clients:
            self._clients.remove(client)
            self._sources.remove(client)
            client.close()

    def followers(self) -> list[Client]:
        """Return the clients that wait for something to happen."""
        return [client for client in self._clients if client.following is not None]

    def deadline(self) -> float:
        """Return when the next client is late with its request, or with reading its answer."""
        return min([client.deadline for client in self._clients] + [self._rests_until])

    def drop_late(self, now: float) -> None:
        """Drop the clients that are late, and go on accepting after a rest."""
        if self._rests_until <= now:
            self._rests_until = math.inf
            self._sources.add(self)
        for client in [client for client in self._clients if client.deadline <= now]:
            self.drop(client)

    def close(self) -> None:
        """Hang up on everybody and remove the socket file, if it is still ours."""
        for client in list(self._clients):
            self.drop(client)
        self._sources.remove(self)
        self._listener.unlink()
        self._listener.close()


def _address_at(where: str) -> BindAddress:
    path = f"@prefork/{os.getuid()}/{os.getpid()}" if where == "auto" else os.path.abspath(where)
    return BindAddress("unix", path=path, mode=0o600)


def _listen(address: BindAddress, passed: PassedListener | None) -> Listener:
    if passed is not None:
        return share_listener(address, passed.descriptor, _MOST_CLIENTS)
    return open_listeners(address, _MOST_CLIENTS, ())[0]
