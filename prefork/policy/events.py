"""What the supervisor can be told: facts about the world, each said once, when it became known.

A worker and a generation are named by the numbers which the supervisor gave them. A fact about a worker or a
generation that is already gone is allowed and ignored: facts travel, and may arrive after the end of their subject.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prefork.policy.fleet import FleetSettings


@dataclass(frozen=True, slots=True)
class StartRequested:
    """The listeners are bound; the first generation may be loaded with the settings of the constructor."""


@dataclass(frozen=True, slots=True)
class ReloadRequested:
    origin: str


@dataclass(frozen=True, slots=True)
class GenerationPrepared:
    """Its settings are read and its listeners bound."""

    generation: int
    settings: FleetSettings


@dataclass(frozen=True, slots=True)
class GenerationFailed:
    """Its settings could not be read or its listeners not be bound."""

    generation: int
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MoldReady:
    generation: int


@dataclass(frozen=True, slots=True)
class MoldFailed:
    """The application could not be loaded; the mold is gone or will be."""

    generation: int
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MoldUnsafe:
    """The application is loaded, but the mold must not be forked from; `findings` says what it found."""

    generation: int
    findings: str


@dataclass(frozen=True, slots=True)
class MoldExited:
    """The mold is gone without having been released; `how` as in "exited with code 1"."""

    generation: int
    how: str


@dataclass(frozen=True, slots=True)
class WorkerReady:
    number: int
    takes_over: bool = False  # connections that other workers hand over


@dataclass(frozen=True, slots=True)
class WorkerStoppedAccepting:
    number: int


@dataclass(frozen=True, slots=True)
class WorkerStuck:
    """Said by a worker: a handler is over its time and does not end, whatever was done to it."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """Said by a worker that cannot boot, before it exits."""

    number: int
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """The process is gone and reaped; `how` as in "killed by SIGKILL". Without `detail` it left in good order."""

    number: int
    how: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WorkerBroke:
    """It wrote nonsense on its channel and cannot be trusted any more."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The ordered worker never lived."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class HeartbeatsRead:
    """When each worker beat last, by the clock of `now`. Sent right before each TimePassed."""

    beats: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OverdueRead:
    """Which workers have a handler that is over its time, and which. Sent right after HeartbeatsRead."""

    handlers: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """What a worker has done and does."""

    served: int = 0  # connections, since it was forked
    busy: float = 0.0  # from 0 to 1: its threads or its interpreter, whichever is scarcer
    rss: int | None = None  # bytes; None where nobody needs or can know it


@dataclass(frozen=True, slots=True)
class LoadRead:
    """The load of each worker. Sent when `Supervisor.load_due` has passed, right before TimePassed."""

    loads: Mapping[int, WorkerLoad] = field(default_factory=dict)
    queued: int = 0  # connections that wait to be accepted


@dataclass(frozen=True, slots=True)
class ScaleRequested:
    workers: int
    origin: str


@dataclass(frozen=True, slots=True)
class ScaleChanged:
    by: int
    origin: str


@dataclass(frozen=True, slots=True)
class RecycleRequested:
    """Replace all workers, or the one of this slot."""

    slot: int | None
    origin: str


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """Serve on, but be announced as not ready until UndrainRequested."""

    origin: str


@dataclass(frozen=True, slots=True)
class UndrainRequested:
    origin: str


@dataclass(frozen=True, slots=True)
class StopRequested:
    quick: bool
    origin: str


@dataclass(frozen=True, slots=True)
class UpgradeRequested:
    origin: str


@dataclass(frozen=True, slots=True)
class SuccessorReady:
    """All workers of the new master serve; `takes_over`: and go on with connections that are handed over."""

    takes_over: bool = False


@dataclass(frozen=True, slots=True)
class SuccessorFailed:
    """The new master could not be started, said that it cannot serve, or ended before it served."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Everything said before now has been heard, so that deadlines can be judged.

    Sent when the supervisor's deadline has passed, after every source has been read and then the heartbeats.
    """


GenerationEvent = GenerationPrepared | GenerationFailed | MoldReady | MoldFailed | MoldUnsafe | MoldExited
WorkerEvent = (
    WorkerReady | WorkerStoppedAccepting | WorkerStuck | WorkerFailed | WorkerExited | WorkerBroke | SpawnFailed
)
ScoreboardEvent = HeartbeatsRead | OverdueRead | LoadRead
Request = (
    StartRequested
    | ReloadRequested
    | ScaleRequested
    | ScaleChanged
    | RecycleRequested
    | DrainRequested
    | UndrainRequested
    | StopRequested
)
UpgradeEvent = UpgradeRequested | SuccessorReady | SuccessorFailed
Event = Request | GenerationEvent | WorkerEvent | ScoreboardEvent | UpgradeEvent | TimePassed
