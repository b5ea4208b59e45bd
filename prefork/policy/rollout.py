"""A reload, step by step: prepare, load, try one canary, replace worker by worker; or give up and lose nothing.

Until no worker of another generation accepts, the old generation stays the current one with its mold, so that giving
up is nothing but rolling towards the old generation again.
"""

from __future__ import annotations

from collections.abc import Iterator

from prefork.policy.actions import Action, PrepareGeneration, ReleaseGeneration, Report, StartMold
from prefork.policy.fleet import MOST_WORKERS, Fleet, Generation, MoldState, ReloadOutcome, Worker, WorkerState
from prefork.policy.scaling import number_after_reload


def give_up_candidate(fleet: Fleet, now: float) -> Iterator[Action]:
    candidate = fleet.candidate
    if candidate is None or (failure := candidate.failure) is None:
        return
    fleet.candidate = None
    fleet.last_reload = ReloadOutcome(candidate.number, False, failure.reason, failure.detail, now)
    if fleet.current.mold is MoldState.GONE:
        fleet.renewal.failed(now)
    yield Report("reload failed", candidate.number, failure.reason, failure.detail)


def begin_reload(fleet: Fleet, now: float) -> Iterator[Action]:
    origin = _lost_mold(fleet, now) if fleet.reload_asked is None else fleet.reload_asked
    if origin is None or not fleet.served:
        return
    superseded, fleet.reload_asked = fleet.candidate, None
    fleet.candidate = fleet.new_generation(now)
    number = fleet.candidate.number
    if superseded is not None:
        yield Report("reload superseded", superseded.number, f"generation {number} was asked for meanwhile")
    yield PrepareGeneration(number, origin)


def _lost_mold(fleet: Fleet, now: float) -> str | None:
    """Without its mold the current generation serves on, but cannot replace anybody."""
    failure = fleet.current.failure
    if failure is None or fleet.candidate is not None or fleet.upgrade is not None or now < fleet.renewal.not_before:
        return None
    return failure.reason


def start_molds(fleet: Fleet, now: float) -> Iterator[Action]:
    for generation in fleet.rising():
        if generation.mold is MoldState.WANTED:
            generation.mold = MoldState.LOADING
            generation.deadline = now + generation.settings.boot_timeout
            yield StartMold(generation.number, generation.preload, f"generation {generation.number} needs its code")


def pass_trial(fleet: Fleet, now: float) -> Iterator[Action]:
    candidate = fleet.on_trial
    if candidate is None or candidate.failure is not None:
        return
    canary = next((each for each in _serving(fleet, candidate) if _beat_until_the_end(each, candidate)), None)
    if canary is not None:
        candidate.passed = True
        reason = f"the canary of generation {candidate.number} serves well; the others follow"
        yield Report("trial passed", candidate.number, reason, number=canary.number)


def _beat_until_the_end(canary: Worker, candidate: Generation) -> bool:
    """Time alone proves nothing: a canary that hangs looks the same until its heartbeat timeout."""
    if canary.ready_at is None:
        return False
    time = candidate.settings.canary_time
    return time == 0 or (canary.last_beat is not None and canary.last_beat >= canary.ready_at + time)


def complete_reload(fleet: Fleet, now: float) -> Iterator[Action]:
    candidate, previous = fleet.candidate, fleet.current
    if candidate is None or not candidate.passed or candidate.failure is not None:
        return
    others = [worker for worker in fleet.workers.values() if worker.generation != candidate.number]
    if len(_serving(fleet, candidate)) < fleet.wanted or not all(worker.stopped_accepting for worker in others):
        return
    fleet.current, fleet.candidate = candidate, None
    reason = f"all {fleet.wanted} workers are of generation {candidate.number}"
    fleet.last_reload = ReloadOutcome(candidate.number, True, reason, "", now)
    yield Report("reload complete", candidate.number, reason)
    fleet.read_load_from(now)
    workers, why = number_after_reload(fleet, candidate, previous)
    workers = min(workers, MOST_WORKERS)
    if workers != fleet.wanted:
        yield Report("scaled", candidate.number, f"{why} instead of {fleet.wanted}")
        fleet.scale(workers)


def release_generations(fleet: Fleet, now: float) -> Iterator[Action]:
    needed = {worker.generation for worker in fleet.workers.values()}
    if fleet.stop is None:
        needed.update(generation.number for generation in fleet.rising())
    for number in [number for number in fleet.generations if number not in needed]:
        del fleet.generations[number]
        yield ReleaseGeneration(number, "none of its workers is left")


def _serving(fleet: Fleet, generation: Generation) -> list[Worker]:
    return [worker for worker in fleet.of(WorkerState.SERVING) if worker.generation == generation.number]
