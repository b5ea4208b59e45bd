"""What a service manager is told, and what it keeps for us: the contract of sd_notify(3), without systemd."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.test_deaths import children_of, wait_for_end
from tests.support.application import write_application
from tests.support.clients import LineClient, accepts, ask_once, connect, eventually, steady_load
from tests.support.service_manager import ServiceManager

GATED_WORKERS = """

def wait_for_gate(server):
    open("gate").close()  # a fifo: until somebody opens its other end

Handler.on_worker_start = staticmethod(wait_for_gate)
"""


@pytest.fixture
def manager(project: Path) -> Iterator[ServiceManager]:
    """A service manager that keeps descriptors."""
    with ServiceManager(str(project / "notify"), project, {"FDSTORE": "4"}) as manager:
        yield manager


def start(manager: ServiceManager, *words: str, bind: str = "tcp://127.0.0.1:0") -> list[dict[str, str]]:
    """Start two workers; return all that was said until they were ready."""
    manager.start("app:Handler", "-w", "2", "--canary-time", "0.2", "-b", bind, *words)
    return manager.hear_until("READY")


def port_of(manager: ServiceManager) -> tuple[str, int]:
    """Return where the one kept listener can be reached."""
    (descriptor,) = manager.store.values()
    with socket.socket(fileno=os.dup(descriptor)) as kept:
        host, port = kept.getsockname()
        return host, port


@pytest.mark.parametrize("address", ["PATH", "@prefork-notify"])
def test_it_is_told_who_serves_and_how_many(project: Path, address: str) -> None:
    address = str(project / "notify") if address == "PATH" else f"{address}-{os.getpid()}"
    with ServiceManager(address, project, {}) as manager:
        heard = start(manager)

        assert manager.process is not None
        assert heard[-1]["MAINPID"] == str(manager.process.pid)
        assert heard[-1]["STATUS"] == "serving: 2 of 2 workers, generation 1"


@pytest.mark.fault("notified-reload")
def test_ready_is_said_when_every_worker_is_ready_and_not_before(project: Path, manager: ServiceManager) -> None:
    os.mkfifo(project / "gate")
    write_application(project, extra=GATED_WORKERS)
    manager.start("app:Handler", "-w", "2", "-b", "tcp://127.0.0.1:0")

    heard = manager.hear_until("STATUS", "starting: 0 of 2")
    with open(project / "gate", "w"):
        heard += manager.hear_until("READY")
    assert all("READY" not in message for message in heard[:-1])
    assert heard[-1]["STATUS"].startswith("serving: 2 of 2")


def test_a_long_start_asks_for_the_time_that_it_was_allowed(manager: ServiceManager) -> None:
    heard = start(manager, "--boot-timeout", "100")

    assert any(int(message.get("EXTEND_TIMEOUT_USEC", 0)) >= 200e6 for message in heard)


def test_a_reload_is_announced_and_ends_when_the_new_code_serves(project: Path, manager: ServiceManager) -> None:
    start(manager)
    write_application(project, version="2")

    manager.signal(signal.SIGHUP)
    begun = manager.hear_until("RELOADING")[-1]
    ended = manager.hear_until("READY")[-1]

    assert int(begun["MONOTONIC_USEC"]) > 0
    assert ended["STATUS"] == "serving: 2 of 2 workers, generation 2"
    assert ask_once(port_of(manager), "version") == "2"


@pytest.mark.fault("notified-reload")
@pytest.mark.parametrize("broken", ["code", "settings"])
def test_a_failed_reload_ends_too_and_the_status_says_why(project: Path, manager: ServiceManager, broken: str) -> None:
    start(manager)
    (project / ("app.py" if broken == "code" else "prefork.toml")).write_text("1 +")

    manager.signal(signal.SIGHUP)
    manager.hear_until("RELOADING")
    ended = manager.hear_until("READY")[-1]

    assert ended["STATUS"].startswith("serving: 2 of 2 workers, generation 1; the last reload failed: ")
    assert ask_once(port_of(manager), "version") == "1"


@pytest.mark.fault("notified-reload")
def test_a_reload_whose_workers_never_get_ready_lasts_until_it_is_given_up(
    project: Path, manager: ServiceManager
) -> None:
    start(manager, "--boot-timeout", "6")
    os.mkfifo(project / "gate")
    write_application(project, version="2", extra=GATED_WORKERS)

    manager.signal(signal.SIGHUP)
    manager.hear_until("RELOADING")
    ended = manager.hear_until("READY")[-1]

    assert ended["STATUS"].startswith("serving: 2 of 2 workers, generation 1; the last reload failed: ")
    assert ask_once(port_of(manager), "version") == "1"


def test_a_stop_is_announced_with_the_time_that_it_may_take(manager: ServiceManager) -> None:
    start(manager, "--drain-timeout", "50")
    with LineClient(port_of(manager)) as client:
        client.ask("echo x")
        manager.signal(signal.SIGTERM)
        stopping = manager.hear_until("STOPPING")[-1]

    assert int(stopping["EXTEND_TIMEOUT_USEC"]) >= 50e6
    assert stopping["STATUS"] == "stopping: 2 workers left"
    assert manager.wait() == 0


def test_signs_of_life_come_from_a_master_that_runs_and_from_no_other(project: Path) -> None:
    with ServiceManager(str(project / "notify"), project, {"WATCHDOG_USEC": "400000"}) as manager:
        start(manager)
        for _ in range(3):
            manager.hear_until("WATCHDOG")
        manager.signal(signal.SIGSTOP)

        manager.hear_nothing_but(["WATCHDOG", "STATUS"], seconds=1)  # what had been sent before it stopped
        assert manager.hear_nothing_but([], seconds=1)
        manager.signal(signal.SIGCONT)
        manager.hear_until("WATCHDOG")


def test_nobody_waits_for_a_service_manager_that_does_not_read(project: Path, manager: ServiceManager) -> None:
    manager.fill()
    listener = project / "socket"
    manager.start("app:Handler", "-w", "2", "-b", f"unix:{listener}")
    eventually(lambda: accepts(listener))

    assert ask_once(str(listener), "echo served") == "served"
    heard = manager.hear_until("READY")
    assert any(message.get("STATUS", "").startswith("starting") for message in heard)


@pytest.mark.fault("environment")
def test_neither_application_nor_its_programs_see_what_the_service_manager_said(manager: ServiceManager) -> None:
    start(manager)
    theirs = "('LISTEN_', 'NOTIFY_', 'WATCHDOG_', 'FDSTORE')"
    program = "__import__('subprocess').check_output(['env']).decode().split()"

    with LineClient(port_of(manager)) as client:
        assert client.ask(f"eval [name for name in os.environ if name.startswith({theirs})]") == "[]"
        assert client.ask(f"eval [line for line in {program} if line.startswith({theirs})]") == "[]"


@pytest.mark.fault("service-restart")
@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "unix:socket"])
def test_after_the_death_of_the_master_the_next_start_serves_who_waited(
    project: Path, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch, bind: str
) -> None:
    monkeypatch.chdir(project)
    start(manager, bind=bind)
    address = "socket" if bind == "unix:socket" else port_of(manager)
    assert manager.process is not None
    orphans = children_of(manager.process.pid)
    manager.signal(signal.SIGKILL)
    manager.wait()
    wait_for_end(orphans)
    with connect(address) as waiting:
        waiting.sendall(b"echo hello\n")
        start(manager, bind=bind)

        assert waiting.makefile().readline() == "hello\n"
    assert "kept since the last start" in manager.log()


@pytest.mark.fault("service-restart")
@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "unix:socket"])
def test_a_restart_refuses_nobody(
    project: Path, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch, bind: str
) -> None:
    monkeypatch.chdir(project)
    start(manager, bind=bind)
    address = "socket" if bind == "unix:socket" else port_of(manager)
    with steady_load(address) as crowd:
        crowd.wait_for_more()
        manager.signal(signal.SIGTERM)
        assert manager.wait() == 0
        start(manager, bind=bind)
        crowd.wait_for_more()

    assert crowd.failures == []


def test_after_an_upgrade_the_new_master_speaks_and_has_the_pid_file(project: Path, manager: ServiceManager) -> None:
    start(manager, "--pidfile", "pid")
    assert manager.process is not None
    manager.signal(signal.SIGUSR2)
    new = manager.hear_until("MAINPID")[-1]["MAINPID"]
    ready = manager.hear_until("READY")[-1]
    process = os.pidfd_open(int(new))

    assert new != str(manager.process.pid)
    assert ready["MAINPID"] == new
    assert manager.wait() == 0
    eventually(lambda: (project / "pid").read_text() == f"{new}\n")
    assert ask_once(port_of(manager), "version") == "1"
    signal.pidfd_send_signal(process, signal.SIGTERM)
    manager.hear_until("STOPPING")
    assert select.select([process], [], [], 30)[0] == [process]
    os.close(process)
    assert not (project / "pid").exists()


def test_a_kept_listener_adds_up_with_other_binds(project: Path, manager: ServiceManager) -> None:
    start(manager, "-b", f"unix:{project}/socket")
    manager.signal(signal.SIGKILL)
    manager.wait()
    start(manager, "-b", f"unix:{project}/socket", "-b", "udp://127.0.0.1:0", bind=f"unix:{project}/another")

    assert len(manager.store) == 3, "the TCP listener is dropped, two new ones are kept"
    assert manager.log().count("kept since the last start") == 1
    assert [ask_once(f"{project}/{name}", "version") for name in ("socket", "another")] == ["1", "1"]


def test_all_sockets_of_one_place_are_kept(project: Path, manager: ServiceManager) -> None:
    start(manager, bind="udp://127.0.0.1:0?sockets=3")
    names = set(manager.store)
    manager.signal(signal.SIGKILL)
    manager.wait()
    start(manager, bind="udp://127.0.0.1:0?sockets=3")

    assert set(manager.store) == names
    assert len(names) == 3
    assert manager.log().count("kept since the last start") == 3


def test_a_listener_that_a_reload_drops_is_not_kept_any_more(project: Path, manager: ServiceManager) -> None:
    settings = project / "prefork.toml"
    settings.write_text(f'bind = ["tcp://127.0.0.1:0", "unix:{project}/socket"]\ncanary_time = 0\n')
    manager.start("app:Handler", "-w", "1")
    manager.hear_until("READY")
    assert len(manager.store) == 2
    settings.write_text('bind = ["tcp://127.0.0.1:0"]\ncanary_time = 0\n')

    manager.signal(signal.SIGHUP)
    manager.hear_until("FDSTOREREMOVE")

    assert [name.partition("%")[0] for name in manager.store] == ["bind=tcp"]


def test_a_socket_file_that_was_replaced_meanwhile_is_not_taken_for_ours(
    project: Path, manager: ServiceManager
) -> None:
    path = project / "socket"
    start(manager, bind=f"unix:{path}")
    manager.signal(signal.SIGKILL)
    manager.wait()
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
    start(manager, bind=f"unix:{path}")

    assert ask_once(str(path), "echo here") == "here"
    assert "kept since the last start" not in manager.log()


def test_more_listeners_than_are_kept_are_served_and_warned_about(project: Path) -> None:
    with ServiceManager(str(project / "notify"), project, {"FDSTORE": "1"}) as manager:
        start(manager, "-b", f"unix:{project}/socket")

        assert len(manager.store) == 1
        assert ask_once(str(project / "socket"), "version") == "1"
        assert "raise FileDescriptorStoreMax" in manager.log()


@pytest.mark.parametrize(
    ("variable", "value"), [("WATCHDOG_USEC", "soon"), ("FDSTORE", "-1"), ("NOTIFY_SOCKET", "notify")]
)
def test_a_service_manager_that_makes_no_sense_is_an_error(project: Path, variable: str, value: str) -> None:
    with ServiceManager(str(project / "notify"), project, {variable: value}) as manager:
        manager.start("app:Handler")

        assert manager.wait() == 2


@pytest.mark.fault("environment")
def test_descriptors_that_cannot_be_counted_are_an_error(project: Path) -> None:
    command = [sys.executable, "-m", "prefork", "run", "app:Handler", "-b", "127.0.0.1:0"]
    environment = {**os.environ, "LISTEN_FDS": "abc"}
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 2
    assert "LISTEN_FDS must be a number, not 'abc'" in done.stderr
