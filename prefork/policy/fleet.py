"""What the supervisor believes: the generations with their molds, the workers, and what was asked for.

Three generations matter: the *current* one serves, the *candidate* is being rolled out, and the *target* is the one of
these two that the fleet shall consist of: the current one until a canary of the candidate has passed its trial, then
the candidate. All others are superseded: they spawn nothing and are released when their last worker is gone. Numbers
of workers and generations are never used twice. Only the notes and the rules change what stands here.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prefork.policy.actions import Action, Preload, Report, Subject
from prefork.policy.backoff import LONGEST, Backoff

SLOTS = 1024
MOST_WORKERS = SLOTS - 1  # a fleet without a free slot could never be rolled over
PROVEN_AFTER = 1.0  # a worker that served so long has started well
LOAD_INTERVAL = 2.0  # between two readings of the load, if a setting needs them
DRAIN_GRACE = 2.0  # a worker ends its connections by itself after its drain time, and then needs a moment to leave


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """The part of the settings that decisions depend on; durations in seconds."""

    workers: int
    surge: int = 1
    boot_timeout: float = 60.0
    heartbeat_timeout: float = 30.0
    handler_timeout: float = 0.0
    drain_delay: float = 0.0
    drain_timeout: float = 30.0
    kill_timeout: float = 5.0
    canary_time: float = 1.0
    preload: Preload = "auto"
    max_requests: int = 0  # this and the next three: 0 is never
    max_requests_jitter: int = 0
    max_rss: int = 0  # bytes
    max_age: float = 0.0
    min_workers: int = 0  # both bounds: 0 is the number of workers
    max_workers: int = 0

    @property
    def least_workers(self) -> int:
        return self.min_workers or self.workers

    @property
    def most_workers(self) -> int:
        return self.max_workers or self.workers

    @property
    def adaptive(self) -> bool:
        return self.least_workers < self.most_workers

    @property
    def needs_load(self) -> bool:
        return self.adaptive or self.max_requests > 0 or self.max_rss > 0


class WorkerState(enum.StrEnum):
    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    KILLED = "killed"


class MoldState(enum.Enum):
    UNPREPARED = enum.auto()  # its settings and listeners are awaited
    WANTED = enum.auto()
    LOADING = enum.auto()
    READY = enum.auto()
    GONE = enum.auto()


@dataclass(frozen=True, slots=True)
class Failure:
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ReloadOutcome:
    generation: int
    succeeded: bool
    reason: str
    detail: str
    at: float


@dataclass(slots=True)
class Worker:
    """One worker as the supervisor believes it to be."""

    number: int
    slot: int
    generation: int
    spawned_at: float
    deadline: float  # passing it means that the promise of the state was broken
    state: WorkerState = WorkerState.STARTING
    ready_at: float | None = None
    takes_over: bool = False  # connections that another worker hands over, and hands over its own
    hands_over: bool = False  # it has been told to
    last_beat: float | None = None
    stopped_accepting: bool = False
    drain_seconds: float = math.inf
    most_requests: int = 0  # 0: no limit
    served: int = 0  # connections, when the load was read
    readings_over_rss: int = 0  # in a row
    worn: str = ""  # why it shall be replaced; it serves on until its replacement is ready
    complaint: Failure | None = None  # what it said before it exits
    broken: str = ""  # why it cannot be trusted any more
    stuck: str = ""  # which of its handlers does not end: it serves on until somebody else does in its place
    wedged: str = ""  # which handler is over its time while it does not beat: so nobody in it can deal with that
    lost: bool = False  # it has been counted among the losses
    dumped: bool = False  # it has written its stacks, and is killed at its deadline

    @property
    def accepting(self) -> bool:
        return self.ready_at is not None and not self.stopped_accepting

    @property
    def booting(self) -> bool:
        """Whether it has not been heard of since it was spawned, whatever it has been told meanwhile."""
        return self.ready_at is None and not self.stopped_accepting and self.state is not WorkerState.KILLED

    def patience(self) -> float:
        """How long it may live after it has read the order to drain; it ends its connections by itself before."""
        return self.drain_seconds + DRAIN_GRACE

    def served_for(self, now: float) -> float:
        return 0.0 if self.ready_at is None else now - self.ready_at


@dataclass(slots=True)
class Generation:
    number: int
    settings: FleetSettings
    preload: Preload
    mold: MoldState = MoldState.UNPREPARED
    deadline: float = math.inf  # of being prepared and of loading
    mold_ready_at: float = math.inf
    passed: bool = False  # a canary of it has passed the trial
    failure: Failure | None = None  # why it cannot become or stay what it should be
    backoffs: dict[int, Backoff] = field(default_factory=dict)  # by slot

    def backoff(self, slot: int) -> Backoff:
        return self.backoffs.setdefault(slot, Backoff(proven_after=PROVEN_AFTER))

    def waiting(self, now: float) -> dict[int, float]:
        """The slots whose back-off is not over, with its end."""
        return {slot: backoff.not_before for slot, backoff in self.backoffs.items() if backoff.not_before > now}


@dataclass(slots=True)
class Stop:
    """We are stopping. Without `quick`, the drain begins at `drains_at`; `killing` means at once.

    `hand_over`: the workers of a successor go on with connections that can move.
    """

    quick: bool
    drains_at: float
    code: int
    reason: str
    detail: str = ""
    killing: bool = False
    hand_over: bool = False


@dataclass(slots=True)
class Upgrade:
    """A new master is to take over. Passing the deadline means that it never served."""

    origin: str
    started: bool = False
    deadline: float = math.inf
    failure: Failure | None = None


@dataclass(slots=True)
class Demand:
    """How much there is to do, by the readings of the load since the number of workers last changed."""

    judged: bool = True  # the newest reading has been decided about
    busy: float = 0.0  # the average of the serving workers
    queued: int = 0
    queued_before: int = 0
    calm_readings: int = 0  # in a row
    readings_since_removal: int = 1 << 30
    patience: int = 0  # calm readings before the next removal, if more than usual

    def forget(self) -> None:
        """Begin anew: what was read does not go together with what will be read next."""
        self.judged, self.queued, self.queued_before, self.calm_readings = True, 0, 0, 0


REPLACED_FOR = ("max_requests", "max_rss", "max_age", "order", "stuck handler")
"""Why a worker that serves is replaced: an option, an operator, a handler that does not end."""


class Fleet:
    """All beliefs, and the questions that several rules ask about them. `chance` returns numbers from 0 to 1."""

    def __init__(self, settings: FleetSettings, chance: Callable[[], float]) -> None:
        self.current = Generation(1, settings, settings.preload)
        self.candidate: Generation | None = None
        self.generations = {1: self.current}
        self.workers: dict[int, Worker] = {}
        self.wanted = min(settings.workers, MOST_WORKERS)
        self.served = False  # some worker has been ready: the start cannot fail any more
        self.complete = False  # all the first workers have been ready together
        self.short = False  # reported, and not yet reported as over
        self.reload_asked: str | None = None
        self.recycle_ordered: set[int] = set()  # workers whose replacement an operator waits for
        self.draining = False  # announced as not ready
        self.demand = Demand()
        self.load_due = math.inf
        self.stop: Stop | None = None
        self.upgrade: Upgrade | None = None
        self.exited = False
        self.beats_read_at = -math.inf
        self.heard_until = -math.inf  # all that was said until then has been heard, so silence can be judged
        self.last_reload: ReloadOutcome | None = None
        self.losses: dict[str, int] = {}  # workers that ended, or had to be ended, by their own fault; by cause
        self.waited = 0.0  # seconds for which slots have stayed empty for a back-off, all slots together
        self.replaced = dict.fromkeys(REPLACED_FOR, 0)  # workers that were marked to be replaced; by cause
        self.news: list[Report] = []
        self.renewal = Backoff(proven_after=LONGEST)  # of a current mold that is gone
        self.recycling = Backoff(proven_after=2 * LONGEST)  # of workers that wear out soon after they were ready
        self._chance = chance
        self._last_number = 0
        self._last_generation = 1

    def report(
        self, subject: Subject, generation: int, reason: str, detail: str = "", number: int | None = None
    ) -> None:
        """Have it reported before anything else is ordered."""
        self.news.append(Report(subject, generation, reason, detail, number))

    @property
    def target(self) -> Generation:
        return self.candidate if self.candidate is not None and self.candidate.passed else self.current

    @property
    def on_trial(self) -> Generation | None:
        return self.candidate if self.candidate is not None and not self.candidate.passed else None

    def will_replace(self, worker: Worker) -> bool:
        """Whether its generation goes on spawning."""
        target = self.target
        return self.stop is None and target.number == worker.generation and target.failure is None

    def rising(self) -> list[Generation]:
        return [self.current] if self.candidate is None else [self.current, self.candidate]

    def of(self, *states: WorkerState) -> list[Worker]:
        return [worker for worker in self.workers.values() if worker.state in states]

    def serving(self) -> list[Worker]:
        """The serving workers that one can rely on: all but the canary."""
        on_trial = self.on_trial
        return [
            worker
            for worker in self.of(WorkerState.SERVING)
            if on_trial is None or worker.generation != on_trial.number
        ]

    def staff(self) -> list[Worker]:
        """The workers, starting or serving, that count towards the wanted number."""
        alive = [worker for worker in self.of(WorkerState.STARTING, WorkerState.SERVING) if not worker.stuck]
        if self.on_trial is not None:
            # Nobody is replaced by another generation before the trial has ended, or a reload that follows another
            # one at once would roll the fleet back only to roll it forward again.
            return [worker for worker in alive if worker.generation != self.on_trial.number]
        return [worker for worker in alive if worker.generation == self.target.number and not self.retiring(worker)]

    def retiring(self, worker: Worker) -> bool:
        """Whether its replacement is due. During a rollout nobody is recycled: that replaces everybody anyway."""
        return bool(worker.worn) and self.candidate is None

    def has_heir(self, leaving: Worker) -> bool:
        """Whether another worker, which is to stay, goes on with connections that this one hands over."""
        if not leaving.takes_over:
            return False
        if self.stop is not None:
            return self.stop.hand_over
        return any(
            worker.takes_over and worker.generation == self.target.number and not worker.worn and not worker.stuck
            for worker in self.of(WorkerState.SERVING)
            if worker is not leaving
        )

    def room(self) -> int:
        """How many may be spawned without exceeding the surge. One drained while it boots still takes its place."""
        present = sum(worker.booting or worker.state is WorkerState.SERVING for worker in self.workers.values())
        return self.wanted + self.target.settings.surge - present

    def free_slots(self) -> Iterator[int]:
        taken = {worker.slot for worker in self.workers.values()}
        return (slot for slot in range(SLOTS) if slot not in taken)

    def waited_between(self, before: float, now: float) -> float:
        """Return for how long back-offs kept slots empty, all slots together, if nothing happened meanwhile."""
        if self.stop is not None:
            return 0.0
        return sum(min(until, now) - before for until in self.target.waiting(before).values())

    def scale(self, workers: int) -> None:
        if workers < self.wanted:
            # Else the wait for a place that is not wanted any more would delay another one's replacement.
            for backoff in self.target.backoffs.values():
                backoff.not_before = -math.inf
        self.wanted = workers

    def read_load_from(self, now: float) -> None:
        """Have the load read at intervals, if the current settings need it."""
        self.demand.forget()
        self.load_due = now + LOAD_INTERVAL if self.current.settings.needs_load else math.inf

    def new_generation(self, now: float) -> Generation:
        self._last_generation += 1
        settings = self.current.settings  # until its own are read
        deadline = now + settings.boot_timeout
        generation = Generation(self._last_generation, settings, settings.preload, deadline=deadline)
        self.generations[generation.number] = generation
        return generation

    def new_worker(self, slot: int, generation: Generation, now: float) -> Worker:
        self._last_number += 1
        deadline = now + generation.settings.boot_timeout
        worker = Worker(self._last_number, slot, generation.number, now, deadline)
        if generation.settings.max_requests:
            jitter = int(self._chance() * (generation.settings.max_requests_jitter + 1))
            worker.most_requests = generation.settings.max_requests + jitter
        self.workers[worker.number] = worker
        return worker


def tell_news(fleet: Fleet, now: float) -> Iterator[Action]:
    news, fleet.news = fleet.news, []
    yield from news
