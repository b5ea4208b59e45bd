"""What a server's status says, as far as it is shown; fields that another version does not send have defaults."""

from typing import Any, TypeVar

import msgspec

from prefork.errors import NotDone

Reply = TypeVar("Reply")


class ListenerReply(msgspec.Struct):
    """One listener: where it is, and the text it was configured with."""

    address: str = ""
    bind: str = ""


class CertificateReply(msgspec.Struct):
    """One certificate that the workers show."""

    file: str = ""
    names: list[str] = []
    not_after: float = 0.0


class RequestReply(msgspec.Struct):
    """What one thread of a worker serves now."""

    peer: str = ""
    listener: str = ""
    seconds: float = 0.0
    tag: str = ""


class WorkerReply(msgspec.Struct):
    """One worker: what the master believes of it, and what its scoreboard row says."""

    slot: int = 0
    generation: int = 0
    pid: int | None = None
    state: str = ""
    recycling: str = ""
    age: float = 0.0
    beat_age: float | None = None
    threads: int = 0
    threads_busy: int = 0
    open: int = 0
    parked: int = 0
    accepted: int = 0
    failed: int = 0
    rss: int | None = None
    requests: list[RequestReply] = []


class ReloadReply(msgspec.Struct):
    """How the last reload ended."""

    ok: bool = True
    reason: str = ""
    ago: float = 0.0
    generation: int | None = None


class DeathReply(msgspec.Struct):
    """How a worker died, and whom it was serving."""

    slot: int = 0
    generation: int = 0
    pid: int | None = None
    how: str = ""
    ago: float = 0.0
    accepted: int = 0
    rss: int | None = None
    oom_kills: int | None = None
    parked: int = 0
    others: int = 0
    requests: list[RequestReply] = []


class StacksReply(msgspec.Struct):
    """The stacks of a worker."""

    slot: int = 0
    generation: int = 0
    pid: int | None = None
    stacks: str = ""


class DumpReply(msgspec.Struct):
    """The stacks of all workers that were asked."""

    workers: list[StacksReply] = []


class DecisionReply(msgspec.Struct):
    """Something that the master decided, and why."""

    at: float = 0.0
    what: str = ""
    why: str = ""


class StatusReply(msgspec.Struct):
    """The whole status."""

    name: str = ""
    pid: int = 0
    version: str = ""
    python: str = ""
    target: str = ""
    state: str = ""
    ready: bool = False
    draining: bool = False
    uptime: float = 0.0
    generation: int = 0
    candidate: int | None = None
    wanted: int = 0
    listeners: list[ListenerReply] = []
    certificates: list[CertificateReply] = []
    workers: list[WorkerReply] = []
    totals: dict[str, int] = {}
    last_reload: ReloadReply | None = None
    deaths: list[DeathReply] = []
    decisions: list[DecisionReply] = []


def read_status(result: Any) -> StatusReply:
    """Take a status as it was received; raise NotDone if it is none."""
    return _convert(result, StatusReply, "status")


def read_dump(result: Any) -> DumpReply:
    """Take the answer to a dump as it was received; raise NotDone if it is none."""
    return _convert(result, DumpReply, "answer")


def _convert(result: Any, kind: type[Reply], what: str) -> Reply:
    try:
        return msgspec.convert(result, kind)
    except msgspec.ValidationError as error:
        raise NotDone(f"the {what} makes no sense ({error}); is it another version of prefork?") from None
