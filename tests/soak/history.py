"""What every client asked and got, and what follows from that: the laws of a soak."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

DRAIN_TIMEOUT = 5.0  # of the server
RENEWAL = 30.0  # the longest wait for a new mold, whose generation is rolled out like that of a reload
GRACE = 2.0  # seconds by which a fault may precede, or the notice of it follow, what it explains


@dataclass(frozen=True, slots=True)
class Request:
    """One question: when it was asked, when its outcome was known, and the outcome: "" if it was answered."""

    client: str
    question: str
    began: float
    ended: float
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to the server.

    `costs`: it may lose what was in flight, and a worker for a while. `drains`: it tells workers to drain, so that kept
    connections may be cut `DRAIN_TIMEOUT` later. `asks`: more workers are wanted at once, and are there a moment later.
    """

    number: int
    kind: str
    costs: bool
    drains: bool
    asks: bool
    began: float
    ended: float


@dataclass(slots=True)
class History:
    """Written by all clients and by the one who does the faults."""

    answered: Counter[str] = field(default_factory=Counter)  # by the kind of client
    longest: float = 0.0  # seconds until an answer
    lost: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    workers: list[tuple[float, int, int]] = field(default_factory=list)  # when, how many served, how many were wanted
    wrong: list[str] = field(default_factory=list)  # answers that belong to no question
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, request: Request) -> None:
        with self._lock:
            if request.failure:
                self.lost.append(request)
            else:
                self.answered[kind_of(request)] += 1
                self.longest = max(self.longest, request.ended - request.began)

    def note_wrong(self, what: str) -> None:
        with self._lock:
            self.wrong.append(what)

    def violations(self) -> list[str]:
        """Return what must not have happened."""
        costly = [fault for fault in self.faults if fault.costs]
        lost = [
            f"{one.client} lost {one.question!r} ({one.failure}) at {one.ended:.2f}, and no fault explains it"
            for one in self.lost
            if not _hung(one) and self._cause_of(one) is None
        ]
        hung = [
            f"{one.client} waited in vain for {one.question!r} until {one.ended:.2f}" for one in self.lost if _hung(one)
        ]
        short = [
            f"{serving} of {wanted} workers served at {at:.2f}, and no fault explains it"
            for at, serving, wanted in self.workers
            if serving < wanted and not _explained(at - GRACE, at, [*costly, *(one for one in self.faults if one.asks)])
        ]
        return [*self.wrong, *hung, *lost, *short]

    def summary(self) -> dict[str, object]:
        """Return the figures of the soak."""
        return {
            "requests": self.answered.total() + len(self.lost),
            "answered": dict(self.answered),
            "lost in flight": dict(Counter(f"{kind_of(one)}: {one.failure}" for one in self.lost)),
            "lost because of": dict(
                Counter(fault.kind if (fault := self._cause_of(one)) else "?" for one in self.lost)
            ),
            "faults": dict(Counter(fault.kind for fault in self.faults)),
            "longest stall, s": round(self.longest, 3),
        }

    def _cause_of(self, lost: Request) -> Fault | None:
        """Return the latest fault that may have cost a request, else the one whose drain it outstayed."""
        near = [one for one in self.faults if one.costs and _is_near(one, lost.began, lost.ended)]
        if not near and kind_of(lost) == "kept":  # those that are parked go on in another worker
            near = [one for one in self.faults if one.drains and _is_within_drain(one, lost.ended)]
        return near[-1] if near else None


def _is_near(fault: Fault, began: float, ended: float) -> bool:
    return fault.began - GRACE <= ended and began <= fault.ended + GRACE


def _is_within_drain(fault: Fault, at: float) -> bool:
    return fault.began <= at <= fault.ended + DRAIN_TIMEOUT + GRACE + RENEWAL * (fault.kind == "kill_mold")


def kind_of(request: Request) -> str:
    """Return what kind of client asked."""
    return request.client.rpartition("-")[0]


def _hung(lost: Request) -> bool:
    """Tell whether a stream stayed open and silent: faults end connections, and none excuses that."""
    return lost.failure == "TimeoutError" and not kind_of(lost).startswith("datagram")


def _explained(began: float, ended: float, faults: Sequence[Fault]) -> bool:
    return any(_is_near(fault, began, ended) for fault in faults)
