"""Faults of the machine: its clock, its processors, its file systems."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.test_processes import be_served_for_a_while
from tests.process.conftest import Serve
from tests.process.test_control import control
from tests.process.test_deaths import pids_of, serve_for_a_while
from tests.support import tools
from tests.support.application import write_application
from tests.support.clients import ask_once, eventually, steady_load
from tests.support.flakes import BUSY


def faketime_library() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        tools.unavailable("faketime not installed (tests/setup installs it)")
    return found[0]


@pytest.mark.fault("clock")
def test_a_clock_that_jumps_changes_nothing(serve: Serve, tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0h")
    faking = {
        "LD_PRELOAD": str(faketime_library()),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    with serve(workers=2, env=faking) as server, steady_load(server.address) as crowd:
        serve_for_a_while(server)
        pids = pids_of(server)
        for jump in ("+1h", "-1h", "+30d"):
            clock.write_text(jump)
            be_served_for_a_while(server.address)
            eventually(lambda: "serving" in server.status()["state"])

        assert pids_of(server) == pids
        assert float(ask_once(server.address, "eval time.time()")) > time.time() + 29 * 24 * 3600
        server.reload()
        assert crowd.failures == []
        warnings = [line for line in server.log.splitlines() if " WARN" in line]
        assert [line for line in warnings if "deadlines moved" not in line] == []  # that is measured by another clock


@pytest.mark.fault("starvation")
def test_starved_workers_are_not_taken_for_dead(serve: Serve) -> None:
    with serve(workers=4) as server, busy_loops(16), steady_load(server.address) as crowd:
        pids = pids_of(server)
        for _ in range(10):
            crowd.wait_for_more(100)
        server.reload()
        for _ in range(10):
            crowd.wait_for_more(100)

        assert crowd.failures == []
        assert not set(pids) & set(pids_of(server))
        assert "killing" not in server.log
        assert "worker lost" not in server.log


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.mark.fault("crippled-machine")
@pytest.mark.root
@pytest.mark.needs("unshare", "mount")
@pytest.mark.parametrize(
    "spoil",
    [
        "mount -t tmpfs -o size=4k tmpfs /dev/shm && ! head -c 100k /dev/zero > /dev/shm/full 2> /dev/null",
        "mount -t tmpfs -o ro tmpfs /tmp-of-test",
        "mount -t proc -o subset=pid,hidepid=2 proc /proc",
        "mount --bind . . && mount -o remount,bind,ro / && cd $PWD && ! touch /prefork-test 2> /dev/null",
    ],
    ids=["/dev/shm full", "no temporary directory", "/proc hidden", "read-only root"],
)
def test_it_starts_serves_and_reloads_on_a_crippled_machine(project: Path, spoil: str) -> None:
    readonly = project / "readonly"
    readonly.mkdir()
    script = f"{spoil.replace('/tmp-of-test', str(readonly))} && exec {sys.executable} -m prefork run app:Handler -w 2"
    environment = {**os.environ, "TMPDIR": str(readonly), "PREFORK_CANARY_TIME": "0", "PREFORK_BIND": "unix:socket"}
    command = ["unshare", "--mount", "sh", "-c", script]
    server = subprocess.Popen(command, cwd=project, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        next(line for line in server.stderr if " ready: " in line)
        assert ask_once(str(project / "socket"), "version") == "1"
        write_application(project, version="2")
        os.kill(server.pid, 1)
        next(line for line in server.stderr if "reload complete" in line)
        assert ask_once(str(project / "socket"), "version") == "2"
        server.terminate()
        rest = server.stderr.read()

        assert server.wait(30) == 0, rest
        server.stderr.close()
    finally:
        server.kill()
        server.wait()


@pytest.mark.fault("moved-code")
def test_a_directory_that_is_gone_fails_the_reload_and_nothing_else(serve: Serve, project: Path) -> None:
    home = project / "home"
    home.mkdir()
    write_application(home)
    with serve(workers=2, chdir=str(home)) as server, steady_load(server.address) as crowd:
        shutil.rmtree(home)
        failed = control(server, "reload")
        crowd.wait_for_more()

        assert failed.returncode == 1
        assert str(home) in failed.stderr
        home.mkdir()
        write_application(home, version="2")
        server.reload()
        assert ask_once(server.address, "version") == "2"
        assert crowd.failures == []


@pytest.mark.fault("moved-code")
def test_a_server_started_in_a_directory_that_is_gone_says_so(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"rmdir {gone} && exec {sys.executable} -m prefork run app:Handler"
    done = subprocess.run(["sh", "-c", script], cwd=gone, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "the current directory is gone" in done.stderr
