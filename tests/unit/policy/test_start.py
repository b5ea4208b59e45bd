"""The first generation either serves or ends the program, and says why."""

import pytest

from prefork.policy import events
from prefork.policy.actions import Drain, Exit, Kill, ReleaseGeneration, Report, Spawn
from prefork.policy.events import Event
from tests.unit.policy.story import Story, make_settings, only, subjects


def a_loading_fleet(workers: int = 2, **settings: float) -> Story:
    story = Story(make_settings(workers, **settings))
    story.tell(events.StartRequested())
    return story


def a_booting_fleet(workers: int = 2, **settings: float) -> Story:
    story = a_loading_fleet(workers, **settings)
    story.tell(events.MoldReady(1))
    return story


@pytest.mark.parametrize(
    "failure",
    [events.MoldFailed(1, "ImportError: no module named app", "Traceback"), events.MoldExited(1, "killed by SIGSEGV")],
)
def test_a_first_mold_that_fails_ends_the_program(failure: Event) -> None:
    story = a_loading_fleet()

    ordered = story.tell(failure)

    assert subjects(ordered) == ["start failed"]
    assert only(ReleaseGeneration, ordered)[0].generation == 1
    assert [order.code for order in only(Exit, ordered)] == [3]


def test_the_traceback_of_a_failed_start_reaches_the_exit() -> None:
    story = a_loading_fleet()

    ordered = story.tell(events.MoldFailed(1, "ImportError: no module named app", "Traceback"))

    assert only(Exit, ordered)[0].reason == "ImportError: no module named app"
    assert only(Exit, ordered)[0].detail == "Traceback"


def test_a_first_mold_that_hangs_ends_the_program_after_the_boot_timeout() -> None:
    story = a_loading_fleet(boot_timeout=10.0)

    early = story.wait(9.9)
    late = story.wait(0.2)

    assert early == []
    assert [order.code for order in only(Exit, late)] == [3]


@pytest.mark.parametrize(
    "failure",
    [
        events.WorkerFailed(1, "ImportError: no module named app", "Traceback"),
        events.WorkerExited(1, "exited with code 1"),
        events.WorkerBroke(1, "its message has no meaning"),
        events.MoldExited(1, "killed by SIGKILL"),
    ],
)
def test_a_worker_that_fails_before_any_was_ready_ends_the_program(failure: Event) -> None:
    story = a_booting_fleet(workers=2)

    ordered = story.tell(failure)
    for number in (1, 2):
        ordered += story.tell(events.WorkerExited(number, "exited with code 1"))

    assert subjects(ordered)[0] == "start failed"
    assert [order.number for order in only(Spawn, ordered)] == []
    assert [order.code for order in only(Exit, ordered)] == [3]


def test_those_who_boot_when_the_start_fails_are_drained_and_then_killed() -> None:
    story = a_booting_fleet(workers=2, kill_timeout=5.0)

    drains = story.tell(events.WorkerExited(1, "exited with code 1"))
    kills = story.wait(5.0)

    assert [(order.number, order.seconds) for order in only(Drain, drains)] == [(2, 0.0)]
    assert [order.number for order in only(Kill, kills)] == [2]


def test_workers_that_never_get_ready_end_the_program_after_the_boot_timeout() -> None:
    story = a_booting_fleet(workers=1, boot_timeout=10.0)

    late = story.wait(11.0)
    ending = story.tell(events.WorkerExited(1, "killed by SIGKILL"))

    assert [order.number for order in only(Kill, late)] == [1]
    assert [order.code for order in only(Exit, ending)] == [3]


def test_once_a_worker_was_ready_a_failing_one_waits_for_its_backoff() -> None:
    story = a_booting_fleet(workers=2)
    story.tell(events.WorkerReady(2))

    ordered = story.tell(events.WorkerExited(1, "exited with code 1"))
    later = story.wait(0.5)

    assert subjects(ordered) == ["worker lost", "short of workers"]
    assert only(Spawn, ordered) == []
    assert [order.slot for order in only(Spawn, later)] == [0]


def test_workers_that_die_right_after_being_ready_never_end_the_program() -> None:
    story = a_booting_fleet(workers=1)

    for number in range(1, 20):
        story.tell(events.WorkerReady(number), events.WorkerExited(number, "exited with code 3"))
        story.wait(30.0)

    assert only(Exit, story.actions) == []
    assert len(only(Spawn, story.actions)) == 20


def test_a_fork_that_fails_is_tried_again_and_ends_nothing() -> None:
    story = a_booting_fleet(workers=1)

    first = story.tell(events.SpawnFailed(1, "cannot fork: out of memory"))
    second = story.wait(0.5)

    assert only(Report, first)[0].reason == "cannot fork: out of memory; slot 0 is tried again in 500 ms"
    assert [order.number for order in only(Spawn, second)] == [2]


def test_a_reload_during_the_start_waits_until_somebody_serves() -> None:
    story = a_booting_fleet(workers=1)

    asked = story.tell(events.ReloadRequested("SIGHUP"))
    serving = story.tell(events.WorkerReady(1))

    assert subjects(asked) == ["reload postponed"]
    assert story.supervisor.candidate == 2
    assert subjects(serving) == ["ready"]


@pytest.mark.parametrize("quick", [True, False])
def test_a_stop_before_anything_lives_leaves_at_once(quick: bool) -> None:
    story = a_loading_fleet()

    ordered = story.tell(events.StopRequested(quick, "SIGTERM"))

    assert [order.code for order in only(Exit, ordered)] == [0]
    assert [order.generation for order in only(ReleaseGeneration, ordered)] == [1]
