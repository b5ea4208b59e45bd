"""What the service manager is to believe, at each point of a server's life."""

from prefork.policy import events
from prefork.policy.fleet import FleetSettings
from prefork.policy.supervisor import Supervisor

SETTINGS = FleetSettings(workers=1, canary_time=0, boot_timeout=10, drain_delay=3, drain_timeout=30, kill_timeout=5)


def served() -> Supervisor:
    """A fleet of one worker that serves."""
    supervisor = Supervisor(SETTINGS)
    for event in (events.StartRequested(), events.MoldReady(1), events.WorkerReady(1)):
        supervisor.handle(event, 0)
    return supervisor


def test_a_start_may_take_as_long_as_molds_and_workers_may() -> None:
    supervisor = Supervisor(SETTINGS)
    supervisor.handle(events.StartRequested(), 0)

    announced = supervisor.announcement
    assert (announced.state, announced.status) == ("starting", "starting: 0 of 1 workers")
    assert announced.patience >= 3 * 10


def test_a_fleet_that_serves_says_how_many_and_what() -> None:
    announced = served().announcement

    assert (announced.state, announced.status) == ("serving", "serving: 1 of 1 workers, generation 1")
    assert announced.patience == 0


def test_a_worker_that_is_missed_is_missed_in_the_status_and_the_server_stays_ready() -> None:
    supervisor = served()
    supervisor.handle(events.WorkerExited(1, "killed by SIGKILL"), 10)

    assert supervisor.announcement.state == "serving"
    assert supervisor.announcement.status == "serving: 0 of 1 workers, generation 1"


def test_a_drained_fleet_says_so_whatever_else_it_does() -> None:
    supervisor = served()
    supervisor.handle(events.DrainRequested("prefork drain"), 10)
    assert supervisor.announcement.status == "serving: 1 of 1 workers, generation 1, drained (not ready)"
    supervisor.handle(events.ReloadRequested("SIGHUP"), 11)
    assert supervisor.announcement.status.endswith("generation 2 replaces 1, drained (not ready)")


def test_a_reload_says_who_replaces_whom_and_may_take_a_boot_for_each_step() -> None:
    supervisor = served()
    supervisor.handle(events.ReloadRequested("SIGHUP"), 10)

    announced = supervisor.announcement
    assert (announced.state, announced.candidate) == ("reloading", 2)
    assert announced.status == "reloading: 1 of 1 workers, generation 2 replaces 1"
    assert announced.patience >= 5 * 10


def test_a_second_reload_is_another_one() -> None:
    supervisor = served()
    supervisor.handle(events.ReloadRequested("SIGHUP"), 10)
    first = supervisor.announcement
    supervisor.handle(events.ReloadRequested("SIGHUP"), 11)

    assert (first.candidate, supervisor.announcement.candidate) == (2, 3)


def test_after_a_failed_reload_the_first_line_of_the_reason_stays_in_the_status() -> None:
    supervisor = served()
    supervisor.handle(events.ReloadRequested("SIGHUP"), 10)
    supervisor.handle(events.GenerationFailed(2, "workers: must be at least 1\nbind: is empty"), 10)

    expected = "serving: 1 of 1 workers, generation 1; the last reload failed: workers: must be at least 1"
    assert supervisor.announcement.status == expected


def test_a_stop_may_take_as_long_as_delay_drain_and_kill_may() -> None:
    supervisor = served()
    supervisor.handle(events.StopRequested(False, "SIGTERM"), 10)

    announced = supervisor.announcement
    assert (announced.state, announced.status) == ("stopping", "stopping: 1 workers left")
    assert announced.patience >= 3 + 30 + 2 * 5
