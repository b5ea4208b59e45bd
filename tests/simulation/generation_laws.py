"""What must hold when a generation is prepared, tried, completed, given up or released, and when all ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork.policy.actions import Exit, PrepareGeneration, ReleaseGeneration, Report, StartMold
from tests.simulation import load_laws
from tests.simulation.record import KnownGeneration, Record, require

if TYPE_CHECKING:
    from tests.simulation.world import World


def check_prepare(record: Record, order: PrepareGeneration) -> None:
    require(order.generation > max(record.generations), "a generation's number is never used twice")
    require(not record.stopping, "nothing is started while we stop")
    require(not record.successor, "no reload begins while a successor is waited for")
    undecided = [each for each in record.generations.values() if each.outcome == ""]
    require(not undecided, "one reload at a time")
    record.generations[order.generation] = KnownGeneration()


def check_start_mold(record: Record, order: StartMold) -> None:
    generation = record.generations.get(order.generation)
    require(generation is not None and not generation.released, "no order for an unknown or released generation")
    require(not record.stopping, "nothing is started while we stop")


def check_release(record: Record, order: ReleaseGeneration) -> None:
    generation = record.generations.get(order.generation)
    require(generation is not None and not generation.released, "a generation is released once")
    assert generation is not None
    generation.released, generation.mold_ready = True, False
    living = [each for each in record.workers.values() if each.generation == order.generation and not each.gone]
    require(not living, "a generation is released when none of its workers is left")
    if not record.stopping:
        undecided = order.generation == record.current or generation.outcome == ""
        require(not undecided, "what serves or is rolled out is not released")


def check_report(world: World, record: Record, report: Report) -> None:
    match report.subject:
        case "trial passed":
            _check_trial(world, record, report)
        case "reload complete" | "reload failed" | "reload superseded":
            generation = record.generations[report.generation]
            require(generation.outcome == "", "a reload has one outcome")
            generation.outcome = report.subject
            if report.subject == "reload complete":
                _check_complete(world, record, report.generation)
        case "scaled":
            load_laws.check_scaling(world, record)
            record.scaled_at, record.calm_readings = world.now, 0
        case "recycling worker":
            load_laws.check_wear(world, record, report)
        case "recycle complete" | "recycle refused":
            load_laws.check_recycled(world, record, report)
        case "start failed":
            require(not record.somebody_was_ready, "a start that served cannot fail any more")
            record.start_failed, record.urgency = True, 1
        case "ready":
            require(record.ready_workers() >= world.supervisor.wanted, "ready means that all are ready")


def _check_trial(world: World, record: Record, report: Report) -> None:
    assert report.number is not None
    known, process = record.workers[report.number], world.processes[report.number]
    trial = world.settings[report.generation].canary_time
    beat = process.last_beat(world.now)
    require(trial == 0 or beat >= known.ready_at + trial, "a canary beats until the end of its trial")
    require(known.ready and known.generation == report.generation, "a canary that passes serves")
    record.generations[report.generation].passed = True


def _check_complete(world: World, record: Record, number: int) -> None:
    generation = record.generations[number]
    require(
        generation.passed and not generation.doomed, "no reload completes without a trial, or in spite of a failure"
    )
    accepting = [each for each in world.processes.values() if each.accepting and each.generation != number]
    require(not accepting, "a reload is complete when no worker of another generation accepts")
    ready = sum(each.ready and each.generation == number for each in record.workers.values())
    # With the reload the number that its settings want comes into force.
    wanted = min(record.wanted, world.supervisor.wanted)
    require(ready >= wanted, "a reload is complete when all its workers are ready")
    record.current = number


def check_exit(record: Record, order: Exit) -> None:
    require(all(each.gone for each in record.workers.values()), "Exit comes when nobody is left")
    require(all(each.released for each in record.generations.values()), "everything is released before Exit")
    require(all(each.outcome for each in record.generations.values()), "whoever asked for a reload learns its outcome")
    require(order.code == (3 if record.start_failed else 0), "the exit code says what happened")
    require(record.stopping, "we end when asked to, or when the start failed")
