"""The service under a real systemd: what its commands return and when, and what clients notice."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.application import write_application
from tests.support.clients import LineClient, ask_once, eventually, steady_load
from tests.systemd.conftest import ADDRESS, SETTINGS, Service

GATED = """

def wait_for_gate(server):
    open("gate").close()  # until somebody opens its other end

Handler.on_worker_start = staticmethod(wait_for_gate)
"""


@pytest.fixture(autouse=True)
def _as_a_client_in_the_container(service: Service) -> Iterator[None]:
    with service.container.network():
        yield


def kill_main(service: Service, number: signal.Signals) -> str:
    """Send a signal to the master alone; return its pid."""
    pid = service.show("MainPID")
    service.systemctl("kill", "--kill-whom=main", f"--signal={number.name}")
    return pid


@pytest.mark.fault("service-restart")
@pytest.mark.parametrize("unit", ["prefork", "prefork-252"])
def test_it_starts_reloads_restarts_and_stops_by_the_unit(service_of: Callable[[str], Service], unit: str) -> None:
    service = service_of(unit)
    service.systemctl("start")
    assert ask_once(ADDRESS, "version") == "1"
    assert service.show("StatusText") == "serving: 2 of 2 workers, generation 1"
    assert service.show("NFileDescriptorStore") == "1"

    write_application(service.directory, version="2")
    service.systemctl("reload")
    assert {ask_once(ADDRESS, "version") for _ in range(20)} == {"2"}

    with steady_load(ADDRESS) as crowd:
        crowd.wait_for_more()
        service.systemctl("restart")
        crowd.wait_for_more()
    assert crowd.failures == []

    service.systemctl("stop")
    assert (service.show("ActiveState"), service.show("Result")) == ("inactive", "success")
    assert service.show("NFileDescriptorStore") == "0"


def test_it_is_active_when_every_worker_is_ready(service: Service, gate: Path) -> None:
    write_application(service.directory, extra=GATED)
    service.systemctl("start", "--no-block")
    eventually(lambda: service.show("StatusText") == "starting: 0 of 2 workers")

    assert service.show("ActiveState") == "activating"
    with gate.open("w"):
        eventually(lambda: service.show("ActiveState") == "active")
    assert service.show("StatusText").startswith("serving: 2 of 2")


@pytest.mark.fault("notified-reload")
def test_a_reload_of_broken_code_fails_and_the_old_code_serves(service: Service) -> None:
    service.systemctl("start")
    before = service.show("MainPID")
    (service.directory / "app.py").write_text("1 +")

    reloaded = service.container.try_("systemctl", "reload", service.unit)

    assert reloaded.returncode != 0
    assert (service.show("ActiveState"), service.show("MainPID")) == ("active", before)
    assert "the last reload failed: importing app failed: SyntaxError" in service.show("StatusText")
    assert ask_once(ADDRESS, "version") == "1"


@pytest.mark.fault("notified-reload")
def test_with_notify_reload_a_reload_lasts_until_the_new_code_serves(service: Service) -> None:
    service.change_unit("Type=notify-reload\nExecReload=\n")
    service.systemctl("start")
    write_application(service.directory, version="2")
    service.systemctl("reload")
    assert {ask_once(ADDRESS, "version") for _ in range(20)} == {"2"}

    (service.directory / "app.py").write_text("1 +")
    service.systemctl("reload")  # which cannot say more than that it has ended
    assert "the last reload failed" in service.show("StatusText")
    assert service.show("ActiveState") == "active"


def test_a_reload_asked_for_with_prefork_is_seen_by_systemd(service: Service) -> None:
    service.systemctl("start")

    service.container.run("/srv/shop/venv/bin/prefork", "reload", "--pid", service.show("MainPID"))

    eventually(lambda: service.show("StatusText") == "serving: 2 of 2 workers, generation 2")
    assert service.show("ActiveState") == "active"


def test_an_upgrade_makes_the_new_master_the_main_process_which_restarts_like_any_other(service: Service) -> None:
    service.systemctl("start")
    before = service.show("MainPID")
    with steady_load(ADDRESS) as crowd:
        crowd.wait_for_more()
        # Not from within the unit, whose program has only the rights of the unit: an operator does it from outside.
        service.container.run("/srv/shop/venv/bin/prefork", "upgrade", "--pid", before)
        eventually(lambda: service.show("MainPID") not in (before, "0"))
        crowd.wait_for_more()
        assert service.show("ActiveState") == "active"
        eventually(lambda: service.show("StatusText") == "serving: 2 of 2 workers, generation 1")
        write_application(service.directory, version="2")
        service.systemctl("reload")
        service.systemctl("restart")
        crowd.wait_for_more()

    assert crowd.failures == []
    assert ask_once(ADDRESS, "version") == "2"
    assert service.show("NRestarts") == "0"


@pytest.mark.fault("service-restart")
def test_the_death_of_the_master_refuses_nobody(service: Service) -> None:
    service.systemctl("start")
    with steady_load(ADDRESS) as crowd:
        for _ in range(3):
            crowd.wait_for_more()
            before = kill_main(service, signal.SIGKILL)
            eventually(lambda before=before: service.show("MainPID") not in (before, "0"))  # type: ignore[misc]  # a default binds it
        crowd.wait_for_more()

    refused = [failure for failure in crowd.failures if "Refused" in failure]
    assert refused == []
    assert len(crowd.failures) <= 3 * 8, "more than the ones that were being served"


@pytest.mark.fault("stopped-master")
def test_a_master_that_has_stopped_is_restarted_by_the_watchdog(service: Service) -> None:
    service.change_unit("WatchdogSec=4\n")
    service.systemctl("start")
    before = kill_main(service, signal.SIGSTOP)
    with LineClient(ADDRESS) as client:
        client.ask("echo served meanwhile")

    eventually(lambda: service.show("MainPID") not in (before, "0") and service.show("ActiveState") == "active")
    assert ask_once(ADDRESS, "version") == "1"
    eventually(lambda: "Watchdog timeout" in service.container.journal())


def test_a_connection_to_a_socket_unit_starts_the_service_which_has_other_listeners_too(service: Service) -> None:
    service.settings(SETTINGS.replace('bind = ["', 'bind = ["systemd:web", "'))
    service.container.run("systemctl", "start", "prefork@shop.socket")

    assert ask_once(("127.0.0.1", 80), "echo low") == "low"
    assert ask_once(ADDRESS, "echo high") == "high"
    with steady_load(("127.0.0.1", 80)) as crowd:
        crowd.wait_for_more()
        service.systemctl("restart")
        crowd.wait_for_more()
    assert crowd.failures == []


def test_wrong_settings_are_not_tried_again(service: Service) -> None:
    service.settings("workers = 'many'\n")

    assert service.container.try_("systemctl", "start", service.unit).returncode != 0
    assert (service.show("ActiveState"), service.show("NRestarts")) == ("failed", "0")
    assert service.show("ExecMainStatus") == "2"


def test_the_application_is_confined(service: Service) -> None:
    service.systemctl("start")

    with LineClient(ADDRESS) as client:
        assert client.ask("eval os.getuid() != 0") == "True"
        assert client.ask("eval os.access('/srv/shop', os.W_OK), os.path.exists('/proc/1')") == "(False, False)"
        variables = "('LISTEN_', 'NOTIFY_', 'WATCHDOG_', 'FDSTORE')"
        assert client.ask(f"eval [name for name in os.environ if name.startswith({variables})]") == "[]"
    assert os.path.exists("/proc/1")
