"""How workers died, and whom they were serving: what the log, `prefork status` and the search for suspects know.

All of it is read when the worker has been reaped: its rows of the scoreboard, the memory that it said it had, what
`faulthandler` wrote while it died, and whether the OOM killer has been at work meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefork.ipc.scoreboard import Request
from prefork.logs import record_access
from prefork.master.stacks import take_words
from prefork.master.suspects import Suspects
from prefork.system.oom import count_oom_kills

if TYPE_CHECKING:
    from prefork.master.workers import WorkerProcess

log = logging.getLogger("prefork.master")

_MOST_REMEMBERED = 10
_MOST_NAMED = 20  # requests in one record of the log
_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Death:
    """What is known about the end of a worker."""

    number: int
    identity: dict[str, int]
    how: str
    at: float
    age: float
    accepted: int
    resident_bytes: int
    in_flight: list[Request]
    parked: int
    others: int  # that were open: a foreign server shows only the latest of those that it serves
    listeners: list[str]
    words: str
    oom_kills: int | None  # of our control group so far; None if that cannot be known


class Deaths:
    """The latest deaths, and who was being served at several of them."""

    def __init__(self) -> None:
        self.recent: deque[Death] = deque(maxlen=_MOST_REMEMBERED)
        self.suspects = Suspects()
        self._oom_kills = self._oom_kills_read = count_oom_kills()

    def examine(self, worker: WorkerProcess, how: str) -> Death | None:
        """Find out what a reaped worker died of; None if it left in good order."""
        if how == "exit status 0" and worker.leaving:
            return None
        now, total = time.monotonic(), worker.rows.total()
        how, in_flight, parked = self._explain(worker, how), worker.rows.requests(), worker.rows.count_parked()
        death = Death(
            number=worker.number,
            identity=worker.identity,
            how=how,
            at=now,
            age=now - worker.ordered_at,
            accepted=total.accepted,
            resident_bytes=worker.rows.memory(),
            in_flight=in_flight,
            parked=parked,
            others=max(0, total.open - len(in_flight) - parked),
            listeners=worker.listeners,
            words=take_words(worker),
            oom_kills=self._oom_kills_read,
        )
        self.recent.append(death)
        for request in death.in_flight:
            _record_lost(request, death)
        if not (worker.leaving and worker.kill_reason):  # else its time to drain was over, whoever it served
            self._look_for_suspects(death)
        return death

    def identity_of(self, number: int) -> dict[str, int]:
        """Return the fields that name a worker which has died lately."""
        return next((death.identity for death in self.recent if death.number == number), {})

    def _explain(self, worker: WorkerProcess, how: str) -> str:
        before, kills = self._oom_kills, count_oom_kills()
        self._oom_kills = self._oom_kills_read = kills
        if not how.startswith("killed by SIGKILL"):
            return how
        if worker.kill_reason:
            return f"{how} that we sent ({worker.kill_reason})"
        if before is not None and kills is not None and kills > before:
            self._oom_kills = before + 1  # another one that it killed may be reaped next
            return f"{how} of the kernel's OOM killer"
        return f"{how} that we did not send"

    def _look_for_suspects(self, death: Death) -> None:
        for name, times in self.suspects.note(death.in_flight, death.at):
            problem = "suspect: %s was being served at %d crashes within a minute; look at what it sends"
            log.warning(problem, name, times)


def detail_of(death: Death) -> str:
    """Write what the log says below the line that a worker has died."""
    memory = f"{death.resident_bytes / _MEBIBYTE:.0f} MiB" if death.resident_bytes else "unknown"
    kills = "" if death.oom_kills is None else f"; OOM kills in our control group so far: {death.oom_kills}"
    lines = [f"it had accepted {death.accepted} in {death.age:.3g} s; memory at the last look: {memory}{kills}"]
    named = death.in_flight[:_MOST_NAMED]
    lines += [f"lost with it: {one.in_words(death.listeners, death.at)}" for one in named]
    if others := len(death.in_flight) - len(named) + death.others:
        lines.append(f"lost with it: {others} others")
    if death.parked:
        lines.append(f"lost with it: {death.parked} that were parked")
    return "\n".join([*lines, death.words] if death.words else lines)


def _record_lost(request: Request, death: Death) -> None:
    """Write the record that the worker cannot write any more."""
    listener = death.listeners[request.listener] if request.listener < len(death.listeners) else None
    what = "datagram" if (listener or "").startswith(("udp:", "unixgram:")) else "connection"
    seconds = round(death.at - request.since, 6)
    fields = {"seconds": seconds, "in": None, "out": None, "listener": listener, "peer": request.peer}
    record_access(f"{what} lost", fields, death.identity)


def describe(death: Death, now: float) -> dict[str, object]:
    """Return a death as the status shows it."""
    return {
        "slot": death.identity["worker"],
        "generation": death.identity["gen"],
        "pid": death.identity.get("pid"),
        "how": death.how,
        "ago": now - death.at,
        "age": death.age,
        "accepted": death.accepted,
        "rss": death.resident_bytes or None,
        "oom_kills": death.oom_kills,
        "parked": death.parked,
        "others": death.others,
        "requests": [
            {
                "peer": one.peer,
                "listener": death.listeners[one.listener] if one.listener < len(death.listeners) else "",
                "seconds": death.at - one.since,
                "tag": one.tag,
            }
            for one in death.in_flight
        ],
    }
