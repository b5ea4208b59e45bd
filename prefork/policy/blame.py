"""Whose fault it is when a worker or a mold fails: what is given up because of it, and what only waits.

The candidate is given up for any failure of its mold or its canary, and for a worker that did not serve long enough to
have started well. The first generation ends the program if it fails before any worker was ready. Everything else is
one worker's misfortune, and the back-off of its slot says when it is tried again.
"""

from __future__ import annotations

from prefork.policy.actions import duration
from prefork.policy.fleet import PROVEN_AFTER, Failure, Fleet, Stop, Worker, WorkerState


def blame_generation(fleet: Fleet, number: int, failure: Failure, now: float) -> None:
    if fleet.candidate is not None and fleet.candidate.number == number:
        fleet.candidate.failure = fleet.candidate.failure or failure
    elif not fleet.served and fleet.stop is None:
        fleet.stop = Stop(quick=True, drains_at=now, code=3, reason=failure.reason, detail=failure.detail)
        fleet.report("start failed", number, failure.reason, failure.detail)


def lose_worker(fleet: Fleet, worker: Worker, cause: str, failure: Failure, now: float) -> float:
    """Note that it ended, or must be ended, by its own fault. Return how long its slot has to wait."""
    count_loss(fleet, worker, cause)
    served = worker.served_for(now)
    on_trial = fleet.on_trial is not None and fleet.on_trial.number == worker.generation
    if on_trial or served < PROVEN_AFTER:
        who = "its canary" if on_trial else f"its worker {worker.number}"
        blamed = Failure(f"{who}: {failure.reason}", failure.detail)
        blame_generation(fleet, worker.generation, blamed, now)
    return fleet.generations[worker.generation].backoff(worker.slot).ended(served, now)


def count_loss(fleet: Fleet, worker: Worker, cause: str) -> None:
    """Count it, once, among those that ended, or had to be ended, by their own fault."""
    if not worker.lost:
        worker.lost = True
        fleet.losses[cause] = fleet.losses.get(cause, 0) + 1


def note_failed_attempt(fleet: Fleet, worker: Worker, reason: str, now: float) -> None:
    """Note that it could not even be forked, which is nobody's fault; but a canary is not worth a long wait."""
    if worker.state is not WorkerState.STARTING:
        return
    if fleet.on_trial is not None and fleet.on_trial.number == worker.generation:
        blame_generation(fleet, worker.generation, Failure(f"its canary: {reason}"), now)
    else:
        delay = fleet.generations[worker.generation].backoff(worker.slot).failed(now)
        waits = f"{reason}; slot {worker.slot} is tried again in {duration(delay)}"
        fleet.report("short of workers", worker.generation, waits)
        fleet.short = True
