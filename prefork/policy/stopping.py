"""How everything ends: serve on for the drain delay, drain everybody, hurry if asked again, leave when none is left."""

from __future__ import annotations

from collections.abc import Iterator

from prefork.policy.actions import Action, Exit, Report
from prefork.policy.fleet import Failure, Fleet, WorkerState
from prefork.policy.health import drain, kill
from prefork.policy.rollout import give_up_candidate


def give_up_reload(fleet: Fleet, now: float) -> Iterator[Action]:
    if fleet.candidate is not None and fleet.candidate.failure is None:
        fleet.candidate.failure = Failure("we are stopping")
    yield from give_up_candidate(fleet, now)


def give_up_recycling(fleet: Fleet, now: float) -> Iterator[Action]:
    if fleet.recycle_ordered:
        fleet.recycle_ordered = set()
        yield Report("recycle refused", fleet.current.number, "we are stopping")


def drain_everyone(fleet: Fleet, now: float) -> Iterator[Action]:
    stop = fleet.stop
    assert stop is not None
    leaving = (WorkerState.STARTING, WorkerState.SERVING) if now >= stop.drains_at else (WorkerState.STARTING,)
    for worker in fleet.of(*leaving):
        yield drain(fleet, worker, "we are stopping", now, final=True, quick=stop.quick)


def hurry_everyone(fleet: Fleet, now: float) -> Iterator[Action]:
    stop = fleet.stop
    assert stop is not None
    for worker in fleet.of(WorkerState.DRAINING) if stop.quick else ():
        if worker.drain_seconds > 0:
            yield drain(fleet, worker, "we are stopping quickly", now, final=True, quick=True)


def kill_everyone(fleet: Fleet, now: float) -> Iterator[Action]:
    stop = fleet.stop
    assert stop is not None
    for worker in list(fleet.workers.values()) if stop.killing else ():
        if worker.state is not WorkerState.KILLED:
            yield kill(fleet, worker, "we are asked not to wait any more", now)


def leave(fleet: Fleet, now: float) -> Iterator[Action]:
    stop = fleet.stop
    assert stop is not None
    if not fleet.workers and not fleet.exited:
        fleet.exited = True
        yield Exit(stop.code, stop.reason, stop.detail)
