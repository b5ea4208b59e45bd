"""What the supervisor can order. Every action says why; the shell performs it and logs the reason.

A reason is the "why" of a log line, `what: why`, and stands alone: "killed by SIGKILL after 12.3 s; its slot is empty".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Preload = Literal["auto", "always", "never"]

Subject = Literal[
    "ready",  # generation 1 serves with all its workers
    "preloading unsafe",  # the mold starts again without the application; detail names what was found
    "reload complete",  # no worker of another generation accepts
    "reload failed",  # the candidate is given up; the serving generation has lost nothing
    "reload superseded",  # a newer request restarts the rollout with a newer generation
    "reload postponed",  # until the first generation serves
    "reload refused",  # we are stopping
    "trial passed",  # the canary beat until the end of its trial; the others follow
    "scaled",  # the wanted number of workers is another now
    "scaling refused",
    "recycling worker",  # it serves on until its replacement is ready
    "recycle complete",  # everybody whom an operator wanted replaced has stopped accepting
    "recycle refused",
    "drain announced",  # not ready until "drain ended", though everybody serves
    "drain ended",
    "start failed",  # the first generation never served; Exit follows when nobody is left
    "stopping",
    "stop hurried",
    "worker lost",  # it ended without having been asked to
    "worker gone",  # it was killed, or died while it drained; detail says what it took with it
    "worker stuck",  # a handler of it does not end; it drains once somebody else serves in its place
    "worker leaving",  # it stopped accepting without having been asked to, and drains
    "short of workers",  # fewer than wanted, and the next attempt waits
    "enough workers",  # no longer short
    "worker survived kill",  # it did not go within kill_timeout and is killed again
    "upgrade complete",  # the successor serves; a stop follows
    "upgrade failed",  # the successor is given up; nothing has changed
    "upgrade refused",
    "deadlines moved",  # the master itself was stopped or starved
]


@dataclass(frozen=True, slots=True)
class PrepareGeneration:
    """Re-read the settings, bind new listeners. Answered by GenerationPrepared or GenerationFailed."""

    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class StartMold:
    """Answered by MoldReady, MoldFailed, MoldExited or, with "auto", MoldUnsafe. Replaces an unsafe mold."""

    generation: int
    preload: Preload
    reason: str


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork a worker from the mold of its generation. Answered by WorkerReady, WorkerExited or SpawnFailed.

    It says that it is ready at once, but has to stay alive for `accept_after` seconds before it accepts.
    """

    number: int
    slot: int
    generation: int
    reason: str
    accept_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Drain:
    """Tell it to stop accepting and to leave when its connections are done, at the latest after `seconds`.

    `final`: no other worker will accept from these listeners, so what waits in their queues is served first.
    `hand_over`: another worker takes over connections that can move.
    """

    number: int
    seconds: float
    final: bool
    reason: str
    hand_over: bool = False


@dataclass(frozen=True, slots=True)
class Dump:
    """Make it write the stacks of all its threads, without its help; it is killed soon."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Kill:
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class ReleaseGeneration:
    """End its mold and close what only this generation used. No worker of it is alive, none will be."""

    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class StartSuccessor:
    """Start a new master that takes over the listeners. Answered by SuccessorReady or SuccessorFailed."""

    reason: str


@dataclass(frozen=True, slots=True)
class EndSuccessor:
    """Kill the new master if it is still there: it is given up."""

    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    subject: Subject
    generation: int
    reason: str
    detail: str = ""
    number: int | None = None  # the worker it is about


@dataclass(frozen=True, slots=True)
class Exit:
    """The last action ever ordered: no worker is alive."""

    code: int
    reason: str
    detail: str = ""


WorkerAction = Spawn | Drain | Dump | Kill
Action = (
    PrepareGeneration
    | StartMold
    | Spawn
    | Drain
    | Dump
    | Kill
    | ReleaseGeneration
    | StartSuccessor
    | EndSuccessor
    | Report
    | Exit
)


def duration(seconds: float) -> str:
    """Say a duration as a person would read it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
