import pytest

from prefork.policy import events
from prefork.policy.actions import Drain, Kill, PrepareGeneration, ReleaseGeneration, Report, Spawn, StartMold
from prefork.policy.events import Event
from tests.unit.policy.story import (
    Story,
    a_fleet_that_hands_over,
    a_serving_fleet,
    make_settings,
    only,
    orders,
    subjects,
)


def a_trial(workers: int = 2, **settings: float) -> Story:
    """Generation 2 has just spawned its canary; its number is `workers` + 1."""
    story = a_serving_fleet(workers, **settings)
    story.try_generation(2)
    return story


def a_roll(workers: int = 2, **settings: float) -> Story:
    """The canary of generation 2 has passed, and the first of the old workers is drained."""
    story = a_trial(workers, **settings)
    story.tell(events.WorkerReady(workers + 1))
    story.wait(2.0)
    return story


def test_a_reload_prepares_loads_and_tries_before_it_touches_anything() -> None:
    story = a_serving_fleet(workers=2)

    asked = story.tell(events.ReloadRequested("SIGHUP"))
    prepared = story.tell(events.GenerationPrepared(2, make_settings()))
    loaded = story.tell(events.MoldReady(2))

    assert [(order.generation, order.reason) for order in only(PrepareGeneration, orders(asked))] == [(2, "SIGHUP")]
    assert [order.generation for order in only(StartMold, orders(prepared))] == [2]
    assert [(order.number, order.generation) for order in only(Spawn, orders(loaded))] == [(3, 2)]
    assert story.supervisor.state == "reloading"


def test_the_preloading_of_the_new_settings_counts() -> None:
    story = a_serving_fleet()
    story.tell(events.ReloadRequested("SIGHUP"))

    ordered = story.tell(events.GenerationPrepared(2, make_settings(preload="never")))  # type: ignore[arg-type]

    assert [order.preload for order in only(StartMold, ordered)] == ["never"]


def test_a_canary_passes_with_a_beat_at_the_end_of_its_trial() -> None:
    story = a_trial(workers=2, canary_time=1.0)
    story.tell(events.WorkerReady(3))

    ordered = story.wait(1.5)

    assert subjects(ordered) == ["trial passed"]
    assert [(order.number, order.reason) for order in only(Drain, ordered)] == [(2, "replaced by generation 2")]


def test_a_canary_that_stopped_beating_is_not_promoted_when_its_time_is_over() -> None:
    story = a_trial(workers=1, canary_time=1.0, heartbeat_timeout=10.0)
    ready_at = story.now
    story.tell(events.WorkerReady(2))

    during = []
    for tick in range(1, 22):
        story.now = ready_at + tick / 2
        during += story.tell(events.HeartbeatsRead({1: story.now, 2: ready_at + 0.9}), events.TimePassed())
    story.now = ready_at + 11.0
    story.tell(events.HeartbeatsRead({1: story.now, 2: ready_at + 0.9}), events.TimePassed())
    story.now = ready_at + 12.0
    after = story.tell(events.HeartbeatsRead({1: story.now, 2: ready_at + 0.9}), events.TimePassed())

    assert during == []
    assert [order.number for order in only(Kill, after)] == [2]
    assert subjects(after) == ["reload failed"]
    assert only(Drain, after) == []


def test_a_beat_exactly_at_the_end_of_the_trial_is_enough() -> None:
    story = a_trial(workers=1, canary_time=1.0)
    ready_at = story.now
    story.tell(events.WorkerReady(2))
    story.now += 1.2

    early = story.tell(events.HeartbeatsRead({2: ready_at + 0.99}))
    enough = story.tell(events.HeartbeatsRead({2: ready_at + 1.0}))

    assert early == []
    assert subjects(enough) == ["trial passed"]


def test_the_trial_is_looked_at_when_the_beat_is_due_and_each_beat_after() -> None:
    story = a_trial(workers=1, canary_time=3.0, heartbeat_timeout=30.0)
    story.tell(events.WorkerReady(2))

    first = story.supervisor.deadline() - story.now
    story.now += 3.5
    story.tell(events.HeartbeatsRead({}), events.TimePassed())
    second = story.supervisor.deadline() - story.now

    assert (first, second) == (3.5, 0.5)


def test_without_a_canary_time_being_ready_is_enough() -> None:
    story = a_trial(workers=1, canary_time=0.0)

    ordered = story.tell(events.WorkerReady(2))

    assert subjects(ordered) == ["trial passed"]
    assert [order.number for order in only(Drain, ordered)] == [1]


