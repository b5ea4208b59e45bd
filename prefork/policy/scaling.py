"""How many workers there shall be: between min_workers and max_workers, as the load asks for.

A busy fleet grows by one at each reading, a calm one shrinks by one after many readings, and after more of them if it
had to grow again soon after it had shrunk. A queue of connections that nobody takes is an emergency: then it grows
although the last new worker is not ready yet. A number outside the bounds was ordered by an operator and holds.
"""

from __future__ import annotations

from collections.abc import Iterator

from prefork.policy.actions import Action, Report
from prefork.policy.fleet import Fleet, Generation

BUSY = 0.5
CALM = 0.25  # of n workers is less than BUSY of n - 1, so that a removal is never the reason to grow again
CALM_READINGS = 10
MOST_PATIENCE = 16 * CALM_READINGS


def adapt_number(fleet: Fleet, now: float) -> Iterator[Action]:
    demand, settings = fleet.demand, fleet.current.settings
    if demand.judged:
        return
    demand.judged = True
    within = settings.least_workers <= fleet.wanted <= settings.most_workers
    if not (settings.adaptive and within and fleet.complete and fleet.candidate is None):
        demand.forget()
        return
    demand.readings_since_removal += 1
    demand.calm_readings = demand.calm_readings + 1 if demand.busy < CALM and not demand.queued else 0
    if fleet.wanted < settings.most_workers and (reason := _reason_to_grow(fleet, now)):
        _note_growth(fleet)
        yield _adapt(fleet, fleet.wanted + 1, reason)
    elif fleet.wanted > settings.least_workers and _calm_enough(fleet):
        reason = f"workers were {demand.busy:.0%} busy, and for {demand.calm_readings} readings below {CALM:.0%}"
        demand.readings_since_removal = 0
        yield _adapt(fleet, fleet.wanted - 1, reason)


def number_after_reload(fleet: Fleet, candidate: Generation, previous: Generation) -> tuple[int, str]:
    """Return how many workers are wanted once the settings of the candidate are in force, and why."""
    new, old = candidate.settings, previous.settings
    if new.workers != old.workers:
        return new.workers, f"the settings say {new.workers} workers now"
    least, most = new.least_workers, new.most_workers
    if (least, most) != (old.least_workers, old.most_workers):
        why = f"the settings say {least} to {most} workers now, so another number is wanted"
        return min(max(fleet.wanted, least), most), why
    return fleet.wanted, ""


def _reason_to_grow(fleet: Fleet, now: float) -> str:
    demand, serving = fleet.demand, len(fleet.serving())
    # One that waits for each worker is what a busy moment looks like; more, and not fewer than before, is a jam.
    if demand.queued >= demand.queued_before > serving and not fleet.target.waiting(now):
        return f"{demand.queued} connections wait to be accepted, {demand.queued_before} did before"
    if demand.busy > BUSY and serving == fleet.wanted:
        return f"workers are {demand.busy:.0%} busy"
    return ""


def _note_growth(fleet: Fleet) -> None:
    demand = fleet.demand
    waited = max(demand.patience, CALM_READINGS)
    regretted = demand.readings_since_removal <= waited
    demand.patience = min(2 * waited, MOST_PATIENCE) if regretted else CALM_READINGS


def _calm_enough(fleet: Fleet) -> bool:
    demand = fleet.demand
    return demand.calm_readings >= max(demand.patience, CALM_READINGS) and len(fleet.serving()) == fleet.wanted


def _adapt(fleet: Fleet, workers: int, reason: str) -> Report:
    fleet.demand.calm_readings = 0
    report = Report("scaled", fleet.current.number, f"{reason}; {workers} workers wanted instead of {fleet.wanted}")
    fleet.scale(workers)
    return report
