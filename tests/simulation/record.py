"""What was said and ordered so far, kept apart from the supervisor: nothing is believed only because it believes it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from prefork.policy import events


@dataclass(slots=True)
class KnownWorker:
    slot: int
    generation: int
    spawned_at: float
    ready_at: float = math.inf
    gone: bool = False
    stuck: bool = False
    leaving_since: float = math.inf  # when it was told to drain, or said to have stopped accepting
    kill_ordered_at: float = -math.inf
    worn: bool = False  # it shall be replaced, as the supervisor reported
    ordered: bool = False  # by an operator
    load: events.WorkerLoad = field(default_factory=events.WorkerLoad)

    @property
    def leaving(self) -> bool:
        return self.leaving_since < math.inf

    @property
    def killed(self) -> bool:
        return self.kill_ordered_at > -math.inf

    @property
    def present(self) -> bool:
        return not (self.gone or self.leaving or self.killed)

    @property
    def ready(self) -> bool:
        return self.ready_at < math.inf and self.present


@dataclass(slots=True)
class KnownGeneration:
    mold_ready: bool = False
    passed: bool = False
    outcome: str = ""
    released: bool = False
    doomed: bool = False  # something happened that a candidate does not survive
    failed_starts: dict[int, list[float]] = field(default_factory=dict)  # by slot, since one of it served

    @property
    def on_trial(self) -> bool:
        return not self.passed and self.outcome == ""


class Violation(AssertionError):
    """A law does not hold."""


def require(holds: bool, law: str) -> None:
    if not holds:
        raise Violation(law)


class Record:
    def __init__(self) -> None:
        self.workers: dict[int, KnownWorker] = {}
        self.generations = {1: KnownGeneration(passed=True, outcome="started")}
        self.current = 1
        self.wanted = 0
        self.somebody_was_ready = False
        self.start_failed = False
        self.stop_asked_at = math.inf
        self.urgency = 0  # of the stop: 1 is quick, 2 is at once
        self.successor = ""  # then "starting"; and "serves" when it has said so, or "" again when it is given up
        self.scaled_at = -math.inf  # to ask for another number ends the waits
        self.hearing: events.Event | None = None
        self.recycle_asked = False
        self.drained = False
        self.early_wear: list[float] = []  # when workers were worn soon after they were ready, since one was later
        self.calm_readings = 0  # in a row, since the number last changed
        self.queues = [0, 0]  # at the last two readings of the load

    @property
    def stopping(self) -> bool:
        return self.stop_asked_at < math.inf or self.start_failed

    def hear(self, event: events.Event, now: float) -> None:
        self.hearing = event
        match event:
            case events.LoadRead():
                self._hear_load(event)
            case events.RecycleRequested():
                self.recycle_asked = True
            case events.DrainRequested() | events.UndrainRequested():
                self.drained = isinstance(event, events.DrainRequested)
            case (
                events.WorkerReady()
                | events.WorkerStoppedAccepting()
                | events.WorkerStuck()
                | events.WorkerExited()
                | events.SpawnFailed()
            ):
                self._hear_worker(event, now)
            case events.MoldReady(number) | events.MoldExited(number) | events.MoldFailed(number):
                self._hear_mold(event, self.generations.get(number))
            case events.ScaleRequested() | events.ScaleChanged():
                self._hear_scaling(event, now)
            case events.SuccessorReady() if self.successor == "starting" and not self.stopping:
                self.successor = "serves"
                self.stop_asked_at = now
            case events.StopRequested(quick):
                self.urgency += quick or (self.stopping and self.urgency == 0)
                self.stop_asked_at = min(self.stop_asked_at, now)

    def _hear_mold(self, event: events.GenerationEvent, generation: KnownGeneration | None) -> None:
        if generation is None:
            return
        if isinstance(event, events.MoldReady):
            generation.mold_ready = not generation.released
        else:
            generation.mold_ready, generation.doomed = False, True

    def _hear_load(self, reading: events.LoadRead) -> None:
        self.queues = [self.queues[-1], reading.queued]
        serving = [
            reading.loads[number].busy
            for number, each in self.workers.items()
            if each.ready and number in reading.loads
        ]
        calm = sum(serving) < 0.25 * len(serving) or not serving
        self.calm_readings = self.calm_readings + 1 if calm and not reading.queued else 0
        for number, load in reading.loads.items():
            if number in self.workers:
                self.workers[number].load = load

    def _hear_scaling(self, request: events.ScaleRequested | events.ScaleChanged, now: float) -> None:
        workers = request.workers if isinstance(request, events.ScaleRequested) else self.wanted + request.by
        self.scaled_at = now
        self.wanted = workers if workers > 0 else self.wanted

    def _hear_worker(self, event: events.WorkerEvent, now: float) -> None:
        known = self.workers.get(event.number)
        if known is None or known.gone:
            return
        match event:
            case events.WorkerReady():
                known.ready_at = min(known.ready_at, now)
                self.somebody_was_ready = True
            case events.WorkerStuck():
                self._hear_stuck(known)
            case events.WorkerStoppedAccepting():
                self.note_fault(known, now)
                known.leaving_since = min(known.leaving_since, now)
            case events.WorkerExited():
                self.note_fault(known, now)
                known.gone = True
            case events.SpawnFailed():
                doomed = self.generations[known.generation].doomed
                self.note_fault(known, now)
                # That a fork fails dooms nobody but a canary.
                self.generations[known.generation].doomed = doomed or self.generations[known.generation].on_trial
                known.gone = True

    def _hear_stuck(self, known: KnownWorker) -> None:
        known.stuck = True
        self.generations[known.generation].doomed |= known.ready and self.generations[known.generation].on_trial

    def note_fault(self, known: KnownWorker, now: float) -> None:
        """Note that a worker that should be there is not any more, or must not be."""
        generation = self.generations[known.generation]
        failed_start = not now - known.ready_at >= 1.0
        if known.present and failed_start:
            generation.failed_starts.setdefault(known.slot, []).append(now)
        elif known.present:
            generation.failed_starts.pop(known.slot, None)
        generation.doomed |= known.present and (failed_start or generation.on_trial)

    def ready_workers(self) -> int:
        """How many are ready, without the canary."""
        return sum(each.ready and not self.generations[each.generation].on_trial for each in self.workers.values())
