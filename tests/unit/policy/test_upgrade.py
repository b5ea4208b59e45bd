import math

import pytest

from prefork.policy import events
from prefork.policy.actions import Drain, EndSuccessor, Exit, PrepareGeneration, StartSuccessor
from tests.unit.policy.story import Story, a_fleet_that_hands_over, a_serving_fleet, make_settings, only, subjects

UPGRADE = events.UpgradeRequested("SIGUSR2")


def test_an_upgrade_starts_a_successor_and_touches_nobody() -> None:
    story = a_serving_fleet(workers=2)

    ordered = story.tell(UPGRADE)
    waited = story.wait(10.0)

    assert [(type(order), order.reason) for order in ordered] == [(StartSuccessor, "SIGUSR2")]
    assert waited == []
    assert story.supervisor.ready


def test_a_successor_that_serves_makes_us_drain_and_leave() -> None:
    story = a_serving_fleet(workers=2, drain_delay=60.0)
    story.tell(UPGRADE)

    served = story.tell(events.SuccessorReady())
    left = story.tell(events.WorkerExited(1, "exit status 0"), events.WorkerExited(2, "exit status 0"))

    assert subjects(served) == ["upgrade complete"]
    assert [order.number for order in only(Drain, served)] == [1, 2]
    assert [(order.code, order.reason) for order in only(Exit, left)] == [(0, "the successor serves")]


@pytest.mark.parametrize("takes_over", [True, False])
def test_connections_are_handed_over_to_a_successor_that_takes_them(takes_over: bool) -> None:
    story = a_fleet_that_hands_over(workers=2)
    story.tell(UPGRADE)

    served = story.tell(events.SuccessorReady(takes_over))

    assert [order.hand_over for order in only(Drain, served)] == [takes_over] * 2


def test_a_successor_that_fails_changes_nothing() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(UPGRADE)

    ordered = story.tell(events.SuccessorFailed("exit status 3", "Traceback"))
    again = story.tell(UPGRADE)

    assert isinstance(ordered[0], EndSuccessor)
    assert subjects(ordered) == ["upgrade failed"]
    assert ordered[-1].reason == "exit status 3"
    assert story.supervisor.ready
    assert only(StartSuccessor, again)


def test_a_successor_has_twice_the_boot_timeout() -> None:
    story = a_serving_fleet(boot_timeout=5.0)
    story.tell(UPGRADE)

    in_time = story.wait(9.9)
    late = story.wait(0.2)

    assert in_time == []
    assert subjects(late) == ["upgrade failed"]
    assert story.supervisor.deadline() < math.inf


def test_a_stop_ends_the_successor() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(UPGRADE)

    ordered = story.tell(events.StopRequested(False, "SIGTERM"))
    too_late = story.tell(events.SuccessorReady())

    assert subjects(ordered) == ["stopping", "upgrade failed"]
    assert only(EndSuccessor, ordered)
    assert too_late == []


@pytest.mark.parametrize(
    ("before", "hindrance"),
    [
        (events.StopRequested(False, "SIGTERM"), "we are stopping"),
        (events.ReloadRequested("SIGHUP"), "a reload is under way"),
        (UPGRADE, "an upgrade is under way"),
    ],
)
def test_an_upgrade_that_cannot_begin_is_refused(before: events.Event, hindrance: str) -> None:
    story = a_serving_fleet()
    story.tell(before)

    ordered = story.tell(UPGRADE)

    assert subjects(ordered) == ["upgrade refused"]
    assert hindrance in ordered[0].reason


def test_an_upgrade_during_the_start_is_refused() -> None:
    story = Story(make_settings())
    story.tell(events.StartRequested())

    assert subjects(story.tell(UPGRADE)) == ["upgrade refused"]


def test_a_reload_during_an_upgrade_is_refused() -> None:
    story = a_serving_fleet()
    story.tell(UPGRADE)

    ordered = story.tell(events.ReloadRequested("SIGHUP"))

    assert subjects(ordered) == ["reload refused"]
    assert only(PrepareGeneration, ordered) == []


def test_a_mold_that_dies_meanwhile_is_replaced_after_the_upgrade_has_failed() -> None:
    story = a_serving_fleet()
    story.tell(UPGRADE)

    lost = story.tell(events.MoldExited(1, "killed by SIGKILL"))
    failed = story.tell(events.SuccessorFailed("exit status 3")) + story.wait(1.0)

    assert only(PrepareGeneration, lost) == []
    assert only(PrepareGeneration, failed)
