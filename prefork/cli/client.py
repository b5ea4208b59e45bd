"""A connection to a running server's control socket: one request, log lines while it is carried out, one answer.

The other end is believed only after the kernel has said who it is: an abstract address can be bound by anybody, and
this program prints what it reads there, and waits for that process.
"""

import json
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from prefork.cli.discovery import ControlPlace, place_of
from prefork.errors import NoSuchServer, NotDone

PATIENCE = 10.0
_MOMENT = 0.1
_MOST_BYTES = 64 * 1024 * 1024  # of one line; a status of the largest fleet with all its requests is far below
_TIMEVAL = struct.Struct("@ll")  # struct timeval
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid (unix(7))


class Follower(Protocol):
    """Whoever wants to know what happens until an order is carried out."""

    def hear(self, text: str, at: float, counts: Mapping[str, int]) -> None:
        """Take a decision of the server, with its time and how many workers of which kind there were then."""
        ...

    def wait(self) -> None:
        """Take notice that nothing was said for a moment."""
        ...


class Connection:
    """A server that has proved who it is, and has not been asked yet. Use it as a context manager."""

    def __init__(self, place: ControlPlace, time_limit: float = PATIENCE) -> None:
        self.place = place
        self._time_limit = time_limit
        self._socket = _connect(place, time_limit)
        self._received = b""
        self.pid, uid, _ = _credentials(self._socket)
        if not is_believable(place, self.pid, uid, own_uid=os.geteuid()):
            self._socket.close()
            raise NoSuchServer(f"what answers at {place} is not that server but process {self.pid} of uid {uid}")

    @classmethod
    def to_pid(cls, pid: int, time_limit: float = PATIENCE) -> Self:
        """Connect to the server whose master has this pid; raise NoSuchServer if there is none."""
        return cls(place_of(pid), time_limit)

    def ask(self, request: Mapping[str, object], follower: Follower | None = None) -> Any:
        """Send the request and return its result; raise NotDone with the server's reason if it was not carried out.

        The follower hears each decision that the server takes meanwhile. Then silence may last, as long as the server
        answers others; without a follower it may not exceed the time limit.
        """
        self._send(request)
        for message in self._messages(follower):
            if "log" in message:
                if follower is not None:
                    follower.hear(str(message["log"]), _time(message.get("at")), _counts(message.get("workers")))
            elif message.get("ok") is True:
                return message.get("result")
            else:
                raise NotDone(str(message.get("error", "the server did not say why")), str(message.get("detail", "")))
        if request["command"] == "stop":
            return None  # it ended before it could say so
        raise NotDone(f"the server ({self.place}) hung up without an answer; it has ended, or was too busy")

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, request: Mapping[str, object]) -> None:
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            pass  # it hung up; if it said why, that can still be read

    def _messages(self, follower: Follower | None) -> Iterator[Mapping[str, object]]:
        while (line := self._line(follower)) is not None:
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if not isinstance(message, dict):
                raise NotDone(f"the answer of {self.place} makes no sense; is it another version of prefork?")
            yield message

    def _line(self, follower: Follower | None) -> bytes | None:
        """Read up to the next newline; None at the end of the stream, a broken line included."""
        while b"\n" not in self._received:
            if not self._wait_for_data(follower):
                if follower is None or not self._answers_others():
                    raise NotDone(_silence(self.place, self._time_limit))
                continue
            try:
                data = self._socket.recv(1 << 16)
            except ConnectionError:
                return None
            if not data or len(self._received) > _MOST_BYTES:
                return None
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _wait_for_data(self, follower: Follower | None) -> bool:
        """Wait until something can be read, for the time limit at most; the follower is kept awake meanwhile."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        deadline = time.monotonic() + self._time_limit
        while (left := deadline - time.monotonic()) > 0:
            if waiting.poll(1000 * (left if follower is None else min(left, _MOMENT))):
                return True
            if follower is not None:
                follower.wait()
        return False

    def _answers_others(self) -> bool:
        try:
            with Connection(self.place, self._time_limit) as other:
                other.ask({"command": "status"})
        except (NotDone, NoSuchServer):
            return False
        return True


def _time(at: object) -> float:
    return float(at) if isinstance(at, int | float) else 0.0


def _counts(workers: object) -> dict[str, int]:
    if not isinstance(workers, dict):
        return {}
    return {str(name): number for name, number in workers.items() if isinstance(number, int)}


def is_believable(place: ControlPlace, pid: int, uid: int, own_uid: int) -> bool:
    """Tell whether the process that listens is the server of that place, and one that this user has reason to trust."""
    if place.path:
        return uid in (0, own_uid) or own_uid == 0  # root may control anybody's server
    return (uid, pid) == (place.uid, place.pid) and (uid in (0, own_uid) or own_uid == 0)


def _connect(place: ControlPlace, time_limit: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # A blocking connect waits for room in a full queue as long as a send may take (unix(7)); one with a time-out of
    # Python's does not, and then there is nothing to poll for.
    seconds, fraction = divmod(time_limit, 1)
    limit = _TIMEVAL.pack(int(seconds), max(1, int(fraction * 1e6)))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    try:
        connection.connect(place.address)
        connection.settimeout(time_limit)
    except (ConnectionRefusedError, FileNotFoundError):
        connection.close()
        raise NoSuchServer(_absence(place)) from None
    except BlockingIOError:
        connection.close()
        raise NotDone(_silence(place, time_limit)) from None
    except OSError as error:
        connection.close()
        raise NoSuchServer(f"cannot reach a server at {place}: {os.strerror(error.errno or 0).lower()}") from None
    return connection


def _credentials(connection: socket.socket) -> tuple[int, int, int]:
    pid, uid, gid = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid, gid


def _absence(place: ControlPlace) -> str:
    if place.path:
        return f"no server listens at {place}"
    return f"no server with the pid {place.pid} (`prefork list` shows them; one with its own --control needs it)"


def _silence(place: ControlPlace, time_limit: float) -> str:
    return f"no answer from the server ({place}) in {time_limit:g} s; it may be stopped or overloaded"