def test_workers_are_replaced_one_by_one() -> None:
    story = a_roll(workers=3)

    first = [(type(order), order.number) for order in only(Drain, story.actions) + only(Spawn, story.actions)[4:]]
    second = orders(story.tell(events.WorkerReady(5)))
    third = orders(story.tell(events.WorkerReady(6)))

    assert first == [(Drain, 3), (Spawn, 5)]
    assert [type(order) for order in second] == [Drain, Spawn]
    assert [type(order) for order in third] == [Drain]


def test_a_surge_replaces_several_at_a_time() -> None:
    story = a_trial(workers=3, surge=3)
    story.tell(events.WorkerReady(4))

    ordered = story.wait(1.5)

    assert len(only(Drain, ordered)) == 1
    assert [order.number for order in only(Spawn, ordered)] == [5, 6]


def test_a_reload_is_complete_when_no_old_worker_accepts() -> None:
    story = a_roll(workers=1)

    nothing = story.wait(5.0)
    complete = story.tell(events.WorkerStoppedAccepting(1))

    assert nothing == []
    assert subjects(complete) == ["reload complete"]
    assert (story.supervisor.generation, story.supervisor.candidate) == (2, None)
    assert story.supervisor.last_reload is not None
    assert story.supervisor.last_reload.succeeded


def test_an_old_worker_that_dies_accepts_no_more() -> None:
    story = a_roll(workers=1)

    assert subjects(story.tell(events.WorkerExited(1, "killed by SIGKILL"))) == ["reload complete"]


def test_a_killed_worker_that_has_not_gone_may_still_accept() -> None:
    story = a_roll(workers=1, drain_timeout=5.0)

    killing = story.wait(7.0)
    gone = story.tell(events.WorkerExited(1, "killed by SIGKILL"))

    assert [order.number for order in only(Kill, killing)] == [1]
    assert "reload complete" not in subjects(killing)
    assert subjects(gone) == ["reload complete"]


def test_the_old_generation_is_released_when_its_last_worker_has_gone() -> None:
    story = a_roll(workers=1)

    complete = story.tell(events.WorkerStoppedAccepting(1))
    gone = story.tell(events.WorkerExited(1, "exited with code 0"))

    assert only(ReleaseGeneration, complete) == []
    assert [order.generation for order in only(ReleaseGeneration, gone)] == [1]


@pytest.mark.parametrize(
    "failure",
    [
        events.GenerationFailed(2, "prefork.toml:3: unknown option", "Traceback"),
        events.MoldFailed(2, "ImportError: no module named app", "Traceback"),
        events.MoldExited(2, "killed by SIGSEGV"),
    ],
)
def test_a_generation_that_cannot_be_loaded_is_given_up(failure: Event) -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.ReloadRequested("SIGHUP"))
    if not isinstance(failure, events.GenerationFailed):
        story.tell(events.GenerationPrepared(2, make_settings()))

    ordered = story.tell(failure)

    assert subjects(ordered) == ["reload failed"]
    assert [type(order) for order in orders(ordered)] == [ReleaseGeneration]
    assert (story.supervisor.generation, story.supervisor.candidate) == (1, None)
    assert story.numbers() == [1, 2]


def test_a_mold_that_hangs_is_given_up_after_the_boot_timeout() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.ReloadRequested("SIGHUP"), events.GenerationPrepared(2, make_settings(boot_timeout=20.0)))

    early = story.wait(19.9)
    late = story.wait(0.1)

    assert subjects(early) == []
    assert subjects(late) == ["reload failed"]


@pytest.mark.parametrize(
    "failure",
    [
        events.WorkerExited(3, "exited with code 1"),
        events.WorkerStoppedAccepting(3),
        events.WorkerBroke(3, "its message has no meaning"),
        events.MoldExited(2, "killed by SIGKILL"),
    ],
)
@pytest.mark.parametrize("ready", [True, False])
def test_whatever_happens_to_the_canary_gives_the_generation_up(failure: Event, ready: bool) -> None:
    story = a_trial(workers=2, canary_time=60.0)
    story.tell(*[events.WorkerReady(3)] * ready)
    story.wait(5.0)

    ordered = story.tell(failure)
    ending = story.tell(events.WorkerExited(3, "exited with code 0"))

    assert "reload failed" in subjects(ordered)
    assert [order.generation for order in only(ReleaseGeneration, ordered + ending)] == [2]
    assert story.numbers(generation=1) == [1, 2]
    assert only(Spawn, ordered + ending) == []


def test_a_canary_that_cannot_be_forked_gives_the_generation_up() -> None:
    story = a_trial(workers=2)

    ordered = story.tell(events.SpawnFailed(3, "cannot fork: out of memory"))

    assert subjects(ordered) == ["reload failed"]
    assert [order.generation for order in only(ReleaseGeneration, ordered)] == [2]


def test_a_canary_that_is_not_ready_in_time_gives_the_generation_up() -> None:
    story = a_trial(workers=1, boot_timeout=10.0)

    ordered = story.wait(11.0)

    assert [order.number for order in only(Kill, ordered)] == [2]
    assert subjects(ordered) == ["reload failed"]


