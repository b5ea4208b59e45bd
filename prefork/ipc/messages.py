"""What the master, a mold, a worker and the helpers say to each other; docs/protocols.md has the layout.

One message is one packet of a SOCK_SEQPACKET pair, msgpack with its type's name first. The master believes nothing
that does not decode.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

PACKET_BYTES = 65536


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True, forbid_unknown_fields=True):
    pass


class Hello(_Message, frozen=True):
    """Worker to master: this process has the other end."""

    pid: int


class Ready(_Message, frozen=True):
    """To the master. Worker: every server accepts. Mold: the generation can be forked from. Helper: it works.

    `takes_over`: it goes on with connections that other workers hand over.
    """

    takes_over: bool = False


class StoppedAccepting(_Message, frozen=True):
    """Worker to master: no connection will be accepted any more; open ones go on."""


class Overloaded(_Message, frozen=True):
    """Worker to master: connections wait in the queue because of `limit_connections`; or not any more."""

    waiting: bool


class PeerRefused(_Message, frozen=True):
    """Worker to master: connections of this peer are closed because of `limit_per_peer`."""

    peer: str


class Stuck(_Message, frozen=True):
    """Worker to master: a handler is over its time and does not end; somebody else should serve instead."""

    reason: str


class Dumped(_Message, frozen=True):
    """Worker to master: the stacks of all threads are written where the master reads them."""


class Failed(_Message, frozen=True):
    """To the master, before it exits. Worker, mold: the application cannot be loaded. Watcher: it cannot watch.

    Successor to its predecessor: it cannot serve.
    """

    reason: str
    detail: str


class Certificate(_Message, frozen=True):
    """Mold to master, once for each certificate that its workers will show."""

    file: str
    names: list[str]
    not_after: float


class Unsafe(_Message, frozen=True):
    """Mold to master, before it exits: the application is loaded, but forking from here would be wrong."""

    findings: str


class Forked(_Message, frozen=True):
    """Mold to master: the worker is a child of the master now."""

    number: int
    pid: int


class ForkFailed(_Message, frozen=True):
    """Mold to master: the worker never lived."""

    number: int
    reason: str


class Changed(_Message, frozen=True):
    """Watcher to master: these source files were changed, and `more` others."""

    names: list[str]
    more: int


class Told(_Message, frozen=True):
    """Watcher to master: whatever was changed before this time of the wall clock has been told."""

    until: float


class Serves(_Message, frozen=True):
    """Successor to its predecessor: all its workers serve the listeners of these places; `control`: and clients."""

    places: list[str]
    control: bool


class TakesOver(_Message, frozen=True):
    """Successor to its predecessor, before `Serves`: its workers go on with connections that are handed over."""


class AskStatus(_Message, frozen=True):
    """Admin to master: send the status."""


class Status(_Message, frozen=True):
    """Master to admin, with a file in memory attached (SCM_RIGHTS) that holds the status as JSON, if it can."""


class Drain(_Message, frozen=True):
    """Master to worker: stop accepting, after the queues of the listeners in `finish` are empty.

    `final`: the server stops, so that connections that wait for their client's next message are ended, too.
    `hand_over`: somebody takes over those of them that can move.
    """

    seconds: float
    finish: list[int]
    final: bool = False
    hand_over: bool = False


class Dump(_Message, frozen=True):
    """Master to worker: write the stacks of all threads."""


class LogReopened(_Message, frozen=True):
    """Master to worker, mold and helper, with a descriptor attached: write to this log file through it from now on."""

    file: bytes
    """As the system knows it: a name need not be Unicode."""


class HandedOver(_Message, frozen=True):
    """Master to its successor: what only one master can have, the pid file and the service manager, is yours now."""


class ForkWorker(_Message, frozen=True):
    """Master to mold, with the worker's end of its channel and the file for its stacks attached (SCM_RIGHTS)."""

    number: int
    slot: int
    accept_after: float = 0.0


FromWorker = Hello | Ready | StoppedAccepting | Stuck | Dumped | Overloaded | PeerRefused | Failed
FromMold = Ready | Failed | Certificate | Unsafe | Forked | ForkFailed
FromWatcher = Ready | Failed | Changed | Told
FromSuccessor = Serves | TakesOver | Failed
ToSuccessor = HandedOver
FromAdmin = Ready | Failed | AskStatus
ToWorker = Drain | Dump | LogReopened
ToMold = ForkWorker | LogReopened
ToWatcher = LogReopened
ToAdmin = Status | LogReopened
ToHelper = ToWatcher | ToAdmin
FromOthers = FromMold | FromWatcher | FromSuccessor | FromAdmin
Message = FromWorker | FromOthers | ToWorker | ToMold | ToHelper | ToSuccessor

encode = msgspec.msgpack.Encoder().encode
from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
from_mold: msgspec.msgpack.Decoder[FromMold] = msgspec.msgpack.Decoder(FromMold)
from_watcher: msgspec.msgpack.Decoder[FromWatcher] = msgspec.msgpack.Decoder(FromWatcher)
from_successor: msgspec.msgpack.Decoder[FromSuccessor] = msgspec.msgpack.Decoder(FromSuccessor)
from_admin: msgspec.msgpack.Decoder[FromAdmin] = msgspec.msgpack.Decoder(FromAdmin)
to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
to_mold: msgspec.msgpack.Decoder[ToMold] = msgspec.msgpack.Decoder(ToMold)
to_successor: msgspec.msgpack.Decoder[ToSuccessor] = msgspec.msgpack.Decoder(ToSuccessor)
to_watcher: msgspec.msgpack.Decoder[ToWatcher] = msgspec.msgpack.Decoder(ToWatcher)
to_admin: msgspec.msgpack.Decoder[ToAdmin] = msgspec.msgpack.Decoder(ToAdmin)


def shorten(text: str, limit: int = PACKET_BYTES // 8) -> str:
    """Keep the end of a long text (of a traceback, the part that says what happened)."""
    text = _encodable(text)
    return text if len(text) <= limit else "[...]\n" + text[-limit:]


def as_json(value: object) -> bytes:
    """Write what is told as JSON, also where a name in it is no Unicode, as that of a socket file may be."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_all_encodable(value))


def _all_encodable(value: object) -> object:
    match value:
        case str():
            return _encodable(value)
        case Mapping():
            return {_all_encodable(name): _all_encodable(each) for name, each in value.items()}
        case list() | tuple():
            return [_all_encodable(each) for each in value]
    return value


def _encodable(text: str) -> str:
    """Write as escapes what no encoder takes: bytes of a name that are no UTF-8 (PEP 383)."""
    return text.encode("utf-8", "backslashreplace").decode()
