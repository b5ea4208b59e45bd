"""What is heard about generations and workers, turned into beliefs. Nothing is decided here.

Whatever concerns a generation or a worker that is already gone, or contradicts what is known, changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from prefork.policy import events
from prefork.policy.actions import duration
from prefork.policy.blame import blame_generation, count_loss, lose_worker, note_failed_attempt
from prefork.policy.fleet import LOAD_INTERVAL, Failure, Fleet, Generation, MoldState, Worker, WorkerState

WEDGED_AFTER = 2.0  # without a beat, while a handler is over its time


def note_generation(fleet: Fleet, event: events.GenerationEvent, now: float) -> None:
    generation = next((each for each in fleet.rising() if each.number == event.generation), None)
    if generation is None:
        return
    match event:
        case events.GenerationPrepared(_, settings) if generation.mold is MoldState.UNPREPARED:
            generation.settings = settings
            generation.preload = settings.preload
            generation.mold = MoldState.WANTED
        case events.GenerationFailed(_, reason, detail) | events.MoldFailed(_, reason, detail):
            _note_no_mold(fleet, generation, Failure(reason, detail), now)
        case events.MoldReady() if generation.mold is MoldState.LOADING:
            generation.mold = MoldState.READY
            generation.mold_ready_at = now
        case events.MoldUnsafe(_, findings) if generation.mold is MoldState.LOADING and generation.preload == "auto":
            fleet.report("preloading unsafe", generation.number, "each worker loads the application itself", findings)
            generation.preload = "never"
            generation.mold = MoldState.WANTED
        case events.MoldExited(_, how):
            _note_no_mold(fleet, generation, Failure(f"the mold of generation {generation.number} is gone: {how}"), now)


def _note_no_mold(fleet: Fleet, generation: Generation, failure: Failure, now: float) -> None:
    if generation.mold is MoldState.GONE:
        return
    if generation is fleet.current and generation.mold is MoldState.READY:
        fleet.renewal.ended(now - generation.mold_ready_at, now)
        generation.failure = failure
    generation.mold = MoldState.GONE
    blame_generation(fleet, generation.number, failure, now)


def note_scoreboard(fleet: Fleet, event: events.ScoreboardEvent, now: float) -> None:
    match event:
        case events.HeartbeatsRead(beats):
            _note_beats(fleet, beats, now)
        case events.OverdueRead(handlers):
            _note_overdue(fleet, handlers, now)
        case events.LoadRead():
            _note_load(fleet, event, now)


def _note_load(fleet: Fleet, event: events.LoadRead, now: float) -> None:
    serving = {worker.number for worker in fleet.serving()}
    busy = [load.busy for number, load in event.loads.items() if number in serving]
    demand = fleet.demand
    demand.judged = False
    demand.busy = sum(busy) / len(busy) if busy else 0.0
    demand.queued_before, demand.queued = demand.queued, event.queued
    fleet.load_due = now + LOAD_INTERVAL if fleet.current.settings.needs_load else math.inf
    for worker in fleet.workers.values():
        if (load := event.loads.get(worker.number)) is not None:
            most = fleet.generations[worker.generation].settings.max_rss
            worker.served = load.served
            worker.readings_over_rss = worker.readings_over_rss + 1 if 0 < most < (load.rss or 0) else 0


def note_worker(fleet: Fleet, event: events.WorkerEvent, now: float) -> None:
    worker = fleet.workers.get(event.number)
    if worker is None:
        return
    match event:
        case events.WorkerReady(_, takes_over):
            worker.takes_over = takes_over
            _note_ready(fleet, worker, now)
        case events.WorkerStoppedAccepting():
            _note_stopped_accepting(fleet, worker, now)
        case events.WorkerFailed(_, reason, detail):
            _note_complaint(fleet, worker, Failure(reason, detail), now)
        case events.WorkerBroke(_, reason):
            worker.broken = worker.broken or reason
        case events.WorkerStuck(_, reason):
            _note_stuck(fleet, worker, reason, now)
        case events.WorkerExited(_, how, detail):
            del fleet.workers[worker.number]
            _note_exit(fleet, worker, Failure(how, detail), now)
        case events.SpawnFailed(_, reason):
            del fleet.workers[worker.number]
            note_failed_attempt(fleet, worker, reason, now)


def _note_ready(fleet: Fleet, worker: Worker, now: float) -> None:
    if worker.ready_at is not None:
        return
    worker.ready_at = now
    fleet.served = True
    if worker.state is WorkerState.STARTING:
        worker.state, worker.dumped = WorkerState.SERVING, False
        worker.deadline = now + fleet.generations[worker.generation].settings.heartbeat_timeout
    elif worker.state is WorkerState.DRAINING:
        worker.deadline = max(worker.deadline, now + worker.patience())


def _note_stopped_accepting(fleet: Fleet, worker: Worker, now: float) -> None:
    if worker.stopped_accepting:
        return
    if worker.state in (WorkerState.STARTING, WorkerState.SERVING):
        # Somebody sent it a TERM, or its service ended. It drains as if we had told it to.
        lose_worker(fleet, worker, "stopped accepting", Failure("stopped accepting"), now)
        fleet.report("worker leaving", worker.generation, "nobody told it to drain", number=worker.number)
        worker.state = WorkerState.DRAINING
        worker.drain_seconds = fleet.generations[worker.generation].settings.drain_timeout
        worker.deadline = now + worker.patience()
    elif worker.booting:
        worker.deadline = max(worker.deadline, now + worker.patience())
    worker.stopped_accepting = True


def _note_complaint(fleet: Fleet, worker: Worker, complaint: Failure, now: float) -> None:
    if worker.state is WorkerState.STARTING and worker.complaint is None:
        worker.complaint = complaint
        blame_generation(fleet, worker.generation, complaint, now)


def _note_stuck(fleet: Fleet, worker: Worker, reason: str, now: float) -> None:
    """It has served well until then and serves on with its other threads; only a canary has failed with that."""
    if worker.state is not WorkerState.SERVING or worker.stuck:
        return
    worker.stuck = reason
    fleet.replaced["stuck handler"] += 1
    fleet.report("worker stuck", worker.generation, f"{reason}; it is replaced and drains", number=worker.number)
    if fleet.on_trial is not None and fleet.on_trial.number == worker.generation:
        blame_generation(fleet, worker.generation, Failure(f"its canary: {reason}"), now)


def _note_exit(fleet: Fleet, worker: Worker, end: Failure, now: float) -> None:
    when = "before it was ready" if worker.ready_at is None else f"after serving {duration(worker.served_for(now))}"
    if worker.state not in (WorkerState.STARTING, WorkerState.SERVING):
        if end.detail:
            if worker.state is WorkerState.DRAINING:  # one that we have killed was counted then, if that was its fault
                count_loss(fleet, worker, end.reason)
            fleet.report("worker gone", worker.generation, f"{end.reason} {when}", end.detail, worker.number)
        return
    failure = worker.complaint or Failure(f"{end.reason} {when}", end.detail)
    delay = lose_worker(fleet, worker, "cannot start" if worker.complaint else end.reason, failure, now)
    rest = f"stays empty for {duration(delay)}" if delay and fleet.will_replace(worker) else "is empty"
    reason = f"{failure.reason}; its slot {worker.slot} {rest}"
    fleet.report("worker lost", worker.generation, reason, failure.detail, worker.number)


def _note_beats(fleet: Fleet, beats: Mapping[int, float], now: float) -> None:
    fleet.beats_read_at = now
    for worker in fleet.workers.values():
        beat = beats.get(worker.number)
        # Beats lie in memory that the application can reach: one from the future would make its worker immortal.
        if beat is None or not (worker.last_beat or -math.inf) < beat <= now + 1.0:
            continue
        worker.last_beat = beat
        if worker.state is WorkerState.SERVING:
            worker.dumped, worker.wedged = False, ""
            timeout = fleet.generations[worker.generation].settings.heartbeat_timeout
            worker.deadline = max(worker.deadline, beat + timeout)


def _note_overdue(fleet: Fleet, handlers: Mapping[int, str], now: float) -> None:
    """One that beats deals with its handlers itself."""
    for worker in fleet.of(WorkerState.SERVING):
        silent_since = max(worker.last_beat or -math.inf, worker.ready_at or -math.inf)
        if worker.number in handlers and not worker.dumped and now - silent_since >= WEDGED_AFTER:
            worker.wedged = f"{handlers[worker.number]}, and its interpreter is held (handler_timeout)"
            worker.deadline = min(worker.deadline, now)