def test_what_a_failing_canary_says_reaches_who_asked_for_the_reload() -> None:
    story = a_trial()

    ordered = story.tell(events.WorkerFailed(3, "ImportError: no module named app", "Traceback"))

    report = only(Report, ordered)[0]
    assert (report.subject, report.generation) == ("reload failed", 2)
    assert "ImportError: no module named app" in report.reason
    assert report.detail == "Traceback"
    assert story.supervisor.last_reload is not None
    assert not story.supervisor.last_reload.succeeded
    assert story.supervisor.last_reload.detail == "Traceback"


@pytest.mark.parametrize("ready", [True, False])
def test_a_new_worker_that_fails_early_gives_the_whole_generation_up(ready: bool) -> None:
    story = a_roll(workers=2)
    story.tell(*[events.WorkerReady(4)] * ready)

    ordered = story.tell(events.WorkerExited(4, "exited with code 1"))

    assert "reload failed" in subjects(ordered)
    assert {order.generation for order in only(Spawn, ordered)} == {1}


def test_a_new_worker_that_has_served_is_replaced_by_its_own_generation() -> None:
    story = a_roll(workers=3)
    story.tell(events.WorkerReady(5))
    story.wait(1.0)

    ordered = story.tell(events.WorkerExited(5, "killed by SIGKILL"))

    assert subjects(ordered) == ["worker lost"]
    assert [order.generation for order in only(Spawn, ordered)] == [2]


def test_rolling_back_replaces_before_it_retires() -> None:
    story = a_roll(workers=2)
    story.tell(events.WorkerReady(4))  # both new workers serve, both old ones drain

    given_up = story.tell(events.MoldExited(2, "killed by SIGKILL"))
    returning = story.tell(events.WorkerReady(5))

    assert subjects(given_up) == ["reload failed"]
    assert [(type(order), order.generation) for order in only(Spawn, given_up)] == [(Spawn, 1)]
    assert only(Drain, given_up) == []
    assert [order.number for order in only(Drain, returning)] == [4]
    assert [order.generation for order in only(Spawn, returning)] == [1]


def test_new_workers_that_boot_are_dropped_when_their_generation_is_given_up() -> None:
    story = a_roll(workers=2)

    ordered = story.tell(events.MoldExited(2, "killed by SIGKILL"))

    assert [order.number for order in only(Drain, ordered)] == [4]


def test_a_worker_lost_during_the_trial_is_replaced_from_its_own_generation() -> None:
    story = a_trial(workers=2)

    ordered = story.tell(events.WorkerExited(1, "killed by SIGKILL"))

    assert [order.generation for order in only(Spawn, ordered)] == [1]


def test_a_second_request_supersedes_the_first() -> None:
    story = a_trial(workers=1)

    ordered = story.tell(events.ReloadRequested("SIGHUP"))

    assert [(report.subject, report.generation) for report in only(Report, ordered)] == [("reload superseded", 2)]
    assert [order.generation for order in only(PrepareGeneration, ordered)] == [3]
    assert [order.number for order in only(Drain, ordered)] == [2]


def test_numbers_of_generations_that_were_given_up_are_never_used_again() -> None:
    story = a_serving_fleet()

    for generation in (2, 3, 4):
        story.tell(events.ReloadRequested("SIGHUP"), events.GenerationFailed(generation, "the configuration is broken"))

    assert [order.generation for order in only(PrepareGeneration, story.actions)] == [2, 3, 4]


def test_a_burst_of_reloads_does_not_pile_up_starting_workers() -> None:
    story = a_serving_fleet(workers=1, surge=1, kill_timeout=5.0)

    for generation in range(2, 10):
        story.try_generation(generation)
    at_first = [worker.number for worker in story.supervisor.workers() if worker.booting]
    after_the_kill = story.wait(5.0)

    assert at_first == [2]
    assert [order.number for order in only(Kill, after_the_kill)] == [2]
    assert [order.generation for order in only(Spawn, after_the_kill)] == [9]


def test_a_superseded_canary_that_was_ready_unheard_gets_its_whole_drain() -> None:
    story = a_trial(workers=1, kill_timeout=5.0, drain_timeout=30.0)
    story.tell(events.ReloadRequested("SIGHUP"))
    story.tell(events.WorkerReady(2))

    early = story.wait(31.9)
    late = story.wait(0.2)

    assert 2 not in [order.number for order in only(Kill, early)]
    assert 2 in [order.number for order in only(Kill, late)]


