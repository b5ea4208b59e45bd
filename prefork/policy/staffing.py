"""The right number of workers, of the right generation: who is drained and who is spawned.

A successor is ready before anybody is retired: serving workers are drained only while more than enough serve.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from prefork.policy.actions import Action, Drain, Report, Spawn, duration
from prefork.policy.fleet import Fleet, Generation, MoldState, Worker, WorkerState
from prefork.policy.health import drain


def drain_needless_starts(fleet: Fleet, now: float) -> Iterator[Action]:
    wanted_generations = {fleet.target.number, fleet.on_trial.number if fleet.on_trial else 0}
    staff = sorted(fleet.staff(), key=_last_slot_first)
    surplus = [worker for worker in staff if worker.state is WorkerState.STARTING][: max(0, len(staff) - fleet.wanted)]
    for worker in fleet.of(WorkerState.STARTING):
        if worker.generation not in wanted_generations:
            yield drain(fleet, worker, f"generation {worker.generation} is superseded", now)
        elif worker in surplus:
            yield drain(fleet, worker, f"only {fleet.wanted} workers are wanted", now)


def drain_surplus(fleet: Fleet, now: float) -> Iterator[Action]:
    serving = fleet.serving()
    serving.sort(
        key=lambda worker: (
            not worker.stuck,
            worker.generation == fleet.target.number,
            not worker.worn,
            _last_slot_first(worker),
        )
    )
    for worker in serving[: max(0, len(serving) - fleet.wanted)]:
        if worker.stuck:
            yield drain(fleet, worker, f"another one serves in its place: {worker.stuck}", now)
        elif worker.generation != fleet.target.number:
            yield drain(fleet, worker, f"replaced by generation {fleet.target.number}", now)
        elif fleet.retiring(worker):
            yield drain(fleet, worker, f"recycled: {worker.worn}", now)
        else:
            yield drain(fleet, worker, f"only {fleet.wanted} workers are wanted", now)


def hand_over_late(fleet: Fleet, now: float) -> Iterator[Action]:
    """Who drains unasked, or began when nobody was there to go on with its connections, hands them over now."""
    for worker in fleet.of(WorkerState.DRAINING):
        if not worker.hands_over and worker.ready_at is not None and fleet.has_heir(worker):
            worker.hands_over = True
            reason = "another worker goes on with its connections"
            yield Drain(worker.number, worker.drain_seconds, final=False, reason=reason, hand_over=True)


def spawn_missing(fleet: Fleet, now: float) -> Iterator[Action]:
    target = fleet.target
    if target.mold is not MoldState.READY or target.failure is not None:
        return
    present = len(fleet.staff())
    # A slot that waits holds one of the missing places, so that no other slot is taken to get around its back-off.
    missing = fleet.wanted - present - len(target.waiting(now))
    reason = f"{present} of {fleet.wanted} workers of generation {target.number} are there"
    retiring = sum(fleet.retiring(worker) for worker in fleet.of(WorkerState.SERVING))
    if retiring:
        reason += f", and {retiring} to be recycled"
    yield from _spawn(fleet, target, min(missing, fleet.room()), reason, now)


def spawn_canary(fleet: Fleet, now: float) -> Iterator[Action]:
    candidate = fleet.on_trial
    if candidate is None or candidate.mold is not MoldState.READY or candidate.failure is not None:
        return
    if any(worker.generation == candidate.number for worker in fleet.workers.values()):
        return
    # One that dies by itself shall do so before a client depends on it; then half of the trial is left for clients.
    quiet = candidate.settings.canary_time / 2
    reason = f"the canary of generation {candidate.number}"
    yield from _spawn(fleet, candidate, min(1, fleet.room()), reason, now, quiet)


def report_shortage(fleet: Fleet, now: float) -> Iterator[Action]:
    serving, generation = len(fleet.serving()), fleet.target.number
    waiting = fleet.target.waiting(now)
    if not fleet.short and waiting and serving < fleet.wanted:
        fleet.short = True
        delay = duration(min(waiting.values()) - now)
        yield Report("short of workers", generation, f"{serving} of {fleet.wanted} serve; the next start is in {delay}")
    elif fleet.short and serving >= fleet.wanted:
        fleet.short = False
        yield Report("enough workers", generation, f"{serving} of {fleet.wanted} serve again")


def report_ready(fleet: Fleet, now: float) -> Iterator[Action]:
    if not fleet.complete and len(fleet.serving()) >= fleet.wanted:
        fleet.complete = True
        fleet.read_load_from(now)
        yield Report("ready", fleet.current.number, f"{fleet.wanted} workers serve")


def _spawn(
    fleet: Fleet, generation: Generation, count: int, reason: str, now: float, accept_after: float = 0.0
) -> Iterator[Action]:
    waiting = generation.waiting(now)
    slots = (slot for slot in fleet.free_slots() if slot not in waiting)
    for slot in list(islice(slots, max(0, count))):
        worker = fleet.new_worker(slot, generation, now)
        yield Spawn(worker.number, slot, generation.number, reason, accept_after)


def _last_slot_first(worker: Worker) -> int:
    return -worker.slot
