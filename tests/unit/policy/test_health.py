from prefork.policy import events
from prefork.policy.actions import Action, Drain, Dump, Kill, Report, Spawn
from tests.unit.policy.story import Story, a_serving_fleet, only, orders, subjects


def test_a_worker_that_stops_beating_shows_its_stacks_and_is_killed_and_replaced_at_once() -> None:
    story = a_serving_fleet(workers=2, heartbeat_timeout=10.0)
    story.look_at_the_clock()

    early = story.wait(9.9, silent=[1])
    late = story.wait(0.2, silent=[1])
    too_late = story.wait(1.0, silent=[1])

    assert early == []
    assert orders(late) == [Dump(1, "no beat for 10 s (heartbeat_timeout); killed in 1 s")]
    assert [order.number for order in only(Kill, too_late)] == [1]
    assert [order.slot for order in only(Spawn, too_late)] == [2]


def test_a_worker_that_beats_again_after_it_has_shown_its_stacks_is_left_alone() -> None:
    story = a_serving_fleet(workers=1, heartbeat_timeout=10.0)
    story.look_at_the_clock()

    late = story.wait(10.1, silent=[1])
    afterwards = story.wait(5.0)
    late_again = story.wait(11.5, silent=[1])

    assert [type(order) for order in late] == [Dump]
    assert afterwards == []
    assert [type(order) for order in orders(late_again)] == [Dump, Kill, Spawn]


def test_a_worker_whose_interpreter_is_held_by_a_late_handler_is_killed_for_that() -> None:
    story = a_serving_fleet(workers=1, handler_timeout=5.0)
    beat = story.now
    story.look_at_the_clock()

    def look(after: float) -> list[Action]:
        story.now = beat + after
        beats, overdue = {1: beat}, {1: "a handler has served 10.0.0.1:5 for 6 s"}
        return orders(story.tell(events.HeartbeatsRead(beats), events.OverdueRead(overdue), events.TimePassed()))

    early, late, too_late = look(1.5), look(2.5), look(3.6)

    reason = "a handler has served 10.0.0.1:5 for 6 s, and its interpreter is held (handler_timeout)"
    assert early == []
    assert late == [Dump(1, f"{reason}; killed in 1 s")]
    assert too_late[0] == Kill(1, reason)
    assert [type(order) for order in too_late] == [Kill, Spawn]


def test_a_late_handler_in_a_worker_that_beats_is_the_workers_own_affair() -> None:
    story = a_serving_fleet(workers=1, handler_timeout=5.0)

    ordered = []
    for _ in range(10):
        story.now += 1.0
        beats = events.HeartbeatsRead({1: story.now})
        ordered += story.tell(beats, events.OverdueRead({1: "a handler is late"}), events.TimePassed())

    assert ordered == []


def test_handlers_are_looked_at_every_second_if_their_time_is_limited() -> None:
    unlimited, limited = a_serving_fleet(workers=1), a_serving_fleet(workers=1, handler_timeout=5.0)

    assert unlimited.supervisor.deadline() > unlimited.now + 1.0
    assert limited.supervisor.deadline() <= limited.now + 1.0


def test_a_stuck_worker_drains_once_somebody_serves_in_its_place() -> None:
    story = a_serving_fleet(workers=2)

    stuck = story.tell(events.WorkerStuck(1, "it has served 10.0.0.1:5 for 9 s"))
    replaced = story.tell(events.WorkerReady(3))
    story.tell(events.WorkerStoppedAccepting(1))
    gone = story.tell(events.WorkerExited(1, "exit status 0"))

    assert subjects(stuck) == ["worker stuck"]
    assert [order.number for order in only(Spawn, stuck)] == [3]
    assert only(Drain, stuck) == []
    drains = [(order.number, order.reason) for order in only(Drain, replaced)]
    assert drains == [(1, "another one serves in its place: it has served 10.0.0.1:5 for 9 s")]
    assert gone == []


def test_a_worker_that_is_stuck_soon_after_its_start_is_no_failed_start() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.WorkerExited(1, "killed by SIGKILL"), events.WorkerReady(2))

    ordered = story.tell(events.WorkerStuck(2, "it has served 10.0.0.1:5 for 9 s"))

    assert [order.number for order in only(Spawn, ordered)] == [3]


def test_stuck_workers_are_replaced_within_the_surge() -> None:
    story = a_serving_fleet(workers=3)

    ordered = story.tell(*(events.WorkerStuck(number, "it has served 10.0.0.1:5 for 9 s") for number in (1, 2, 3)))
    next_ones = story.tell(events.WorkerReady(4))

    assert [order.number for order in only(Spawn, ordered)] == [4]
    assert [order.number for order in only(Drain, next_ones)] == [3]
    assert [order.number for order in only(Spawn, next_ones)] == [5]


