import pytest

from prefork.policy import events
from prefork.policy.actions import Drain, Exit, Kill, PrepareGeneration, ReleaseGeneration, Spawn
from tests.unit.policy.story import Story, a_serving_fleet, make_settings, only, subjects


def test_a_stop_drains_everybody_and_their_queue() -> None:
    story = a_serving_fleet(workers=2, drain_timeout=30.0)

    ordered = story.tell(events.StopRequested(False, "SIGTERM"))

    assert [(order.number, order.seconds, order.final) for order in only(Drain, ordered)] == [
        (1, 30.0, True),
        (2, 30.0, True),
    ]
    assert story.supervisor.state == "stopping"


def test_the_drain_delay_is_served_unready() -> None:
    story = a_serving_fleet(workers=1, drain_delay=10.0)

    asked = story.tell(events.StopRequested(False, "SIGTERM"))
    ready = story.supervisor.ready
    before = story.wait(9.9)
    after = story.wait(0.1)

    assert only(Drain, asked + before) == []
    assert not ready
    assert [order.number for order in only(Drain, after)] == [1]


def test_who_is_still_booting_does_not_get_the_drain_delay() -> None:
    story = Story(make_settings(workers=2, drain_delay=10.0))
    story.tell(events.StartRequested(), events.MoldReady(1), events.WorkerReady(1))

    ordered = story.tell(events.StopRequested(False, "SIGTERM"))

    assert [order.number for order in only(Drain, ordered)] == [2]


def test_exit_comes_when_the_last_worker_has_gone() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.StopRequested(False, "SIGTERM"))

    first = story.tell(events.WorkerExited(1, "exited with code 0"))
    second = story.tell(events.WorkerExited(2, "exited with code 7"))

    assert only(Exit, first) == []
    assert [type(order) for order in second] == [ReleaseGeneration, Exit]
    assert only(Exit, second)[0].code == 0


def test_who_outlives_its_drain_is_killed_two_seconds_later() -> None:
    story = a_serving_fleet(workers=1, drain_timeout=30.0)
    story.tell(events.StopRequested(False, "SIGTERM"))

    in_time = story.wait(31.9)
    late = story.wait(0.1)

    assert only(Kill, in_time) == []
    assert [order.number for order in only(Kill, late)] == [1]


def test_a_quick_stop_waits_for_nobody_and_kills_after_the_kill_timeout() -> None:
    story = a_serving_fleet(workers=1, drain_delay=10.0, kill_timeout=5.0)

    drains = story.tell(events.StopRequested(True, "SIGINT"))
    kills = story.wait(5.0)

    assert [(order.seconds, order.final) for order in only(Drain, drains)] == [(0.0, True)]
    assert [order.number for order in only(Kill, kills)] == [1]


@pytest.mark.parametrize("quick", [True, False])
def test_a_second_request_hurries_those_who_drain(quick: bool) -> None:
    story = a_serving_fleet(workers=2, kill_timeout=5.0)
    story.tell(events.StopRequested(False, "SIGTERM"))
    story.wait(1.0)

    ordered = story.tell(events.StopRequested(quick, "SIGTERM"))
    kills = story.wait(5.0)

    assert subjects(ordered) == ["stop hurried"]
    assert [(order.number, order.seconds) for order in only(Drain, ordered)] == [(1, 0.0), (2, 0.0)]
    assert [order.number for order in only(Kill, kills)] == [1, 2]


def test_a_second_request_ends_the_drain_delay() -> None:
    story = a_serving_fleet(workers=1, drain_delay=10.0)
    story.tell(events.StopRequested(False, "SIGTERM"))

    ordered = story.tell(events.StopRequested(False, "SIGTERM"))

    assert [order.seconds for order in only(Drain, ordered)] == [0.0]


def test_a_quick_request_during_a_quick_stop_kills_at_once() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.StopRequested(True, "SIGINT"))

    ordered = story.tell(events.StopRequested(True, "SIGINT"))
    again = story.tell(events.StopRequested(True, "SIGINT"))

    assert subjects(ordered) == ["stop hurried"]
    assert [order.number for order in only(Kill, ordered)] == [1, 2]
    assert again == []


def test_a_term_during_a_quick_stop_changes_nothing() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.StopRequested(True, "SIGINT"))

    assert story.tell(events.StopRequested(False, "SIGTERM")) == []


def test_nobody_is_replaced_while_we_stop() -> None:
    story = a_serving_fleet(workers=2, drain_delay=10.0)
    story.tell(events.StopRequested(False, "SIGTERM"))

    ordered = story.tell(events.WorkerExited(1, "killed by SIGKILL"))

    assert subjects(ordered) == ["worker lost"]
    assert only(Spawn, ordered + story.wait(5.0)) == []


def test_a_hung_worker_is_killed_during_the_drain_delay() -> None:
    story = a_serving_fleet(workers=1, drain_delay=60.0, heartbeat_timeout=10.0, kill_timeout=20.0)
    story.tell(events.StopRequested(False, "SIGTERM"))

    ordered = story.wait(11.0, silent=[1])

    assert [order.number for order in only(Kill, ordered)] == [1]


def test_a_stop_wins_over_a_reload() -> None:
    story = a_serving_fleet(workers=1)
    story.try_generation(2)

    ordered = story.tell(events.StopRequested(False, "SIGTERM"))

    assert subjects(ordered) == ["stopping", "reload failed"]
    assert sorted(order.number for order in only(Drain, ordered)) == [1, 2]
    assert story.supervisor.candidate is None


def test_a_reload_that_has_no_worker_yet_is_released_when_we_stop() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.ReloadRequested("SIGHUP"))

    ordered = story.tell(events.StopRequested(False, "SIGTERM"))

    assert [order.generation for order in only(ReleaseGeneration, ordered)] == [2]


def test_requests_during_a_stop_are_refused() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.StopRequested(False, "SIGTERM"))

    ordered = story.tell(
        events.ReloadRequested("SIGHUP"), events.ScaleRequested(3, "uid 0"), events.ScaleChanged(1, "SIGTTIN")
    )

    assert subjects(ordered) == ["reload refused", "scaling refused", "scaling refused"]
    assert only(PrepareGeneration, ordered) == []


def test_a_worker_that_survives_its_kill_is_killed_again_and_again() -> None:
    story = a_serving_fleet(workers=1, kill_timeout=5.0)
    story.tell(events.StopRequested(True, "SIGINT"))
    story.wait(5.0)

    ordered = story.wait(10.0)

    assert subjects(ordered) == ["worker survived kill", "worker survived kill"]
    assert [order.number for order in only(Kill, ordered)] == [1, 1]
