"""An upgrade: a new master takes the listeners over, and when it serves we stop; or it fails and nothing changes.

Until the successor says that it serves, our fleet is not touched. From then on it is an ordinary stop, whose listeners
somebody else serves too.
"""

from __future__ import annotations

from collections.abc import Iterator

from prefork.policy import events
from prefork.policy.actions import Action, EndSuccessor, Report, StartSuccessor, duration
from prefork.policy.fleet import Failure, Fleet, Stop, Upgrade


def note_upgrade(fleet: Fleet, event: events.UpgradeEvent, now: float) -> None:
    match event:
        case events.UpgradeRequested(origin):
            _note_request(fleet, origin)
        case events.SuccessorReady(takes_over) if fleet.upgrade is not None and fleet.stop is None:
            fleet.report("upgrade complete", fleet.current.number, "the successor serves; we drain and leave")
            fleet.upgrade = None
            reason = "the successor serves"
            fleet.stop = Stop(quick=False, drains_at=now, code=0, reason=reason, hand_over=takes_over)
        case events.SuccessorFailed(reason, detail) if fleet.upgrade is not None:
            fleet.upgrade.failure = fleet.upgrade.failure or Failure(reason, detail)


def _note_request(fleet: Fleet, origin: str) -> None:
    hindrance = _hindrance(fleet)
    if hindrance:
        fleet.report("upgrade refused", fleet.current.number, f"{origin} asked, but {hindrance}")
    else:
        fleet.upgrade = Upgrade(origin)


def _hindrance(fleet: Fleet) -> str:
    if fleet.stop is not None:
        return "we are stopping"
    if not fleet.complete:
        return "the start is not complete"
    if fleet.upgrade is not None:
        return "an upgrade is under way"
    if fleet.candidate is not None or fleet.reload_asked is not None:
        return "a reload is under way"
    return ""


def start_successor(fleet: Fleet, now: float) -> Iterator[Action]:
    upgrade = fleet.upgrade
    if upgrade is None or upgrade.started:
        return
    upgrade.started = True
    # It loads its code within one boot_timeout, and its workers boot within another.
    upgrade.deadline = now + 2 * fleet.current.settings.boot_timeout
    yield StartSuccessor(upgrade.origin)


def give_up_successor(fleet: Fleet, now: float) -> Iterator[Action]:
    upgrade = fleet.upgrade
    if upgrade is None:
        return
    if fleet.stop is not None:
        upgrade.failure = upgrade.failure or Failure("we are stopping")
    elif fleet.heard_until >= upgrade.deadline:
        timeout = duration(2 * fleet.current.settings.boot_timeout)
        upgrade.failure = upgrade.failure or Failure(f"it did not serve within {timeout} (twice boot_timeout)")
    if upgrade.failure is None:
        return
    fleet.upgrade = None
    yield EndSuccessor(upgrade.failure.reason)
    yield Report("upgrade failed", fleet.current.number, upgrade.failure.reason, upgrade.failure.detail)
