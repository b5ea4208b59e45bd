"""Who has served long enough: workers that an option or an operator wants replaced, one after another.

A worn worker serves on and does not count towards the wanted number any more, so a replacement is started as soon as
the surge has room, and the worn one is drained as surplus once the replacement serves. Many may be worn at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

from prefork.policy.actions import Action, Report, duration
from prefork.policy.fleet import Fleet, Worker, WorkerState

READINGS_OVER_RSS = 3  # in a row: memory that is given back is nobody's fault


def recycle_worn(fleet: Fleet, now: float) -> Iterator[Action]:
    if not fleet.complete or fleet.candidate is not None:
        return
    for worker in fleet.of(WorkerState.SERVING):
        # Without the wait, a limit that every new worker exceeds at once would have us fork all the time.
        if worker.worn or now < fleet.recycling.not_before:
            continue
        if worn := _wear(fleet, worker, now):
            cause, reason = worn
            worker.worn = reason
            fleet.replaced[cause] += 1
            fleet.recycling.ended(worker.served_for(now), now)
            yield Report("recycling worker", worker.generation, reason, number=worker.number)


def report_recycled(fleet: Fleet, now: float) -> Iterator[Action]:
    ordered = fleet.recycle_ordered
    if not ordered or len(fleet.serving()) < fleet.wanted:
        return
    if all(worker.stopped_accepting for worker in fleet.workers.values() if worker.number in ordered):
        count = len(ordered)
        fleet.recycle_ordered = set()
        number = "1 worker was" if count == 1 else f"{count} workers were"
        yield Report("recycle complete", fleet.current.number, f"{number} replaced")


def next_wear(fleet: Fleet) -> Iterator[float]:
    """Yield when a worker comes of age; what the load tells is looked at when it is read."""
    if not fleet.complete or fleet.candidate is not None:
        return
    for worker in fleet.of(WorkerState.SERVING):
        most = fleet.generations[worker.generation].settings.max_age
        if most and not worker.worn and worker.ready_at is not None:
            yield max(worker.ready_at + most, fleet.recycling.not_before)


def _wear(fleet: Fleet, worker: Worker, now: float) -> tuple[str, str] | None:
    """Name the limit that the worker has reached, if any, and say how."""
    settings = fleet.generations[worker.generation].settings
    if worker.most_requests and worker.served >= worker.most_requests:
        return (
            "max_requests",
            f"served {worker.served} requests, and {worker.most_requests} were its share (max_requests)",
        )
    if settings.max_rss and worker.readings_over_rss >= READINGS_OVER_RSS:
        above = f"above {settings.max_rss / 2**20:.0f} MiB (max_rss)"
        return "max_rss", f"{above} for {READINGS_OVER_RSS} readings in a row"
    if settings.max_age and worker.ready_at is not None and now >= worker.ready_at + settings.max_age:
        return "max_age", f"served for {duration(now - worker.ready_at)} (max_age)"
    return None
