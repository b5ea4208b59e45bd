"""The messages to the service manager, from what it was told to what holds."""

import os

from prefork.master.announcer import changes
from prefork.policy.announcement import Announcement

SERVING = Announcement("serving", "serving: 2 of 2 workers, generation 1")
RELOADING = Announcement("reloading", "reloading: 2 of 2 workers, generation 2 replaces 1", 2, 100.0)


def test_ready_comes_with_the_pid_of_the_master() -> None:
    said = list(changes(Announcement("starting", "starting: 1 of 2 workers"), SERVING, 1))

    assert said == ["READY=1", f"MAINPID={os.getpid()}", f"STATUS={SERVING.status}"]


def test_what_is_known_is_not_said_again() -> None:
    assert list(changes(SERVING, SERVING, 1)) == []


def test_a_new_status_alone_says_nothing_else() -> None:
    assert list(changes(SERVING, Announcement("serving", "serving: 1 of 2 workers"), 1)) == [
        "STATUS=serving: 1 of 2 workers"
    ]


def test_a_reload_is_said_with_its_time_and_how_long_it_may_take() -> None:
    said = list(changes(SERVING, RELOADING, 12.5))

    assert said[:3] == ["RELOADING=1", "MONOTONIC_USEC=12500000", "EXTEND_TIMEOUT_USEC=100000000"]


def test_another_reload_in_the_middle_of_one_is_said_anew() -> None:
    another = Announcement("reloading", RELOADING.status, 3, 100.0)

    assert list(changes(RELOADING, another, 13))[:2] == ["RELOADING=1", "MONOTONIC_USEC=13000000"]


def test_a_stop_in_the_middle_of_a_reload_is_a_stop() -> None:
    said = list(changes(RELOADING, Announcement("stopping", "stopping: 2 workers left", None, 45.0), 13))

    assert said == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=45000000", "STATUS=stopping: 2 workers left"]
