"""What `prefork status` shows: the supervisor's beliefs beside what the scoreboard says."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from typing import TYPE_CHECKING

from prefork import __version__
from prefork.ipc.scoreboard import Counts
from prefork.master import deaths
from prefork.master.generations import Generations
from prefork.master.workers import Processes, WorkerProcess
from prefork.policy.fleet import ReloadOutcome, Worker
from prefork.policy.supervisor import Supervisor
from prefork.system.usage import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping


def describe(
    supervisor: Supervisor, processes: Processes, generations: Generations, tally: Mapping[str, int], started: float
) -> dict[str, object]:
    """Return the status as docs/protocols.md lays it out."""
    now = time.monotonic()
    current = generations.get(supervisor.generation)
    living = {one.number: one for one in processes.living()}
    counts = processes.counts_of_the_dead
    for one in living.values():
        counts += one.rows.counts()
    return {
        "name": current.settings.name,
        "pid": os.getpid(),
        "version": __version__,
        "python": platform.python_version(),
        "target": current.settings.target,
        "state": supervisor.state,
        "ready": supervisor.ready,
        "draining": supervisor.draining,
        "uptime": now - started,
        "generation": supervisor.generation,
        "candidate": supervisor.candidate,
        "wanted": supervisor.wanted,
        "listeners": [
            {"address": listener.actual, "bind": str(listener.address)} for listener in generations.listeners()
        ],
        "certificates": [
            {"file": one.file, "names": one.names, "not_after": one.not_after} for one in current.certificates
        ],
        "workers": [_describe_worker(one, living.get(one.number), generations, now) for one in supervisor.workers()],
        "totals": {
            **_describe_counts(counts),
            # Some are refused before a thread carries them, by the limits, and some after that.
            "refused": counts.refused + generations.ledger.refused(),
            **tally,
            "suspects": processes.deaths.suspects.found,
        },
        "deaths": [deaths.describe(one, now) for one in processes.deaths.recent],
        "last_reload": _describe_reload(supervisor.last_reload, now),
    }


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


def _describe_counts(counts: Counts) -> dict[str, int]:
    return {
        "accepted": counts.accepted,
        "served": counts.closed - counts.failed - counts.refused,
        "failed": counts.failed,
        "refused": counts.refused,
    }


def _describe_worker(
    believed: Worker, process: WorkerProcess | None, generations: Generations, now: float
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
    beat, counts, requests = process.rows.last_beat(), process.rows.counts(), process.rows.requests()
    generation = generations.find(believed.generation)
    listeners = generation.listeners if generation else []
    return {
        **described,
        "beat_age": None if beat is None else now - beat,
        "threads": process.rows.threads,
        "threads_busy": len(requests),
        "open": counts.accepted - counts.closed,
        "parked": process.rows.count_parked(),
        **_describe_counts(counts),
        "rss": resident_bytes(process.pid) if process.pid else None,
        "requests": [
            {
                "peer": request.peer,
                "listener": str(listeners[request.listener].address) if request.listener < len(listeners) else "",
                "seconds": now - request.since,
                "tag": request.tag,
            }
            for request in requests
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
