"""What `prefork status` and the admin helper show: the supervisor's beliefs beside what the scoreboard says."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from prefork import __version__
from prefork.config.settings import Settings
from prefork.ipc.tallies import BOUNDS, Tallies, Tally, add_up
from prefork.logs import lost_lines
from prefork.master import deaths
from prefork.master.generations import Generations
from prefork.master.workers import Processes, WorkerProcess
from prefork.policy.fleet import ReloadOutcome, Worker
from prefork.policy.supervisor import Supervisor
from prefork.system.queues import queue_of
from prefork.system.sockets import Listener
from prefork.system.usage import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_DECISIONS_KEPT = 50
# What is being served costs some 10 us each to tell, and the master does nothing else meanwhile.
_MOST_REQUESTS = 2048


class Decisions:
    """The last decisions of the supervisor, for those who look later."""

    def __init__(self) -> None:
        self._kept: deque[dict[str, object]] = deque(maxlen=_DECISIONS_KEPT)

    def note(self, level: int, what: str, why: str, identity: Mapping[str, int]) -> float:
        """Keep one decision, and return when it was taken."""
        at, name = time.time(), logging.getLevelName(level).lower()
        self._kept.append({"at": at, "level": name, "what": what, "why": why, **identity})
        return at

    def describe(self) -> list[dict[str, object]]:
        """Return them, the oldest first; `at` is a time of the wall clock."""
        return list(self._kept)


def describe(
    supervisor: Supervisor,
    processes: Processes,
    generations: Generations,
    settings: Settings,
    tally: Mapping[str, int],
    started: float,
) -> dict[str, object]:
    """Return the status as docs/protocols.md lays it out."""
    now = time.monotonic()
    current = generations.find(supervisor.generation)  # released, while only workers of former ones drain
    living = {one.number: one for one in processes.living()}
    tallies = {number: one.rows.tallies() for number, one in living.items()}
    busy = {number: one.rows.count_busy() for number, one in living.items()}
    most = most_of_each(busy.values())
    by_listener = add_up([processes.tallies_of_the_dead, *tallies.values()])
    return {
        "name": settings.name,
        "pid": os.getpid(),
        "version": __version__,
        "python": platform.python_version(),
        "target": settings.target,
        "state": supervisor.state,
        "ready": supervisor.ready,
        "draining": supervisor.draining,
        "uptime": now - started,
        "generation": supervisor.generation,
        "candidate": supervisor.candidate,
        "wanted": supervisor.wanted,
        "listeners": [_describe_listener(listener) for listener in generations.listeners()],
        "workers": [
            _describe_worker(
                one,
                living.get(one.number),
                tallies.get(one.number, {}),
                busy.get(one.number, 0),
                generations,
                most,
                now,
            )
            for one in supervisor.workers()
        ],
        "certificates": [
            {"file": one.file, "names": one.names, "not_after": one.not_after}
            for one in (current.certificates if current else ())
        ],
        "totals": {
            **_describe_counts(_sum(by_listener)),
            "lost": _sum(by_listener).lost,
            "restarts": sum(supervisor.losses.values()),
            **tally,
            "suspects": processes.deaths.suspects.found,
            "log_lines_lost": lost_lines(),
        },
        "deaths": [deaths.describe(one, now) for one in processes.deaths.recent],
        "connections": [_describe_tally(listener, by_listener[listener]) for listener in sorted(by_listener)],
        "duration_bounds": BOUNDS,
        "losses": dict(supervisor.losses),
        "replaced": dict(supervisor.replaced),
        "backoff": supervisor.longest_wait(now),
        "backoff_waited": supervisor.total_wait(now),
        "last_reload": _describe_reload(supervisor.last_reload, now),
    }


def most_of_each(busy: Collection[int]) -> int | None:
    """Return how many requests may be told of each worker, if so many are being served in each; None: all."""
    return None if sum(busy) <= _MOST_REQUESTS else max(1, _MOST_REQUESTS // len(busy))


def describe_health(supervisor: Supervisor) -> dict[str, object]:
    """Return what a probe wants to know."""
    return {
        "state": supervisor.state,
        "started": supervisor.state != "starting",
        "ready": supervisor.ready,
        "draining": supervisor.draining,
    }


def count_workers(supervisor: Supervisor) -> dict[str, int]:
    """Return how many workers are in each state, and how many are wanted."""
    counts = Counter(str(worker.state) for worker in supervisor.workers())
    return {"wanted": supervisor.wanted, **counts}


def _sum(tallies: Tallies) -> Tally:
    return sum(tallies.values(), Tally())


def _describe_counts(tally: Tally) -> dict[str, int]:
    return {"accepted": tally.accepted, "served": tally.served, "failed": tally.failed, "refused": tally.refused}


def _describe_tally(listener: str, tally: Tally) -> dict[str, object]:
    return {
        "listener": listener,
        "open": tally.open,
        **_describe_counts(tally),
        "lost": tally.lost,
        "handed_over": tally.handed_over,
        "taken_over": tally.taken_over,
        "seconds": tally.seconds,
        "durations": tally.durations,
    }


def _describe_listener(listener: Listener) -> dict[str, object]:
    queue = queue_of(listener.socket)
    return {
        "address": listener.actual,
        "bind": str(listener.address),
        "waiting": queue.waiting,
        "limit": queue.limit,
        "drops": queue.drops,
    }


def _describe_worker(
    believed: Worker,
    process: WorkerProcess | None,
    tallies: Tallies,
    busy: int,
    generations: Generations,
    most: int | None,
    now: float,
) -> dict[str, object]:
    described: dict[str, object] = {
        "slot": believed.slot,
        "generation": believed.generation,
        "pid": process.pid if process else None,
        "state": str(believed.state),
        "accepting": believed.accepting,
        "recycling": believed.worn,
        "age": now - believed.spawned_at,
    }
    if process is None:
        return described
    beat, tally = process.rows.last_beat(), _sum(tallies)
    generation = generations.find(believed.generation)
    listeners = generation.listeners if generation else []
    return {
        **described,
        "beat_age": None if beat is None else now - beat,
        "threads": process.rows.threads,
        "threads_busy": busy,
        "open": tally.open,
        "parked": process.rows.count_parked(),
        **_describe_counts(tally),
        "rss": resident_bytes(process.pid) if process.pid else None,
        "pss": process.rows.proportional_memory() or None,
        "requests": [
            {
                "peer": request.peer,
                "listener": str(listeners[request.listener].address) if request.listener < len(listeners) else "",
                "seconds": max(0.0, now - request.since),
                "tag": request.tag,
            }
            for request in process.rows.requests(most)
        ],
    }


def _describe_reload(outcome: ReloadOutcome | None, now: float) -> dict[str, object] | None:
    if outcome is None:
        return None
    return {
        "generation": outcome.generation,
        "ok": outcome.succeeded,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "ago": now - outcome.at,
    }