def test_what_a_draining_worker_took_with_it_is_told() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.ScaleRequested(1, "uid 0"))

    ordered = story.tell(events.WorkerExited(2, "killed by SIGSEGV", "in flight: 10.0.0.1:5"))

    (gone,) = only(Report, ordered)
    assert (gone.subject, gone.reason) == ("worker gone", "killed by SIGSEGV after serving 5 s")
    assert gone.detail == "in flight: 10.0.0.1:5"


def test_a_beat_from_the_future_keeps_nobody_alive() -> None:
    story = a_serving_fleet(workers=1, heartbeat_timeout=10.0, kill_timeout=100.0)

    ordered = []
    for _ in range(25):
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

    shown = story.wait(20.0)
    ordered = story.wait(1.0)
    later = story.wait(0.5)

    assert [order.number for order in only(Dump, shown)] == [2]
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


def test_each_lost_worker_is_counted_once_by_its_cause() -> None:
    story = a_serving_fleet(workers=3, heartbeat_timeout=10.0)
    story.tell(events.WorkerBroke(1, "its message has no meaning"), events.WorkerExited(1, "killed by SIGKILL"))
    story.tell(events.WorkerExited(2, "exit status 3"))
    story.tell(events.WorkerStoppedAccepting(3), events.WorkerExited(3, "exit status 0"))
    story.tell(events.WorkerReady(4))
    story.wait(12.0, silent=[4])

    assert story.supervisor.losses == {
        "broken channel": 1,
        "exit status 3": 1,
        "stopped accepting": 1,
        "heartbeat timeout": 1,
    }


def test_who_was_told_to_leave_is_not_lost() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.ScaleRequested(1, "prefork scale"), events.WorkerStoppedAccepting(2))
    story.tell(events.WorkerExited(2, "exit status 0"))

    assert story.supervisor.losses == {}


def test_a_fault_of_a_worker_that_drains_is_counted_once_by_its_cause() -> None:
    story = a_serving_fleet(workers=5, drain_timeout=10.0)
    story.tell(events.ScaleRequested(1, "prefork scale"), *map(events.WorkerStoppedAccepting, (2, 3, 4)))
    story.tell(events.WorkerExited(2, "killed by SIGSEGV", "it had accepted 5"))
    story.tell(events.WorkerBroke(3, "its message has no meaning"))
    story.tell(events.WorkerExited(3, "killed by SIGKILL that we sent", "it had accepted 5"))
    story.tell(events.WorkerExited(4, "exit status 0"))
    story.wait(15.0)
    story.tell(events.WorkerExited(5, "killed by SIGKILL that we sent", "it had accepted 5"))

    assert story.supervisor.losses == {"killed by SIGSEGV": 1, "broken channel": 1, "drain timeout": 1}


def test_one_that_left_by_itself_and_then_died_is_one_loss() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.WorkerStoppedAccepting(1), events.WorkerExited(1, "exit status 1", "it had accepted 5"))

    assert story.supervisor.losses == {"stopped accepting": 1}


def test_one_that_is_killed_because_it_boots_too_long_to_drain_is_not_lost() -> None:
    story = a_serving_fleet(workers=1, kill_timeout=5.0)
    story.tell(events.ScaleRequested(2, "prefork scale"), events.ScaleRequested(1, "prefork scale"))
    killed = story.wait(6.0)

    assert [order.number for order in only(Kill, killed)] == [2]
    assert story.supervisor.losses == {}


def test_the_longest_wait_of_a_slot_is_told() -> None:
    story = a_serving_fleet(workers=1)
    before = story.supervisor.longest_wait(story.now)
    story.tell(events.WorkerExited(1, "killed by SIGKILL"), events.WorkerReady(2))
    story.tell(events.WorkerExited(2, "killed by SIGKILL"))

    assert (before, story.supervisor.longest_wait(story.now)) == (0.0, 0.5)


def test_the_time_that_slots_have_waited_is_added_up() -> None:
    story = a_serving_fleet(workers=2)
    story.tell(events.WorkerExited(1, "killed by SIGKILL"), events.WorkerExited(2, "killed by SIGKILL"))
    story.tell(events.WorkerExited(3, "killed by SIGKILL"), events.WorkerExited(4, "killed by SIGKILL"))

    before = story.supervisor.total_wait(story.now)
    meanwhile = story.supervisor.total_wait(story.now + 0.25)
    story.wait(10.0)
    afterwards = story.supervisor.total_wait(story.now + 10.0)

    assert (before, meanwhile, afterwards) == (0.0, 0.5, 1.0)


def test_no_slot_waits_for_its_back_off_while_we_stop() -> None:
    story = a_serving_fleet(workers=1)
    story.tell(events.WorkerExited(1, "killed by SIGKILL"), events.WorkerExited(2, "killed by SIGKILL"))
    story.tell(events.StopRequested(quick=False, origin="SIGTERM"))

    assert story.supervisor.total_wait(story.now + 10.0) == 0.0
