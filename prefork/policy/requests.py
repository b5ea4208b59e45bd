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
        case events.RecycleRequested(slot, origin):
            _note_recycle(fleet, slot, origin)
        case events.DrainRequested(origin):
            fleet.draining = True
            fleet.report("drain announced", fleet.current.number, f"{origin} asked for it; everybody serves on")
        case events.UndrainRequested(origin):
            fleet.draining = False
            fleet.report("drain ended", fleet.current.number, f"{origin} asked for it")
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
        fleet.report("scaled", generation, f"{origin} asked for {workers} workers {change}{_held(fleet, workers)}")
        fleet.scale(workers)
        fleet.demand.forget()


def _held(fleet: Fleet, workers: int) -> str:
    """An operator may leave the bounds of the adaptive number, which then does not change by itself any more."""
    settings = fleet.current.settings
    if not settings.adaptive or settings.least_workers <= workers <= settings.most_workers:
        return ""
    return f"; this is held, being outside of {settings.least_workers} to {settings.most_workers}"


def _note_recycle(fleet: Fleet, slot: int | None, origin: str) -> None:
    generation = fleet.current.number
    newest = None if fleet.candidate is None else fleet.candidate.number
    chosen = [each for each in fleet.serving() if slot in (None, each.slot) and each.generation != newest]
    if fleet.stop is not None:
        fleet.report("recycle refused", generation, f"{origin} asked, but we are stopping")
    elif not fleet.complete or not chosen:
        where = "" if slot is None else f" in slot {slot}"
        fleet.report("recycle refused", generation, f"{origin} asked, but no worker that could be serves{where}")
    for worker in chosen if fleet.complete and fleet.stop is None else ():
        fleet.recycle_ordered.add(worker.number)
        if not worker.worn:
            worker.worn = f"{origin} asked for it"
            fleet.replaced["order"] += 1
            fleet.report("recycling worker", worker.generation, worker.worn, number=worker.number)


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