def test_a_superseded_canary_that_only_says_it_stopped_gets_its_whole_drain_too() -> None:
    story = a_trial(workers=1, kill_timeout=5.0, drain_timeout=30.0)
    story.tell(events.ReloadRequested("SIGHUP"))
    story.tell(events.WorkerStoppedAccepting(2))

    early = story.wait(31.9)

    assert 2 not in [order.number for order in only(Kill, early)]


def test_an_abandoned_second_reload_leads_back_and_then_to_rest() -> None:
    story = a_roll(workers=3)  # one new worker serves, one old is drained, another new one boots
    story.tell(events.WorkerReady(5))
    frozen = story.tell(events.ReloadRequested("SIGHUP"))
    story.tell(events.GenerationFailed(3, "the configuration is broken"))
    for _ in range(10):
        for worker in story.supervisor.workers():
            match worker.state:
                case "starting":
                    story.tell(events.WorkerReady(worker.number))
                case "draining":
                    story.tell(events.WorkerExited(worker.number, "exited with code 0"))
        story.wait(1.0)

    settled = story.wait(60.0)

    assert [order.number for order in only(Drain, frozen)] == [6]  # it was still booting
    assert {worker.generation for worker in story.supervisor.workers()} == {1}
    assert len(story.supervisor.workers()) == 3
    assert settled == []


def test_a_lost_mold_is_renewed_by_a_reload_of_our_own() -> None:
    story = a_serving_fleet(workers=2)
    story.wait(60.0)

    ordered = story.tell(events.MoldExited(1, "killed by SIGKILL"))

    renewal = only(PrepareGeneration, ordered)[0]
    assert (renewal.generation, renewal.reason) == (2, "the mold of generation 1 is gone: killed by SIGKILL")


def test_a_mold_that_was_lost_soon_is_not_renewed_at_once() -> None:
    story = a_serving_fleet(workers=2)  # for five seconds

    at_once = story.tell(events.MoldExited(1, "killed by SIGKILL"))
    later = story.wait(0.5)

    assert only(PrepareGeneration, at_once) == []
    assert [order.generation for order in only(PrepareGeneration, later)] == [2]


def test_a_slot_that_falls_empty_without_a_mold_is_filled_by_the_next_generation() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.MoldExited(1, "killed by SIGKILL"))
    story.wait(1.0)

    empty = story.tell(events.WorkerExited(1, "killed by SIGKILL"))
    story.tell(events.GenerationPrepared(2, make_settings()), events.MoldReady(2))
    story.tell(events.WorkerReady(3))
    filled = story.wait(2.0)

    assert only(Spawn, empty) == []
    assert [order.generation for order in only(Spawn, filled)] == [2]
    assert only(Drain, filled) == []


def test_a_renewal_that_fails_is_tried_again_with_growing_patience() -> None:
    story = a_serving_fleet(workers=1)
    story.wait(60.0)
    story.tell(events.MoldExited(1, "killed by SIGKILL"))

    times = []
    for generation in range(2, 6):
        story.tell(events.GenerationFailed(generation, "the configuration is broken"))
        times.append(story.supervisor.deadline() - story.now)
        story.wait(times[-1])

    assert times == [0.5, 1.0, 2.0, 4.0]
    assert [order.generation for order in only(PrepareGeneration, story.actions)] == [2, 3, 4, 5, 6]


def test_the_file_wins_over_earlier_scaling_when_its_number_changed() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.ScaleRequested(1, "uid 0"), events.WorkerExited(2, "exited with code 0"))
    story.try_generation(2, make_settings(workers=3))

    story.finish_rollout()

    assert story.supervisor.wanted == 3
    assert subjects(story.actions)[-2:] == ["reload complete", "scaled"]


def test_scaling_survives_a_reload_of_unchanged_settings() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.ScaleChanged(1, "SIGTTIN"), events.WorkerReady(3))
    story.try_generation(2)

    story.finish_rollout()

    assert story.supervisor.wanted == 3
    assert len(story.numbers(generation=2)) == 3


@pytest.mark.parametrize("workers", [1, 4])
def test_scaling_during_a_roll_is_obeyed_by_the_roll(workers: int) -> None:
    story = a_roll(workers=2)
    story.tell(events.ScaleRequested(workers, "uid 0"))

    story.finish_rollout()
    story.wait(1.0)

    serving = [worker for worker in story.supervisor.workers() if worker.state == "serving"]
    assert len(serving) == workers
    assert {worker.generation for worker in serving} == {2}


@pytest.mark.parametrize("takes_over", [True, False])
def test_a_replaced_worker_hands_over_if_the_new_generation_takes(takes_over: bool) -> None:
    story = a_fleet_that_hands_over(workers=1)
    story.try_generation(2)
    story.tell(events.WorkerReady(2, takes_over))

    ordered = story.wait(2.0)

    assert [(order.number, order.hand_over) for order in only(Drain, ordered)] == [(1, takes_over)]
