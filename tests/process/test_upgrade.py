"""Upgrades: a new master takes the listeners over and the old one leaves; or it fails and nothing has changed."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from prefork.errors import NotDone
from prefork.testing import Server
from tests.process.conftest import Serve
from tests.process.test_control import control, order_on_a_terminal, prefork
from tests.process.test_deaths import children_of, wait_for_end
from tests.support.application import write_application
from tests.support.clients import LineClient, ask_once, eventually, steady_load


def upgrade(server: Server) -> int:
    """Upgrade a server as an operator does; return the pid of its successor."""
    done = control(server, "upgrade", "--json")
    assert done.returncode == 0, done.stderr
    pid = json.loads(done.stdout)["result"]["pid"]
    assert isinstance(pid, int)
    return pid


@contextmanager
def stopping(pid: int) -> Iterator[int]:
    """End a successor after the test; it is nobody's child but ours once its predecessor has left."""
    process = os.pidfd_open(pid)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):  # it may have left by itself
            signal.pidfd_send_signal(process, signal.SIGTERM)
        waiting = select.poll()
        waiting.register(process, select.POLLIN)
        assert waiting.poll(30_000), f"the successor {pid} does not leave"
        os.close(process)


def test_an_upgrade_shows_its_progress_on_a_terminal(serve: Serve) -> None:
    with serve(workers=2) as server:
        printed, shown = order_on_a_terminal(server, "upgrade")
        with stopping(int(printed.removeprefix("upgraded: process ").removesuffix(" serves\n"))):
            assert server.process.wait(30) == 0

    assert "\n" not in shown
    assert any(re.match(r"upgrading \d+s \| .* \| ", line) for line in shown.split("\r")), shown


def test_upgrades_under_load_lose_no_request(serve: Serve, project: Path) -> None:
    with serve(workers=2) as server, steady_load(server.address) as crowd:
        crowd.wait_for_more()
        write_application(project, version="2")
        with stopping(upgrade(server)) as pid:
            assert server.process.wait(30) == 0
            crowd.forget()
            crowd.wait_for_more()
            second = prefork("upgrade", "--pid", str(pid), "--json")
            with stopping(json.loads(second.stdout)["result"]["pid"]):
                wait_for_end([pid])
                crowd.wait_for_more()
                assert crowd.failures == []
                assert set(crowd.answers) == {"2"}


@pytest.mark.parametrize("bind", ["unix:app.sock", "unix:@prefork-test-upgrade", "fd://{fd}"])
def test_every_kind_of_listener_is_taken_over(serve: Serve, bind: str) -> None:
    with ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as passed:
            descriptor = passed.fileno()
            server = stack.enter_context(
                serve(workers=1, bind=[bind.format(fd=descriptor)], pass_descriptors=[descriptor])
            )
        address = server.address
        with stopping(upgrade(server)):
            assert server.process.wait(30) == 0
            assert ask_once(address, "version") == "1"


def test_a_datagram_is_answered_before_and_after(serve: Serve) -> None:
    with serve(target="app:Datagrams", workers=1, bind=["udp://127.0.0.1:0"]) as server:
        address = server.address
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(30)
            client.connect(address)
            with stopping(upgrade(server)):
                assert server.process.wait(30) == 0
                client.send(b"x")
                assert client.recv(100) == b"1 x"


def test_an_open_connection_is_served_to_its_end_by_the_old_one(serve: Serve) -> None:
    with serve(workers=1) as server, LineClient(server.address) as client:
        before = client.ask("pid")
        with stopping(upgrade(server)):
            assert client.ask("pid") == before
            eventually(lambda: client.ask("draining") == "True")
            eventually(lambda: ask_once(server_address(client), "pid") != before)
            client.close()
            assert server.process.wait(30) == 0


def server_address(client: LineClient) -> tuple[str, int]:
    host, port = client._socket.getpeername()
    return host, port


def test_a_signal_upgrades(serve: Serve) -> None:
    with serve(workers=1) as server:
        address = server.address
        server.signal(signal.SIGUSR2)
        server.wait_for_log("upgrade complete")
        started = server.wait_for_log(" ready: ", count=2)
        pid = int(re.search(r"pid=(\d+)", started)[1])  # type: ignore[index]
        with stopping(pid):
            assert server.process.wait(30) == 0
            assert ask_once(address, "version") == "1"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ("syntax", "SyntaxError"),
        ("exits", "exit status 7"),
        ("options", "prefork.toml:1: unknown key 'wrokers'"),
        ("busy", "cannot bind"),
    ],
)
def test_a_successor_that_fails_changes_nothing(serve: Serve, project: Path, change: str, cause: str) -> None:
    with serve(workers=2, bind=["unix:app.sock"]) as server, steady_load(server.address) as crowd:
        crowd.wait_for_more()
        match change:
            case "syntax":
                write_application(project, version="2", extra="\n)\n")
            case "exits":
                write_application(project, version="2", extra="\nimport os\nos._exit(7)\n")
            case "options":
                (project / "prefork.toml").write_text("wrokers = 3\n")
            case "busy":
                (project / "prefork.toml").write_text('control = "app.sock"\n')
        failed = control(server, "upgrade")

        assert failed.returncode == 1
        assert cause in failed.stderr
        crowd.forget()
        crowd.wait_for_more()
        assert set(crowd.answers) == {"1"}
        assert crowd.failures == []

        write_application(project, version="3")
        (project / "prefork.toml").unlink(missing_ok=True)
        with stopping(upgrade(server)):
            assert server.process.wait(30) == 0
            assert crowd.failures == []


