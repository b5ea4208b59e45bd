import math

from prefork.policy import events
from prefork.policy.actions import Dump, Exit, Kill, Report, Spawn, StartMold
from prefork.policy.supervisor import Supervisor
from tests.unit.policy.story import Story, a_serving_fleet, make_settings, only, orders, subjects


def test_the_first_generation_starts_all_its_workers_at_once() -> None:
    story = Story(make_settings(workers=3))

    loading = story.tell(events.StartRequested())
    spawning = story.tell(events.MoldReady(1))

    assert [(order.generation, order.preload) for order in only(StartMold, loading)] == [(1, "auto")]
    assert [(order.number, order.slot) for order in only(Spawn, spawning)] == [(1, 0), (2, 1), (3, 2)]


def test_ready_is_reported_once_and_when_all_are_ready() -> None:
    story = Story(make_settings(workers=2))
    story.tell(events.StartRequested(), events.MoldReady(1))

    first = story.tell(events.WorkerReady(1))
    state_between, ready_between = story.supervisor.state, story.supervisor.ready
    second = story.tell(events.WorkerReady(2))

    assert subjects(first) == []
    assert (state_between, ready_between) == ("starting", False)
    assert subjects(second) == ["ready"]
    assert (story.supervisor.state, story.supervisor.ready) == ("serving", True)


def test_one_lost_worker_of_several_does_not_make_us_unready() -> None:
    story = a_serving_fleet(workers=2)

    story.tell(events.WorkerExited(1, "killed by SIGKILL"))

    assert story.supervisor.ready


def test_a_worker_accepts_from_its_ready_to_its_last_word() -> None:
    story = Story(make_settings(workers=1))
    story.tell(events.StartRequested(), events.MoldReady(1))

    booting = story.worker(1).accepting
    story.tell(events.WorkerReady(1))
    serving = story.worker(1).accepting
    story.tell(events.WorkerStoppedAccepting(1))
    leaving = story.worker(1).accepting

    assert (booting, serving, leaving) == (False, True, False)


def test_an_unsafe_mold_is_started_again_without_preloading() -> None:
    story = Story(make_settings())
    story.tell(events.StartRequested())

    ordered = story.tell(events.MoldUnsafe(1, "a thread is alive: watcher"))

    assert only(Report, ordered)[0].detail == "a thread is alive: watcher"
    assert [order.preload for order in only(StartMold, ordered)] == ["never"]
    assert story.tell(events.MoldUnsafe(1, "a thread is alive: watcher")) == []


def test_the_same_event_twice_orders_nothing_the_second_time() -> None:
    story = Story(make_settings())
    story.tell(events.StartRequested())
    story.tell(events.MoldReady(1))

    assert story.tell(events.StartRequested(), events.MoldReady(1), events.TimePassed()) == []


def test_facts_about_the_unknown_and_the_gone_are_ignored() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.WorkerExited(1, "exited with code 0"))
    before = story.supervisor.workers()

    ordered = story.tell(
        events.WorkerReady(1),
        events.WorkerStoppedAccepting(1),
        events.WorkerExited(1, "exited with code 0"),
        events.WorkerBroke(99, "its message has no meaning"),
        events.SpawnFailed(99, "cannot fork"),
        events.WorkerFailed(99, "it could not boot"),
        events.MoldReady(7),
        events.MoldExited(7, "exited with code 1"),
        events.GenerationPrepared(1, make_settings(workers=9)),
        events.GenerationFailed(7, "the configuration is broken"),
        events.HeartbeatsRead({1: story.now, 99: story.now}),
    )

    assert ordered == []
    assert story.supervisor.workers() == before


def test_nothing_is_waited_for_before_the_start() -> None:
    assert Supervisor(make_settings()).deadline() == math.inf


def test_an_idle_fleet_is_looked_at_once_in_a_heartbeat_timeout() -> None:
    story = a_serving_fleet(workers=2, heartbeat_timeout=30.0)
    story.look_at_the_clock()

    assert story.supervisor.deadline() == story.now + 30.0


def test_the_master_that_overslept_blames_nobody() -> None:
    story = a_serving_fleet(workers=2, heartbeat_timeout=5.0)
    story.now += 60.0

    # Everybody was frozen: there are no new beats yet.
    waking = story.tell(events.HeartbeatsRead({}), events.TimePassed())
    afterwards = story.wait(20.0)

    assert subjects(waking) == ["deadlines moved"]
    assert orders(afterwards) == []


def test_a_mold_that_loads_is_not_blamed_for_our_oversleeping_either() -> None:
    story = Story(make_settings(boot_timeout=10.0))
    story.tell(events.StartRequested())
    story.now += 60.0

    waking = story.look_at_the_clock()
    loaded = story.tell(events.MoldReady(1))

    assert subjects(waking) == ["deadlines moved"]
    assert len(only(Spawn, loaded)) == 2


def test_being_a_little_late_is_not_oversleeping() -> None:
    story = a_serving_fleet(workers=1, heartbeat_timeout=5.0)
    story.look_at_the_clock()
    story.now = story.supervisor.deadline() + 0.9

    ordered = story.tell(events.HeartbeatsRead({}), events.TimePassed())

    assert [order.number for order in only(Dump, ordered)] == [1]


def test_a_forgiven_worker_that_stays_silent_is_killed_all_the_same() -> None:
    story = a_serving_fleet(workers=1, heartbeat_timeout=5.0, kill_timeout=20.0)
    story.now += 60.0

    ordered = story.wait(10.0, silent=[1])

    assert [order.number for order in only(Kill, ordered)] == [1]


def test_silence_is_not_judged_before_everything_is_heard() -> None:
    story = Story(make_settings(workers=1, boot_timeout=10.0))
    story.tell(events.StartRequested(), events.MoldReady(1))
    story.now += 10.5

    # The signal is heard first; the worker's word stands behind it.
    hearing = story.tell(events.ScaleRequested(1, "uid 0"), events.WorkerReady(1))
    judging = story.look_at_the_clock()

    assert only(Dump, hearing + judging) == []


def test_nothing_is_ordered_after_exit() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.StopRequested(True, "SIGINT"))

    leaving = story.tell(events.WorkerExited(1, "exited with code 0"))
    afterwards = story.tell(events.ReloadRequested("SIGHUP"), events.StopRequested(False, "SIGTERM"))

    assert only(Exit, leaving)
    assert afterwards == []


def test_every_action_has_a_reason_of_its_own() -> None:
    story = a_serving_fleet(workers=2)
    story.try_generation(2)
    story.finish_rollout()
    story.tell(events.StopRequested(False, "SIGTERM"))

    assert all(len(action.reason) > 5 for action in story.actions)
