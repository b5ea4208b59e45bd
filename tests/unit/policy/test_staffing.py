import pytest

from prefork.policy import events
from prefork.policy.actions import Drain, Report, Spawn
from prefork.policy.fleet import MOST_WORKERS
from tests.unit.policy.story import Story, a_fleet_that_hands_over, a_serving_fleet, make_settings, only, subjects


def test_a_worker_that_had_served_is_replaced_at_once_in_its_slot() -> None:
    story = a_serving_fleet(workers=3)

    ordered = story.tell(events.WorkerExited(2, "killed by SIGKILL"))

    assert [(order.number, order.slot) for order in only(Spawn, ordered)] == [(4, 1)]


def test_the_wait_of_a_slot_doubles_while_its_workers_die_early() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.WorkerExited(1, "killed by SIGKILL"))

    waits = []
    for number in range(2, 10):
        story.tell(events.WorkerReady(number), events.WorkerExited(number, "exited with code 1"))
        since = story.now
        while number + 1 not in story.numbers():
            story.wait(0.25)
        waits.append(story.now - since)

    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_one_that_serves_ends_the_waits_of_its_slot() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.WorkerExited(1, "killed by SIGKILL"), events.WorkerExited(2, "exited with code 1"))
    story.wait(0.5)
    story.tell(events.WorkerReady(3))
    story.wait(1.0)

    ordered = story.tell(events.WorkerExited(3, "killed by SIGKILL"))

    assert [order.slot for order in only(Spawn, ordered)] == [0]


def test_no_other_slot_is_taken_to_get_around_a_wait() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.WorkerExited(1, "killed by SIGKILL"))

    dying = story.tell(events.WorkerExited(3, "exited with code 1"))
    another = story.tell(events.WorkerExited(2, "killed by SIGKILL"))

    assert only(Spawn, dying) == []
    assert [order.slot for order in only(Spawn, another)] == [1]


def test_the_slot_of_a_draining_worker_is_not_free() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.ScaleRequested(1, "uid 0"))

    ordered = story.tell(events.ScaleRequested(2, "uid 0"))

    assert [order.slot for order in only(Spawn, ordered)] == [2]


def test_a_shortage_is_reported_once_and_its_end_too() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.WorkerExited(1, "killed by SIGKILL"), events.WorkerReady(2))

    shortage = story.tell(events.WorkerExited(2, "exited with code 1"))
    waiting = story.wait(0.5)
    enough = story.tell(events.WorkerReady(3))

    assert subjects(shortage) == ["worker lost", "short of workers"]
    assert shortage[-1].reason == "0 of 1 serve; the next start is in 500 ms"
    assert subjects(waiting) == []
    assert subjects(enough) == ["enough workers"]


def test_forks_that_fail_are_tried_with_growing_patience_and_reported_each_time() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.WorkerExited(1, "killed by SIGKILL"))

    reasons = []
    for number in range(2, 6):
        failed = story.tell(events.SpawnFailed(number, "cannot fork: out of memory"))
        reasons += [report.reason.rpartition(" in ")[2] for report in only(Report, failed)]
        story.wait(30.0)

    assert reasons == ["500 ms", "1 s", "2 s", "4 s"]


def test_more_workers_are_spawned_at_once() -> None:
    story = a_serving_fleet(workers=1)

    ordered = story.tell(events.ScaleRequested(3, "uid 0"))

    assert subjects(ordered) == ["scaled"]
    assert ordered[0].reason == "uid 0 asked for 3 workers instead of 1"
    assert [order.slot for order in only(Spawn, ordered)] == [1, 2]


def test_fewer_workers_means_that_the_last_slots_are_drained() -> None:
    story = a_serving_fleet(workers=3, drain_timeout=20.0)

    ordered = story.tell(events.ScaleChanged(-2, "SIGTTOU"))

    assert [(order.number, order.seconds, order.final) for order in only(Drain, ordered)] == [
        (3, 20.0, False),
        (2, 20.0, False),
    ]


def test_those_who_boot_are_given_up_before_those_who_serve() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.ScaleRequested(4, "uid 0"), events.WorkerReady(4))

    ordered = story.tell(events.ScaleRequested(3, "uid 0"))

    assert [order.number for order in only(Drain, ordered)] == [3]


@pytest.mark.parametrize("workers", [0, -1, MOST_WORKERS + 1])
def test_a_number_that_is_not_possible_is_refused(workers: int) -> None:
    story = a_serving_fleet(workers=2)

    ordered = story.tell(events.ScaleRequested(workers, "uid 0"))

    assert subjects(ordered) == ["scaling refused"]
    assert len(ordered) == 1
    assert story.supervisor.wanted == 2


def test_ttou_does_not_go_below_one_worker() -> None:
    story = a_serving_fleet(workers=1)

    ordered = story.tell(events.ScaleChanged(-1, "SIGTTOU"))

    assert subjects(ordered) == ["scaling refused"]


def test_who_asks_for_fewer_ends_the_waits() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.WorkerExited(1, "killed by SIGKILL"), events.WorkerExited(3, "exited with code 1"))
    story.tell(events.ScaleRequested(1, "uid 0"))

    ordered = story.tell(events.WorkerExited(2, "killed by SIGKILL"))

    assert len(only(Spawn, ordered)) == 1


def test_the_largest_fleet_keeps_a_slot_for_a_canary() -> None:
    story = Story(make_settings(workers=5000))

    story.tell(events.StartRequested(), events.MoldReady(1))

    assert len(only(Spawn, story.actions)) == MOST_WORKERS


def test_scaling_during_the_trial_is_done_by_the_old_generation() -> None:
    story = a_serving_fleet(workers=1)
    story.try_generation(2)

    ordered = story.tell(events.ScaleRequested(2, "uid 0"))

    assert [order.generation for order in only(Spawn, ordered)] == [1]


def test_who_drains_unasked_hands_its_connections_over() -> None:
    story = a_fleet_that_hands_over(workers=2)

    ordered = story.tell(events.WorkerStoppedAccepting(1))
    later = story.wait(1.0)

    assert [(order.number, order.hand_over) for order in only(Drain, ordered)] == [(1, True)]
    assert only(Drain, later) == []


def test_who_drains_alone_hands_over_when_its_replacement_serves() -> None:
    story = a_fleet_that_hands_over(workers=1)

    alone = story.tell(events.WorkerStoppedAccepting(1))
    replaced = story.tell(events.WorkerReady(2, takes_over=True))

    assert only(Drain, alone) == []
    assert [(order.number, order.seconds, order.hand_over) for order in only(Drain, replaced)] == [(1, 30.0, True)]


def test_connections_go_to_nobody_who_is_about_to_leave() -> None:
    story = a_fleet_that_hands_over(workers=2)
    story.tell(events.RecycleRequested(None, "somebody"), events.WorkerReady(3, takes_over=True))

    [first] = only(Drain, story.actions)
    last = story.tell(events.WorkerReady(4, takes_over=False))

    assert first.hand_over
    assert [order.hand_over for order in only(Drain, last)] == [True]  # worker 3 stays