def test_an_upgrade_can_be_tried_again_as_soon_as_it_has_failed(serve: Serve, project: Path) -> None:
    with serve(workers=1) as server:
        write_application(project, extra="\n)\n")
        causes = [cause_of_failure(server) for _ in range(5)]
        write_application(project, version="2")
        with stopping(server._ask({"command": "upgrade"})["pid"]):
            assert server.process.wait(30) == 0

        assert [cause for cause in causes if "SyntaxError" not in cause] == []


def cause_of_failure(server: Server) -> str:
    with pytest.raises(NotDone) as failure:
        server._ask({"command": "upgrade"})
    return f"{failure.value}\n{failure.value.detail}"


@pytest.mark.fault("hanging-start")
def test_a_successor_that_never_gets_ready_is_given_up(serve: Serve, project: Path) -> None:
    with serve(workers=1, boot_timeout=5) as server:
        write_application(project, extra="\nimport threading\nthreading.Event().wait()\n")
        failed = control(server, "upgrade")

        assert failed.returncode == 1
        assert "boot_timeout" in failed.stderr
        assert ask_once(server.address, "version") == "1"


def test_a_stop_wins_over_an_upgrade(serve: Serve, project: Path) -> None:
    with serve(workers=1) as server:
        write_application(project, extra="\nimport threading\nthreading.Event().wait()\n")
        before = children_of(server.pid)
        server.signal(signal.SIGUSR2)
        server.wait_for_log("starting mold", count=2)
        (successor,) = set(children_of(server.pid)) - set(before)

        assert server.stop() == 0
        assert "upgrade failed: we are stopping" in server.log
        assert not Path(f"/proc/{successor}").exists()


def test_a_killed_predecessor_leaves_its_successor_serving(serve: Serve, project: Path) -> None:
    with serve(workers=1) as server:
        address = server.address
        write_application(project, version="2", extra="\nimport time\ntime.sleep(0.5)\n")
        server.signal(signal.SIGUSR2)
        server.wait_for_log("starting mold", count=2)
        left = children_of(server.pid)
        server.process.kill()
        started = server.wait_for_log(" ready: ", count=2)
        with stopping(int(re.search(r"pid=(\d+)", started)[1])) as successor:  # type: ignore[index]
            assert ask_once(address, "version") == "2"
            wait_for_end([pid for pid in left if pid != successor])


def test_the_control_file_is_handed_over(serve: Serve, project: Path) -> None:
    path = project / "control.sock"
    with serve(workers=1, control=str(path), wait_until_ready=False) as server:
        server.wait_for_log(" ready: ")
        done = prefork("upgrade", "--control", str(path), "--json")
        assert done.returncode == 0, done.stderr
        with stopping(json.loads(done.stdout)["result"]["pid"]) as pid:
            assert server.process.wait(30) == 0
            status = prefork("status", "--control", str(path), "--json")
            assert json.loads(status.stdout)["pid"] == pid
        assert not path.exists()


def test_new_binds_are_opened_and_dropped_ones_are_served_to_their_end(serve: Serve, project: Path) -> None:
    config = project / "prefork.toml"
    config.write_text('bind = ["unix:old.sock", "unix:both.sock"]\n')
    command = [sys.executable, "-m", "prefork", "run", "app:Handler", "-w", "1"]
    with subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if " ready: " in line)
        config.write_text('bind = ["unix:new.sock", "unix:both.sock"]\n')
        done = prefork("upgrade", "--pid", str(process.pid), "--json")
        assert done.returncode == 0, done.stderr
        with stopping(json.loads(done.stdout)["result"]["pid"]):
            assert process.wait(30) == 0
            assert [ask_once(str(project / name), "version") for name in ("new.sock", "both.sock")] == ["1", "1"]
            assert not (project / "old.sock").exists()
        assert not (project / "both.sock").exists()


CONSOLE_SCRIPT = "from prefork.cli.main import main\nraise SystemExit(main())\n"
NEWER_SCRIPT = f'#!/bin/sh\nRELEASE=new exec {sys.executable} -m prefork "$@"\n'


def test_a_command_behind_a_link_that_was_switched_is_run_by_the_interpreter_that_it_names(project: Path) -> None:
    old, new, link = project / "old", project / "new", project / "current"
    for directory, script in ((old, f"#!{sys.executable}\n{CONSOLE_SCRIPT}"), (new, NEWER_SCRIPT)):
        directory.mkdir()
        (directory / "prefork").write_text(script)
        (directory / "prefork").chmod(0o755)
    link.symlink_to(old)
    command = [str(link / "prefork"), "run", "app:Handler", "-w", "1", "-b", "unix:socket"]
    with subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if " ready: " in line)
        before = ask_once(str(project / "socket"), "eval os.environ.get('RELEASE')")
        link.unlink()
        link.symlink_to(new)
        done = prefork("upgrade", "--pid", str(process.pid), "--json")
        assert done.returncode == 0, done.stderr
        with stopping(json.loads(done.stdout)["result"]["pid"]):
            assert process.wait(30) == 0
            after = ask_once(str(project / "socket"), "eval os.environ.get('RELEASE')")

    assert (before, after) == ("None", "new")
