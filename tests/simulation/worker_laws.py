"""What must hold when a worker is spawned, drained or killed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prefork.policy.actions import Drain, Dump, Kill, Spawn, WorkerAction
from prefork.policy.health import DUMP_TIME
from prefork.policy.notes import WEDGED_AFTER
from tests.simulation.processes import Process
from tests.simulation.record import KnownWorker, Record, require

if TYPE_CHECKING:
    from tests.simulation.world import World

SOON = 1e-6


def check(world: World, record: Record, action: WorkerAction) -> None:
    match action:
        case Spawn():
            check_spawn(world, record, action)
        case Drain():
            check_drain(world, record, action)
        case Dump(number):
            check_dump(world, record, number)
        case Kill(number):
            check_kill(world, record, number)


def check_spawn(world: World, record: Record, spawn: Spawn) -> None:
    generation = record.generations.get(spawn.generation)
    require(generation is not None and not generation.released, "no order for an unknown or released generation")
    assert generation is not None
    require(not record.stopping, "nothing is started while we stop")
    require(generation.mold_ready, "workers are forked from a mold that is known to be ready")
    require(spawn.number > max(record.workers, default=0), "a worker's number is never used twice")
    others = record.workers.values()
    require(all(each.gone or each.slot != spawn.slot for each in others), "a slot has one living worker")
    processes = [each for each in world.processes.values() if each.alive]
    require(all(each.slot != spawn.slot for each in processes), "a slot has one living process")
    if not generation.passed:
        siblings = [each for each in others if each.generation == spawn.generation]
        require(not siblings, "before the trial has passed there is one canary")
    _check_backoff(world, record, spawn)
    record.workers[spawn.number] = KnownWorker(spawn.slot, spawn.generation, world.now)
    _check_number(world, record, processes)


def _check_backoff(world: World, record: Record, spawn: Spawn) -> None:
    generation, now = record.generations[spawn.generation], world.now
    recent = {slot: times for slot, times in generation.failed_starts.items() if times[-1] > record.scaled_at}
    if times := recent.get(spawn.slot):
        wait = min(30.0, 0.5 * 2 ** (len(times) - 1))
        require(now >= times[-1] + wait - SOON, "a slot whose starts fail waits longer each time")
    # A canary is not held up by the failures of another code, and is no way around them.
    if generation.passed and record.scaled_at < now - 0.5:
        staff = [each for each in record.workers.values() if each.present and not each.stuck and not each.worn]
        alive = sum(each.generation == spawn.generation for each in staff)
        waiting = sum(times[-1] > now - 0.5 + SOON for times in recent.values())
        require(alive + waiting < world.supervisor.wanted, "the place of a failed start is left empty for a while")


def _check_number(world: World, record: Record, processes: list[Process]) -> None:
    most = world.supervisor.wanted + world.settings[1].surge
    present = sum(each.present for each in record.workers.values())
    require(present <= most, "never more than wanted and surge start or serve")
    booting = sum(not each.ready and not each.kill_sent for each in processes)
    require(booting < most + 1, "starting processes do not pile up")


def check_drain(world: World, record: Record, drain: Drain) -> None:
    known = _living(record, drain.number)
    was_ready = known.ready
    known.leaving_since = min(known.leaving_since, world.now)
    _check_heirs(record, drain)
    if record.stopping:
        _check_final_drain(world, record, drain, was_ready)
        return
    require(not drain.final, "only a stop is final")
    require(drain.seconds == world.settings[known.generation].drain_timeout, "a drain has its whole time")
    if was_ready:
        enough = record.ready_workers() >= world.supervisor.wanted
        require(enough, "nobody is drained unless enough others are ready")


def _check_heirs(record: Record, drain: Drain) -> None:
    if not drain.hand_over:
        return
    staying = [each for each in record.workers.values() if each.ready and not each.stuck and not each.worn]
    heirs = record.successor == "serves" if record.stopping else bool(staying)
    require(heirs, "connections are handed over to somebody who stays")


def _check_final_drain(world: World, record: Record, drain: Drain, was_ready: bool) -> None:
    require(drain.final, "a stop drains the queue as well")
    require(drain.seconds == 0 or not record.urgency, "quick means quick")
    delay = 0.0 if record.urgency or record.successor == "serves" else world.settings[record.current].drain_delay
    require(not was_ready or world.now >= record.stop_asked_at + delay - SOON, "the drain delay is served")


def check_dump(world: World, record: Record, number: int) -> None:
    known, process = _living(record, number), world.processes[number]
    require(not known.leaving and not known.killed, "who leaves is not asked for its stacks")
    if process.alive:
        _check_silent(world, known, process)


def check_kill(world: World, record: Record, number: int) -> None:
    known, process = _living(record, number), world.processes[number]
    if known.killed:
        waited = world.now - known.kill_ordered_at
        kill_timeout = world.settings[known.generation].kill_timeout
        require(waited >= kill_timeout - SOON, "a kill is repeated after kill_timeout only")
    elif process.alive and record.urgency < 2 and not process.broken:
        _check_first_kill(world, record, known, process)
    record.note_fault(known, world.now)
    known.kill_ordered_at = world.now


def _check_first_kill(world: World, record: Record, known: KnownWorker, process: Process) -> None:
    """Killing a process that keeps its promises would be our fault."""
    now, settings = world.now, world.settings[known.generation]
    if known.leaving:
        hurried = bool(record.urgency) or known.ready_at == math.inf
        seconds = min(settings.kill_timeout, process.drain_seconds + 1.0) if hurried else process.drain_seconds + 1.0
        in_time = process.drained_at < math.inf and not process.hung and now < known.leaving_since + seconds - 0.1
        require(not in_time, "who drains in time is not killed")
    else:
        _check_silent(world, known, process)
        require(process.dumped_at > -math.inf, "who hangs is asked for its stacks before it is killed")
        require(now >= process.dumped_at + DUMP_TIME - SOON, "who hangs has the time to show where")


def _check_silent(world: World, known: KnownWorker, process: Process) -> None:
    now, settings = world.now, world.settings[known.generation]
    if known.ready_at == math.inf:
        require(now >= known.spawned_at + settings.boot_timeout - SOON, "a boot has its time")
        return
    silent = now - max(process.last_beat(now), known.ready_at)
    patience = min(WEDGED_AFTER, settings.heartbeat_timeout) if process.late else settings.heartbeat_timeout
    require(process.hung and silent >= patience, "who beats is neither suspected nor killed")


def _living(record: Record, number: int) -> KnownWorker:
    known = record.workers.get(number)
    require(known is not None and not known.gone, "no order for a worker that is gone")
    assert known is not None
    return known
