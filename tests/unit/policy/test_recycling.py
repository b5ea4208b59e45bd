import math

import pytest

from prefork.policy import events
from prefork.policy.actions import Drain, Report, Spawn
from prefork.policy.events import WorkerLoad
from tests.unit.policy.story import Story, a_serving_fleet, make_settings, only, orders, subjects


def replace_one(story: Story, ready: int) -> None:
    """Let a replacement be ready, and whoever is drained because of it stop accepting and leave."""
    drained = only(Drain, story.tell(events.WorkerReady(ready)))
    for order in drained:
        story.tell(events.WorkerStoppedAccepting(order.number), events.WorkerExited(order.number, "exit status 0"))


def test_without_a_limit_the_load_is_not_read() -> None:
    story = a_serving_fleet(max_age=3600.0)

    assert story.supervisor.load_due == math.inf


def test_who_has_served_its_share_is_replaced_before_it_is_retired() -> None:
    story = a_serving_fleet(workers=2, max_requests=100)
    story.wait(60.0)
    story.loads = {1: WorkerLoad(served=100)}

    worn = story.read_load()
    ready = story.tell(events.WorkerReady(3))

    assert subjects(worn) == ["recycling worker"]
    assert worn[0].reason == "served 100 requests, and 100 were its share (max_requests)"
    assert story.supervisor.replaced["max_requests"] == 1
    assert [(order.number, order.slot) for order in only(Spawn, worn)] == [(3, 2)]
    assert [order.number for order in only(Drain, ready)] == [1]
    assert ready[0].reason.startswith("recycled: served 100 requests")


def test_who_has_not_served_its_share_stays() -> None:
    story = a_serving_fleet(workers=2, max_requests=100)
    story.loads = {1: WorkerLoad(served=99)}

    assert story.wait(60.0) == []


def test_the_jitter_is_drawn_once_for_each_worker() -> None:
    draws = iter((0.0, 0.999))
    story = Story(make_settings(workers=2, max_requests=100, max_requests_jitter=10))
    story.supervisor._fleet._chance = lambda: next(draws)
    story.start()

    assert [worker.most_requests for worker in story.supervisor.workers()] == [100, 110]


def test_all_are_worn_together_and_replaced_one_after_another() -> None:
    story = a_serving_fleet(workers=3, max_requests=100)
    story.wait(60.0)
    story.loads = {number: WorkerLoad(served=500) for number in (1, 2, 3)}

    worn = story.read_load()
    for number in (4, 5, 6):
        assert len(only(Spawn, story.actions)) == number
        assert len(story.supervisor._fleet.serving()) == 3
        replace_one(story, ready=number)

    assert len(only(Spawn, worn)) == 1
    assert story.numbers() == [4, 5, 6]


def test_surge_is_how_many_are_replaced_at_a_time() -> None:
    story = a_serving_fleet(workers=4, surge=2, max_age=3600.0)

    ordered = story.wait(3600.0)

    assert len(only(Spawn, ordered)) == 2


def test_memory_counts_when_three_readings_in_a_row_say_so() -> None:
    story = a_serving_fleet(workers=1, max_rss=1000)
    story.wait(60.0)

    above, below = {1: WorkerLoad(rss=1001)}, {1: WorkerLoad(rss=1000)}
    worn = []
    for story.loads in (above, above, below, above, above, {}, above, above, above):
        worn.append(subjects(story.read_load()))

    assert worn == [[]] * 8 + [["recycling worker"]]


def test_memory_that_cannot_be_read_is_no_reason() -> None:
    story = a_serving_fleet(workers=1, max_rss=1000)
    story.loads = {1: WorkerLoad(rss=None)}

    assert story.wait(60.0) == []


def test_age_counts_from_the_moment_of_being_ready() -> None:
    story = a_serving_fleet(workers=1, max_age=100.0)

    young, old = story.wait(94.0), story.wait(1.0)

    assert subjects(young) == []
    assert [report.reason for report in only(Report, old)] == ["served for 100 s (max_age)"]


def test_a_limit_that_new_workers_exceed_at_once_is_no_storm() -> None:
    story = a_serving_fleet(workers=1, max_requests=1)
    story.load = WorkerLoad(served=50)

    for _ in range(60):
        story.wait(5.0)
        for number in story.numbers():
            replace_one(story, ready=number)

    assert len(only(Spawn, story.actions)) < 18


