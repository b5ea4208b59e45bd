import math

import pytest

from prefork.policy import events
from prefork.policy.actions import Drain, Spawn
from prefork.policy.events import WorkerLoad
from prefork.policy.fleet import FleetSettings
from tests.unit.policy.story import Story, make_settings, only, subjects


def an_adaptive_fleet(workers: int, least: int, most: int, **settings: float) -> Story:
    story = Story(make_settings(workers, min_workers=least, max_workers=most, **settings))
    story.start()
    return story


def bring_up(story: Story) -> None:
    """Let everybody who starts be ready, and everybody who drains leave."""
    for worker in story.supervisor.workers():
        if worker.state == "starting":
            story.tell(events.WorkerReady(worker.number))
        elif worker.state == "draining":
            story.tell(
                events.WorkerStoppedAccepting(worker.number), events.WorkerExited(worker.number, "exit status 0")
            )


def numbers_wanted(story: Story, readings: int) -> list[int]:
    """The wanted number after each reading, with workers that boot in no time."""
    wanted = []
    for _ in range(readings):
        story.read_load()
        bring_up(story)
        wanted.append(story.supervisor.wanted)
    return wanted


@pytest.mark.parametrize(("busy", "wanted"), [(0.51, [3, 4, 4]), (0.5, [2, 2, 2])])
def test_busy_workers_get_company_up_to_max_workers(busy: float, wanted: list[int]) -> None:
    story = an_adaptive_fleet(2, least=2, most=4)
    story.load = WorkerLoad(busy=busy)

    assert numbers_wanted(story, 3) == wanted


def test_the_log_says_why_there_are_more() -> None:
    story = an_adaptive_fleet(2, least=1, most=4)
    story.load = WorkerLoad(busy=0.75)

    ordered = story.read_load()

    assert ordered[0].reason == "workers are 75% busy; 3 workers wanted instead of 2"
    assert len(only(Spawn, ordered)) == 1


def test_who_is_starting_is_waited_for() -> None:
    story = an_adaptive_fleet(2, least=2, most=8)
    story.load = WorkerLoad(busy=1.0)
    story.read_load()

    assert story.wait(20.0) == []


def test_the_busy_average_counts_and_not_one_worker() -> None:
    story = an_adaptive_fleet(2, least=1, most=4)
    story.loads = {1: WorkerLoad(busy=0.9), 2: WorkerLoad(busy=0.0)}

    assert numbers_wanted(story, 20) == [2] * 20


def test_ten_calm_readings_in_a_row_remove_one_down_to_min_workers() -> None:
    story = an_adaptive_fleet(3, least=1, most=4)
    story.wait(1.0)
    story.load = WorkerLoad(busy=0.1)
    start = len(story.actions)

    wanted = numbers_wanted(story, 40)

    assert wanted == [3] * 9 + [2] * 10 + [1] * 21
    assert len(only(Drain, story.actions[start:])) == 2


def test_one_busier_reading_begins_the_count_anew() -> None:
    story = an_adaptive_fleet(2, least=1, most=4)
    story.wait(1.0)

    for _ in range(5):
        story.load = WorkerLoad(busy=0.1)
        numbers_wanted(story, 9)
        story.load = WorkerLoad(busy=0.4)
        numbers_wanted(story, 1)

    assert story.supervisor.wanted == 2


def test_a_removal_that_is_regretted_lengthens_the_wait_for_the_next() -> None:
    story = an_adaptive_fleet(2, least=1, most=2)

    waits = []
    for _ in range(6):
        story.load = WorkerLoad(busy=0.1)
        wanted = numbers_wanted(story, 200)
        waits.append(wanted.index(1) + 1)
        story.supervisor._fleet.demand.readings_since_removal = 1
        story.load = WorkerLoad(busy=0.9)
        numbers_wanted(story, 1)

    assert waits == [10, 20, 40, 80, 160, 160]


def test_a_growth_long_after_a_removal_makes_the_wait_short_again() -> None:
    story = an_adaptive_fleet(2, least=1, most=2)
    story.supervisor._fleet.demand.patience = 20
    story.load = WorkerLoad(busy=0.1)
    numbers_wanted(story, 100)

    story.load = WorkerLoad(busy=0.9)
    numbers_wanted(story, 1)
    story.load = WorkerLoad(busy=0.1)

    assert numbers_wanted(story, 10) == [2] * 9 + [1]


