"""What the service manager should believe, taken from the beliefs of the supervisor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prefork.policy.fleet import Fleet, FleetSettings, WorkerState

State = Literal["starting", "serving", "reloading", "stopping"]

_MARGIN = 5.0  # seconds for what has no deadline of its own: to reap, to close, to leave


@dataclass(frozen=True, slots=True)
class Announcement:
    """`candidate` tells two reloads apart. `patience` is how long the state may last if all keep their promises."""

    state: State
    status: str
    candidate: int | None = None
    patience: float = 0.0


def state_of(fleet: Fleet) -> State:
    if fleet.stop is not None:
        return "stopping"
    if not fleet.complete:
        return "starting"
    return "serving" if fleet.candidate is None else "reloading"


def announce(fleet: Fleet) -> Announcement:
    state = state_of(fleet)
    candidate = fleet.candidate.number if fleet.candidate is not None and state == "reloading" else None
    return Announcement(state, _status(fleet, state), candidate, _patience(fleet, state))


def _status(fleet: Fleet, state: State) -> str:
    serving = f"{min(len(fleet.of(WorkerState.SERVING)), fleet.wanted)} of {fleet.wanted} workers"
    drained = ", drained (not ready)" if fleet.draining else ""
    match state:
        case "starting":
            return f"starting: {serving}"
        case "reloading":
            successor = fleet.candidate.number if fleet.candidate is not None else 0
            return f"reloading: {serving}, generation {successor} replaces {fleet.current.number}{drained}"
        case "stopping":
            return f"stopping: {len(fleet.workers)} workers left"
    outcome = fleet.last_reload
    failure = "" if outcome is None or outcome.succeeded else f"; the last reload failed: {_first_line(outcome.reason)}"
    return f"serving: {serving}, generation {fleet.current.number}{drained}{failure}"


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _patience(fleet: Fleet, state: State) -> float:
    settings = fleet.current.settings if fleet.candidate is None else fleet.candidate.settings
    match state:
        case "starting":  # the mold, perhaps a second one that does not preload, and the workers at the same time
            return 3 * settings.boot_timeout + _MARGIN
        case "reloading":
            return _patience_with_reload(fleet, settings)
        case "stopping":
            return settings.drain_delay + settings.drain_timeout + 2 * settings.kill_timeout + _MARGIN
    return 0.0


def _patience_with_reload(fleet: Fleet, settings: FleetSettings) -> float:
    one_by_one = max(fleet.wanted, settings.workers) / settings.surge + 1
    return (3 + one_by_one) * settings.boot_timeout + settings.canary_time + _MARGIN
