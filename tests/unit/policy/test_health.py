from prefork.policy import events
from prefork.policy.actions import Drain, Kill, Report, Spawn
from tests.unit.policy.story import Story, a_serving_fleet, only, subjects


def test_a_worker_that_stops_beating_is_killed_and_replaced_at_once() -> None:
    story = a_serving_fleet(workers=2, heartbeat_timeout=10.0)
    story.look_at_the_clock()

    early = story.wait(9.9, silent=[1])
    late = story.wait(0.2, silent=[1])

    assert early == []
    assert [order.number for order in only(Kill, late)] == [1]
    assert [order.slot for order in only(Spawn, late)] == [2]


def test_a_beat_from_the_future_keeps_nobody_alive() -> None:
    story = a_serving_fleet(workers=1, heartbeat_timeout=10.0, kill_timeout=100.0)

    ordered = []
    for _ in range(30):
        story.now += 0.5
        ordered += story.tell(events.HeartbeatsRead({1: story.now + 1e9}), events.TimePassed())

    assert [order.number for order in only(Kill, ordered)] == [1]


def test_a_worker_that_talks_nonsense_is_killed() -> None:
    story = a_serving_fleet(workers=1)

    ordered = story.tell(events.WorkerBroke(1, "its message has no meaning"))
    again = story.tell(events.WorkerBroke(1, "its message has no meaning"))

    assert [(order.number, order.reason) for order in only(Kill, ordered)] == [(1, "its message has no meaning")]
    assert again == []


def test_who_talks_nonsense_right_after_its_start_is_not_replaced_in_a_storm() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.WorkerExited(1, "killed by SIGKILL"))

    for number in range(2, 30):
        if number in story.numbers():
            story.tell(events.WorkerReady(number), events.WorkerBroke(number, "its message has no meaning"))
            story.tell(events.WorkerExited(number, "killed by SIGKILL"))
        story.wait(0.5)

    assert len(only(Spawn, story.actions)) < 10


def test_a_worker_that_overstays_its_boot_is_killed_and_waited_for() -> None:
    story = a_serving_fleet(workers=1, boot_timeout=20.0)
    story.tell(events.WorkerExited(1, "killed by SIGKILL"))

    ordered = story.wait(20.0)
    later = story.wait(0.5)

    assert [order.number for order in only(Kill, ordered)] == [2]
    assert subjects(ordered) == ["short of workers"]
    assert [order.number for order in only(Spawn, later)] == [3]


def test_a_draining_worker_is_judged_by_the_drain_timeout_alone() -> None:
    story = a_serving_fleet(workers=2, heartbeat_timeout=5.0, drain_timeout=60.0)
    story.tell(events.ScaleRequested(1, "uid 0"))

    in_time = story.wait(61.9, silent=[2])
    late = story.wait(0.2, silent=[2])

    assert only(Kill, in_time) == []
    assert [order.number for order in only(Kill, late)] == [2]


def test_a_worker_that_somebody_else_drains_is_replaced_at_once() -> None:
    story = a_serving_fleet(workers=1)

    ordered = story.tell(events.WorkerStoppedAccepting(1))
    leaving = story.tell(events.WorkerExited(1, "exited with code 0"))

    assert subjects(ordered) == ["worker leaving"]
    assert [(order.number, order.slot) for order in only(Spawn, ordered)] == [(2, 1)]
    assert only(Drain, ordered) == []
    assert leaving == []


def test_a_worker_that_drains_by_itself_has_the_drain_timeout_too() -> None:
    story = a_serving_fleet(workers=1, drain_timeout=30.0)
    story.tell(events.WorkerStoppedAccepting(1))

    in_time = story.wait(31.9)
    late = story.wait(0.2)

    assert 1 not in [order.number for order in only(Kill, in_time)]
    assert 1 in [order.number for order in only(Kill, late)]


def test_workers_that_leave_as_soon_as_they_serve_are_not_replaced_in_a_storm() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.WorkerExited(1, "killed by SIGKILL"))

    for number in range(2, 30):
        if number in story.numbers():
            story.tell(events.WorkerReady(number), events.WorkerStoppedAccepting(number))
            story.tell(events.WorkerExited(number, "exited with code 0"))
        story.wait(0.5)

    assert len(only(Spawn, story.actions)) < 10


def test_exit_codes_mean_nothing() -> None:
    story = a_serving_fleet(workers=1)

    ordered = story.tell(events.WorkerExited(1, "exited with code 3"))

    assert subjects(ordered) == ["worker lost"]
    assert len(only(Spawn, ordered)) == 1


def test_a_worker_that_says_why_it_cannot_boot_is_quoted() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.WorkerExited(1, "killed by SIGKILL"))

    saying = story.tell(events.WorkerFailed(2, "OSError: no space left", "Traceback"))
    leaving = story.tell(events.WorkerExited(2, "exited with code 1"))

    assert saying == []
    lost = only(Report, leaving)[0]
    assert lost.reason == "OSError: no space left; its slot 0 stays empty for 500 ms"
    assert (lost.detail, lost.number) == ("Traceback", 2)


def test_a_lost_worker_is_told_with_its_number_and_its_time() -> None:
    story: Story = a_serving_fleet(workers=1)

    ordered = story.tell(events.WorkerExited(1, "killed by SIGKILL"))

    assert ordered[0].reason == "killed by SIGKILL after serving 5 s; its slot 0 is empty"