def test_a_queue_that_grows_gets_help_before_the_last_help_is_ready() -> None:
    story = an_adaptive_fleet(2, least=1, most=5)

    wanted = []
    for story.queued in (3, 5, 9, 9, 8):
        story.read_load()
        wanted.append(story.supervisor.wanted)

    assert wanted == [2, 3, 4, 5, 5]
    assert story.numbers() == [1, 2, 3, 4, 5]


def test_a_queue_of_one_for_each_worker_is_no_jam() -> None:
    story = an_adaptive_fleet(2, least=2, most=4)
    story.queued = 2

    assert numbers_wanted(story, 20) == [2] * 20


def test_a_queue_is_no_calm() -> None:
    story = an_adaptive_fleet(2, least=1, most=4)
    story.load, story.queued = WorkerLoad(busy=0.0), 1

    assert numbers_wanted(story, 20) == [2] * 20


def test_an_operator_may_leave_the_bounds_and_is_obeyed() -> None:
    story = an_adaptive_fleet(2, least=2, most=4)
    story.load = WorkerLoad(busy=0.1)

    ordered = story.tell(events.ScaleRequested(8, "uid 0"))
    bring_up(story)

    assert ordered[0].reason.endswith("8 workers instead of 2; this is held, being outside of 2 to 4")
    assert numbers_wanted(story, 40) == [8] * 40


def test_a_number_ordered_within_the_bounds_is_adapted_again() -> None:
    story = an_adaptive_fleet(2, least=2, most=4)
    story.load = WorkerLoad(busy=0.9)

    story.tell(events.ScaleRequested(1, "uid 0"), events.ScaleRequested(3, "uid 0"))
    bring_up(story)

    assert numbers_wanted(story, 1) == [4]


def test_a_fleet_without_bounds_is_left_alone() -> None:
    story = Story(make_settings(2, max_requests=10**9))
    story.start()
    story.load = WorkerLoad(busy=1.0)

    assert numbers_wanted(story, 20) == [2] * 20


def test_nothing_adapts_during_a_rollout() -> None:
    story = an_adaptive_fleet(2, least=1, most=4, canary_time=60.0)
    story.load = WorkerLoad(busy=0.9)
    story.try_generation(2)
    story.tell(events.WorkerReady(3))

    story.wait(30.0)

    assert story.supervisor.wanted == 2


def test_what_was_read_before_the_master_was_stopped_does_not_count() -> None:
    story = an_adaptive_fleet(2, least=1, most=4)
    story.load = WorkerLoad(busy=0.1)
    numbers_wanted(story, 8)
    story.now += 100.0

    story.look_at_the_clock()

    assert numbers_wanted(story, 8) == [2] * 8


@pytest.mark.parametrize(
    ("new", "wanted"),
    [
        (FleetSettings(workers=2, min_workers=1, max_workers=6), 4),
        (FleetSettings(workers=3, min_workers=1, max_workers=6), 3),
        (FleetSettings(workers=2, min_workers=1, max_workers=3), 3),
        (FleetSettings(workers=2), 2),
    ],
)
def test_a_reload_keeps_the_number_unless_the_settings_say_another(new: FleetSettings, wanted: int) -> None:
    story = an_adaptive_fleet(2, least=1, most=6, canary_time=0.0)
    story.load = WorkerLoad(busy=0.9)
    numbers_wanted(story, 2)
    story.load = WorkerLoad(busy=0.4)

    story.try_generation(2, new)
    story.finish_rollout()

    assert story.supervisor.wanted == wanted


def test_settings_that_need_no_load_any_more_end_the_readings() -> None:
    story = an_adaptive_fleet(2, least=1, most=6, canary_time=0.0)

    story.try_generation(2, FleetSettings(workers=2))
    story.finish_rollout()

    assert story.supervisor.load_due == math.inf


def test_every_change_is_reported() -> None:
    story = an_adaptive_fleet(2, least=2, most=4)
    story.load = WorkerLoad(busy=0.9)
    numbers_wanted(story, 10)

    assert subjects(story.actions).count("scaled") == 2
