"""The files that a server leaves on disk while it runs: its pid file and its socket files."""

import os
import select
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.support.application import write_application
from tests.support.clients import TIME_LIMIT, ask_once, eventually, steady_load


def test_the_pid_file_names_the_master_while_it_runs(serve: Serve, project: Path) -> None:
    with serve(pidfile="run.pid") as server:
        assert (project / "run.pid").read_text() == f"{server.pid}\n"
        assert server.stop() == 0

    assert not (project / "run.pid").exists()


def test_a_second_server_with_the_same_pid_file_is_refused_and_harms_nobody(serve: Serve, project: Path) -> None:
    with serve(pidfile="run.pid") as server:
        command = [sys.executable, "-m", "prefork", "run", "app:Handler", "-b", "127.0.0.1:0", "--pidfile", "run.pid"]
        second = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60, check=False)

        assert second.returncode == 2
        assert f"process {server.pid} has it locked (another server runs; stop it first)" in second.stderr
        assert (project / "run.pid").read_text() == f"{server.pid}\n"
        assert ask_once(server.address, "version") == "1"


def test_a_pid_file_left_by_a_killed_server_is_taken_over(serve: Serve, project: Path) -> None:
    with serve(pidfile="run.pid") as server:
        server.process.kill()
        server.wait()
    assert (project / "run.pid").exists()

    with serve(pidfile="run.pid") as server:
        assert (project / "run.pid").read_text() == f"{server.pid}\n"


def test_another_pid_file_takes_a_restart(serve: Serve, project: Path) -> None:
    settings = project / "prefork.toml"
    settings.write_text('pidfile = "one"\n')
    with serve() as server:
        settings.write_text('pidfile = "two"\n')
        server.reload()
        server.wait_for_log("pidfile not changed: it stays")

        assert ((project / "one").exists(), (project / "two").exists()) == (True, False)


@pytest.mark.fault("socket-file")
def test_a_reload_never_takes_the_socket_file_away(serve: Serve, project: Path) -> None:
    path = project / "socket"
    with serve(bind=[f"unix:{path}"]) as server:
        born = path.stat()
        with steady_load(str(path)) as crowd:
            crowd.wait_for_more()
            write_application(project, version="2")
            server.reload()
            crowd.wait_for_more()

        assert crowd.failures == []
        assert os.path.samestat(path.stat(), born)


@pytest.mark.fault("socket-file")
def test_a_second_server_does_not_take_the_socket_file_of_a_living_one(serve: Serve, project: Path) -> None:
    path = project / "socket"
    with serve(bind=[f"unix:{path}"]) as server:
        command = [sys.executable, "-m", "prefork", "run", "app:Handler", "-b", f"unix:{path}"]
        second = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60, check=False)

        assert second.returncode == 4
        assert "another server listens there" in second.stderr
        assert ask_once(str(path), "pid") in {str(worker["pid"]) for worker in server.workers()}


@pytest.mark.fault("socket-file")
@pytest.mark.parametrize("attempt", range(4))
def test_of_two_servers_that_find_a_stale_socket_file_exactly_one_serves(
    serve: Serve, project: Path, attempt: int
) -> None:
    path = str(project / "socket")
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(path)
    options: dict[str, Any] = {"bind": [f"unix:{path}"], "workers": 1, "wait_until_ready": False}
    with serve(**options) as one, serve(**options) as another:
        loser = first_to_end(one, another)
        winner = another if loser is one else one
        winner.wait_for_log(" ready: ")

        assert loser.wait() == 4, loser.log
        assert ask_once(path, "pid") == str(winner.workers()[0]["pid"])


def first_to_end(*servers: Server) -> Server:
    """Return the first of the servers that has ended."""
    with ExitStack() as handles:
        by_handle = {}
        for server in servers:
            by_handle[os.pidfd_open(server.pid)] = server
            handles.callback(os.close, max(by_handle))
        ended, _, _ = select.select(list(by_handle), [], [], TIME_LIMIT)
    assert ended, "both serve"
    return by_handle[ended[0]]


@pytest.mark.fault("control-client")
@pytest.mark.parametrize("umask", [0, 0o077])
def test_the_control_file_is_private_whatever_the_umask(serve: Serve, project: Path, umask: int) -> None:
    previous = os.umask(umask)
    try:
        command = [sys.executable, "-m", "prefork", "run", "app:Handler", "-b", "127.0.0.1:0", "--control", "control"]
        with subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            next(line for line in server.stderr if " ready: " in line)
            mode = (project / "control").stat().st_mode & 0o777
            server.terminate()
            server.stderr.read()
    finally:
        os.umask(previous)

    assert mode == 0o600


@pytest.mark.fault("control-client")
@pytest.mark.needs("strace")
def test_the_control_file_is_private_from_birth(project: Path) -> None:
    """Each bind returns late, so that the file can be looked at as the kernel made it."""
    slowly = ["strace", "-D", "-f", "-o", "/dev/null", "-e", "trace=bind", "-e", "inject=bind:delay_exit=500000"]
    command = [sys.executable, "-m", "prefork", "run", "app:Handler", "-b", "127.0.0.1:0", "--control", "control"]
    path = project / "control"
    with subprocess.Popen([*slowly, *command], cwd=project, stderr=subprocess.PIPE, text=True, umask=0) as server:
        assert server.stderr is not None
        eventually(path.exists)
        at_birth = path.stat().st_mode & 0o777
        next(line for line in server.stderr if " ready: " in line)
        server.terminate()
        server.stderr.read()

    assert at_birth == 0o600
