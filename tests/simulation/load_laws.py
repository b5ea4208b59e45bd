"""What must hold when the load changes the number of workers, and when workers are recycled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork.policy import events
from prefork.policy.actions import Report
from tests.simulation.record import KnownWorker, Record, require

if TYPE_CHECKING:
    from tests.simulation.world import World

LONGEST_WAIT = 30.0
SOON = 1e-6


def check_scaling(world: World, record: Record) -> None:
    if not isinstance(record.hearing, events.LoadRead):
        return
    settings, before, after = world.settings[record.current], record.wanted, world.supervisor.wanted
    least, most = settings.min_workers or settings.workers, settings.max_workers or settings.workers
    require(least < most, "the load may not change a number without bounds")
    require(least <= after <= most, "the adaptive number stays within its bounds")
    require(least <= before <= most, "a number ordered by hand outside the bounds holds")
    require(abs(after - before) == 1, "the load changes the number by one")
    require(_nothing_is_rolled_out(record), "the number does not adapt during a rollout")
    if after < before:
        require(record.calm_readings >= 10, "a fleet that was busy a moment ago does not shrink")
    elif sum(record.queues) == 0:
        ready = sum(each.ready for each in record.workers.values())
        require(ready >= before, "who is starting is waited for before more are wanted")


def check_wear(world: World, record: Record, report: Report) -> None:
    assert report.number is not None
    known = record.workers[report.number]
    require(known.ready, "only who serves is recycled")
    require(not known.worn, "a worker is worn once")
    known.worn = True
    # Another slot's worker may come of age in the same moment.
    if isinstance(record.hearing, events.RecycleRequested) and record.hearing.slot in (None, known.slot):
        known.ordered = True
        return
    require(_nothing_is_rolled_out(record), "nobody is worn during a rollout")
    _check_reason(world, known)
    if world.now - known.ready_at >= 2 * LONGEST_WAIT:
        record.early_wear.clear()
        return
    record.early_wear.append(world.now)
    if len(record.early_wear) > 1:
        wait = min(LONGEST_WAIT, 0.5 * 2 ** (len(record.early_wear) - 2))
        waited = record.early_wear[-1] - record.early_wear[-2]
        require(waited >= wait - SOON, "workers that wear out at once are replaced ever more slowly")


def _check_reason(world: World, known: KnownWorker) -> None:
    settings = world.settings[known.generation]
    require(
        0 < settings.max_requests <= known.load.served
        or 0 < settings.max_rss < (known.load.rss or 0)
        or 0 < settings.max_age <= world.now - known.ready_at,
        "nobody is recycled without having reached a limit",
    )


def check_recycled(world: World, record: Record, report: Report) -> None:
    require(record.recycle_asked, "who did not ask is told nothing")
    if report.subject == "recycle complete":
        ready = record.ready_workers()
        require(ready >= min(record.wanted, world.supervisor.wanted), "a recycle ends with all workers ready")
        by_hand = [number for number, each in record.workers.items() if each.ordered and not each.gone]
        accepting = [each for each in world.processes.values() if each.accepting and each.number in by_hand]
        require(not accepting, "a recycle is complete when no worker that it replaces accepts")


def _nothing_is_rolled_out(record: Record) -> bool:
    return all(each.outcome != "" for each in record.generations.values())