def test_nobody_is_recycled_during_a_rollout() -> None:
    story = a_serving_fleet(workers=2, max_age=100.0, canary_time=30.0)
    story.wait(80.0)
    story.try_generation(2)
    story.tell(events.WorkerReady(3))

    assert story.wait(29.0) == []


def test_a_replacement_that_is_not_ready_gives_way_to_a_reload() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.RecycleRequested(0, "uid 0"))

    ordered = story.tell(events.ReloadRequested("SIGHUP"))

    assert [order.number for order in only(Drain, ordered)] == [3]


def test_a_reload_that_is_given_up_leaves_the_worn_to_be_replaced() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.RecycleRequested(0, "uid 0"), events.ReloadRequested("SIGHUP"))
    story.tell(events.WorkerExited(3, "exit status 0"))

    ordered = story.tell(events.GenerationFailed(2, "the configuration is broken"))

    assert [order.generation for order in only(Spawn, ordered)] == [1]


def test_a_replacement_that_dies_leaves_the_worn_one_serving() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.RecycleRequested(None, "uid 0"))

    dying = story.tell(events.WorkerExited(2, "exit status 1"))
    again = story.wait(0.5)

    assert only(Drain, dying + again) == []
    assert len(only(Spawn, again)) == 1
    assert story.supervisor.ready


def test_an_operator_has_all_workers_replaced_and_learns_when_that_is_done() -> None:
    story = a_serving_fleet(workers=2)

    asked = story.tell(events.RecycleRequested(None, "uid 0"))
    replace_one(story, ready=3)
    before = subjects(story.actions)
    replace_one(story, ready=4)

    assert subjects(asked) == ["recycling worker", "recycling worker"]
    assert "recycle complete" not in before
    assert story.actions[-1].reason == "2 workers were replaced"


def test_an_operator_has_the_worker_of_one_slot_replaced() -> None:
    story = a_serving_fleet(workers=3)

    story.tell(events.RecycleRequested(1, "uid 0"))
    replace_one(story, ready=4)

    assert story.numbers() == [1, 3, 4]
    assert story.actions[-1].reason == "1 worker was replaced"


@pytest.mark.parametrize("slot", [2, 77, -1])
def test_a_slot_without_a_serving_worker_cannot_be_recycled(slot: int) -> None:
    story = a_serving_fleet(workers=2)

    ordered = story.tell(events.RecycleRequested(slot, "uid 0"))

    assert subjects(ordered) == ["recycle refused"]
    assert ordered[0].reason == f"uid 0 asked, but no worker that could be serves in slot {slot}"


def test_a_recycle_during_a_rollout_is_complete_when_nobody_of_before_accepts() -> None:
    story = a_serving_fleet(workers=1, canary_time=0.0)
    story.try_generation(2)

    story.tell(events.RecycleRequested(None, "uid 0"))
    story.finish_rollout()

    assert subjects(story.actions).count("recycle complete") == 1
    assert story.numbers() == [2]


def test_a_stop_ends_a_recycle() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.RecycleRequested(None, "uid 0"))

    stopping = story.tell(events.StopRequested(False, "SIGTERM"))
    refused = story.tell(events.RecycleRequested(None, "uid 0"))

    assert "recycle refused" in subjects(stopping)
    assert subjects(refused) == ["recycle refused"]


def test_with_fewer_workers_wanted_the_worn_one_leaves_and_its_replacement_is_not_needed() -> None:
    story = a_serving_fleet(workers=3)
    story.tell(events.RecycleRequested(0, "uid 0"))

    ordered = story.tell(events.ScaleRequested(2, "uid 0"))

    assert {order.number for order in only(Drain, ordered)} == {1, 4}


def test_a_drained_server_serves_on_and_is_not_ready_until_undrained() -> None:
    story = a_serving_fleet(workers=2, canary_time=0.0)

    ordered = story.tell(events.DrainRequested("uid 0"))
    story.try_generation(2)
    story.finish_rollout()
    drained = story.supervisor.ready
    story.tell(events.UndrainRequested("uid 0"))

    assert orders(ordered) == []
    assert story.supervisor.state == "serving"
    assert (drained, story.supervisor.ready) == (False, True)
