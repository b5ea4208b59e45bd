"""What people ask for: to start, to reload, to have more or fewer workers, to stop."""

from __future__ import annotations

from prefork.policy import events
from prefork.policy.fleet import MOST_WORKERS, Fleet, MoldState, Stop


def note_request(fleet: Fleet, request: events.Request, now: float) -> None:
    match request:
        case events.StartRequested():
            if fleet.current.mold is MoldState.UNPREPARED:
                fleet.current.mold = MoldState.WANTED
        case events.ReloadRequested(origin):
            _note_reload(fleet, origin)
        case events.ScaleRequested(workers, origin):
            _note_scale(fleet, workers, origin)
        case events.ScaleChanged(by, origin):
            _note_scale(fleet, fleet.wanted + by, origin)
        case events.StopRequested(quick, origin):
            _note_stop(fleet, quick, origin, now)


def _note_reload(fleet: Fleet, origin: str) -> None:
    if fleet.stop is not None:
        fleet.report("reload refused", fleet.current.number, f"{origin} asked, but we are stopping")
        return
    if fleet.upgrade is not None:
        fleet.report("reload refused", fleet.current.number, f"{origin} asked, but an upgrade is under way")
        return
    if not fleet.served:
        fleet.report("reload postponed", fleet.current.number, f"{origin} asked, but nothing serves yet")
    fleet.reload_asked = origin


def _note_scale(fleet: Fleet, workers: int, origin: str) -> None:
    generation = fleet.current.number
    if fleet.stop is not None:
        fleet.report("scaling refused", generation, f"{origin} asked for {workers} workers, but we are stopping")
    elif not 1 <= workers <= MOST_WORKERS:
        reason = f"{origin} asked for {workers} workers, and 1 to {MOST_WORKERS} are possible"
        fleet.report("scaling refused", generation, reason)
    else:
        change = "as before" if workers == fleet.wanted else f"instead of {fleet.wanted}"
        fleet.report("scaled", generation, f"{origin} asked for {workers} workers {change}")
        fleet.scale(workers)


def _note_stop(fleet: Fleet, quick: bool, origin: str, now: float) -> None:
    stop, generation = fleet.stop, fleet.current.number
    if stop is None:
        delay = 0.0 if quick else fleet.current.settings.drain_delay
        fleet.stop = Stop(quick, drains_at=now + delay, code=0, reason=f"{origin} asked for it")
        fleet.report("stopping", generation, f"{origin} asked for it" + (", quickly" if quick else ""))
    elif not stop.quick:
        stop.quick, stop.drains_at = True, now
        fleet.report("stop hurried", generation, f"{origin} asked again; nobody is waited for any more")
    elif quick and not stop.killing:
        stop.killing = True
        fleet.report("stop hurried", generation, f"{origin} asked again; whoever is left is killed")
