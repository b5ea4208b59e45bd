"""Faults of processes: what a stopped, killed or starved master, mold or worker does to the service."""

import fcntl
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from prefork.testing import Address, Server
from tests.process.conftest import Serve
from tests.process.test_control import control, prefork
from tests.process.test_deaths import children_of, footprint, mold_of, pids_of, serve_for_a_while, wait_for_end
from tests.support import tools
from tests.support.application import write_application
from tests.support.clients import TIME_LIMIT, LineClient, ask_once, eventually, steady_load
from tests.support.control_groups import control_group
from tests.support.processes import cpu_seconds, without_descriptors
from tests.support.strace import injected

# What the handler may use to look around in its pid namespace.
PROC = """
def children(pid):
    return [int(child) for child in open(f"/proc/{pid}/task/{pid}/children").read().split()]
def title(pid):
    try:
        return open(f"/proc/{pid}/cmdline").read().split("\\0")[0]
    except OSError:
        return "gone"
"""
WORKERS, PIDS = 60, 500

# A worker that is sick ends a millisecond after it got ready.
SHORT_LIVED = """
def on_worker_start(server):
    import threading
    if os.path.exists("sick"):
        threading.Timer(0.001, os._exit, [7]).start()
Handler.on_worker_start = staticmethod(on_worker_start)
"""

# What every Python of the server does first: it notes its threads whenever it forks.
COUNTING = """
import os, sys
def count(event, arguments):
    if event == "os.fork":
        notes = os.open({notes!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(notes, (str(len(os.listdir("/proc/self/task"))) + "\\n").encode())
        os.close(notes)
sys.addaudithook(count)
"""


@pytest.mark.fault("stopped-master")
def test_a_stopped_master_harms_nobody_and_catches_up(serve: Serve) -> None:
    with serve(workers=2, heartbeat_timeout=4) as server, steady_load(server.address) as crowd:
        serve_for_a_while(server)
        address, (survivor, victim) = server.address, pids_of(server)
        server.signal(signal.SIGSTOP)
        os.kill(victim, signal.SIGKILL)
        crowd.wait_for_more(500)
        be_served_for_a_while(address, 4.5)
        server.signal(signal.SIGCONT)
        server.wait_for_log("killed by SIGKILL")
        server.wait_for_log("starting worker", count=3)

        eventually(lambda: len(server.workers()) == 2)
        assert survivor in pids_of(server)
        assert "no beat" not in server.log


def be_served_for_a_while(address: Address, seconds: float = 2.5) -> None:
    """Ask for an answer that takes so long."""
    with LineClient(address) as client:
        assert client.ask(f"eval __import__('threading').Event().wait({seconds})") == "False"


@pytest.mark.fault("one-thread")
def test_whoever_forks_has_one_thread_and_python_agrees(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "threads"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(COUNTING.format(notes=str(notes)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONWARNINGS", "always::DeprecationWarning")
    with serve(workers=2, admin="127.0.0.1:0") as server:
        os.kill(pids_of(server)[0], signal.SIGKILL)
        server.wait_for_log("starting worker", count=3)
        server.reload()

    assert "multi-threaded" not in server.log
    counts = notes.read_text().split()
    assert len(counts) >= 2 + 1 + 2 * 4  # molds, the helper, and twice for each worker
    assert set(counts) == {"1"}


@pytest.mark.fault("killed-master")
@pytest.mark.needs("strace")
def test_a_master_killed_right_after_it_forked_a_mold_leaves_nobody(serve: Serve, tmp_path: Path) -> None:
    with serve(workers=1) as server:
        known = {*children_of(server.pid), *pids_of(server)}
        # The mold is about to ask the kernel to end it with its master, and until then it does not.
        with injected(server.pid, "prctl:delay_enter=1000000", tmp_path) as injection:
            server.signal(signal.SIGHUP)
            eventually(lambda: injection.count > 0 or bool(set(children_of(server.pid)) - known))
            mold = set(children_of(server.pid)) - known
            server.process.kill()
            server.process.wait()

            assert mold
            wait_for_end(mold | known)


@pytest.mark.fault("scaling")
def test_scaling_during_a_reload_ends_with_the_number_asked_for_last(serve: Serve, project: Path) -> None:
    with serve(workers=3, surge=1) as server, steady_load(server.address) as crowd:
        write_application(project, version="2")
        server.signal(signal.SIGHUP)
        server.wait_for_log("trial passed")
        for number in (signal.SIGTTIN, signal.SIGTTIN, signal.SIGTTOU, signal.SIGTTIN):
            server.signal(number)
            server.wait_for_log(f"{number.name} asked for", count=server.log.count(f"{number.name} asked for") or 1)
        server.wait_for_log("reload complete")

        eventually(lambda: len(server.workers()) == server.status()["wanted"])
        assert server.status()["wanted"] in (4, 5)  # two signals of a kind at once are one, as signal(7) has it
        assert crowd.failures == []


@pytest.mark.fault("interrupted-call")
@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    ("who", "fault"),
    [
        ("master", "epoll_wait:signal=SIGCHLD:when=1..50"),
        ("master", "poll:signal=SIGCHLD:when=1..50"),
        ("master", "sendto:signal=SIGCHLD:when=1..50"),
        ("master", "waitid:signal=SIGWINCH:when=1..50"),
        ("mold", "clone:signal=SIGHUP:when=1..50"),
        ("worker", "accept4:signal=SIGUSR1:when=1..50"),
        ("worker", "recvfrom:signal=SIGHUP:when=1..50"),
    ],
)
def test_a_signal_during_a_system_call_loses_nothing(serve: Serve, tmp_path: Path, who: str, fault: str) -> None:
    with serve(workers=2) as server, steady_load(server.address) as crowd:
        serve_for_a_while(server)
        pid = {"master": server.pid, "mold": mold_of(server), "worker": pids_of(server)[0]}[who]
        with injected(pid, fault, tmp_path) as injection:
            os.kill(pids_of(server)[1], signal.SIGKILL)
            server.wait_for_log("starting worker", count=3)
            crowd.wait_for_more(300)
            server.reload()
            server.scale(3)

        assert injection.signals > 0
        assert len(server.workers()) == 3
        # The killed worker's own connections are the only ones that may fail.
        assert all("Reset" in failure for failure in crowd.failures)


@pytest.mark.fault("stop-signals")
@pytest.mark.needs("strace")
def test_a_worker_told_to_leave_right_after_its_fork_leaves_and_its_slot_is_filled_again(
    serve: Serve, tmp_path: Path
) -> None:
    with serve(workers=2) as server:
        serve_for_a_while(server)
        known = set(children_of(server.pid))
        # The first handler that the new worker would install is long in coming.
        with injected(mold_of(server), "rt_sigaction:delay_enter=1000000:when=1", tmp_path) as injection:
            os.kill(pids_of(server)[0], signal.SIGKILL)
            eventually(lambda: bool(set(children_of(server.pid)) - known))
            (young,) = set(children_of(server.pid)) - known
            os.kill(young, signal.SIGTERM)
            wait_for_end([young])
            server.wait_for_log("starting worker", count=4)

        assert injection.count > 0
        eventually(lambda: {worker["slot"] for worker in server.workers()} == {0, 1})
        assert young not in pids_of(server)


@pytest.mark.fault("short-lived")
def test_workers_that_die_as_soon_as_they_are_ready_cost_the_master_nothing(serve: Serve, project: Path) -> None:
    write_application(project, extra=SHORT_LIVED)
    with serve(workers=2) as server, steady_load(server.address) as crowd:
        serve_for_a_while(server)
        (project / "sick").touch()
        os.kill(pids_of(server)[0], signal.SIGKILL)
        server.wait_for_log("starting worker", count=3)
        began, before = time.monotonic(), cpu_seconds(server.pid)
        server.wait_for_log("starting worker", count=6)  # after 0.5 + 1 + 2 seconds
        share = (cpu_seconds(server.pid) - before) / (time.monotonic() - began)
        (project / "sick").unlink()

        assert share < 0.05
        crowd.wait_for_more()
        eventually(lambda: len([worker for worker in server.workers() if worker["age"] > 1]) == 2)


@pytest.mark.fault("no-process")
@pytest.mark.needs("strace")
def test_without_new_processes_the_others_serve_until_there_are_some_again(serve: Serve, tmp_path: Path) -> None:
    with serve(workers=3) as server, steady_load(server.address) as crowd:
        serve_for_a_while(server)
        with injected(mold_of(server), "clone:error=EAGAIN", tmp_path):
            os.kill(pids_of(server)[0], signal.SIGKILL)
            server.wait_for_log("cannot fork")
            server.wait_for_log("short of workers")
            crowd.wait_for_more(300)
            assert len(server.workers()) == 2
        server.wait_for_log("enough workers")

        assert len(server.workers()) == 3


@pytest.mark.fault("no-process")
@pytest.mark.needs("strace")
def test_a_worker_that_gets_no_thread_accepts_again_once_it_does_although_its_connections_stay(
    serve: Serve, tmp_path: Path
) -> None:
    with serve(workers=1) as server, ExitStack() as clients:
        [worker] = pids_of(server)
        first = clients.enter_context(LineClient(server.address))
        assert first.ask("echo x") == "x"  # another thread leads now
        with injected(worker, "clone,clone3:error=EAGAIN", tmp_path):
            second, third = (clients.enter_context(LineClient(server.address)) for _ in range(2))
            assert second.ask("echo x") == "x"
            third.send("echo at last")
            server.wait_for_log("cannot start a thread")

        assert third.read() == "at last"
        server.wait_for_log("threads can be started again")
        assert server.log.count("cannot start a thread") == 1
        assert server.log.count("threads can be started again") == 1
        assert first.ask("echo x") == "x"


@pytest.mark.fault("no-process")
@pytest.mark.root
def test_a_full_control_group_of_processes_ends_nothing_and_is_recovered_from(serve: Serve) -> None:
    with (
        control_group("pids", {"pids.max": "max"}) as group,
        serve(workers=1) as server,
        LineClient(server.address) as first,
    ):
        assert first.ask("echo x") == "x"  # another thread leads now
        for pid in (mold_of(server), *pids_of(server)):
            (group / "cgroup.procs").write_text(str(pid))
        (group / "pids.max").write_text("1")
        with LineClient(server.address) as second, LineClient(server.address) as third:
            assert second.ask("echo x") == "x"
            third.send("echo at last")
            server.wait_for_log("cannot start a thread")
            (group / "pids.max").write_text("max")
            assert third.read() == "at last"
            assert second.ask("echo x") == "x"
        server.wait_for_log("threads can be started again")

        (group / "pids.max").write_text("1")
        os.kill(pids_of(server)[0], signal.SIGKILL)
        server.wait_for_log("cannot fork")
        (group / "pids.max").write_text("max")
        server.wait_for_log("enough workers")
        assert ask_once(server.address, "echo x") == "x"


@pytest.mark.fault("no-process")
@pytest.mark.root
def test_a_reload_without_memory_for_it_fails_at_once_and_the_old_workers_serve_on(serve: Serve) -> None:
    with serve(workers=1) as server, steady_load(server.address) as crowd:
        size = int(Path(f"/proc/{server.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        before = resource.prlimit(server.pid, resource.RLIMIT_AS, (size + (1 << 20), resource.RLIM_INFINITY))
        failed = control(server, "reload")
        resource.prlimit(server.pid, resource.RLIMIT_AS, before)
        crowd.wait_for_more()

        assert failed.returncode == 1
        assert "memory" in failed.stderr
        assert "internal error" not in server.log
        server.reload()
        assert crowd.failures == []


@pytest.mark.fault("emfile")
@pytest.mark.root
def test_a_master_without_descriptors_does_not_spin_for_its_control_clients(serve: Serve) -> None:
    with serve(workers=1) as server, ExitStack() as clients:
        with without_descriptors(server.pid):
            for _ in range(30):
                client = clients.enter_context(socket.socket(socket.AF_UNIX))
                client.connect(f"\0prefork/{os.getuid()}/{server.pid}")
            server.wait_for_log("control clients have to wait")
            before = cpu_seconds(server.pid)
            assert ask_once(address_of(server), "eval __import__('threading').Event().wait(2.5)") == "False"

            assert cpu_seconds(server.pid) - before < 0.5
            assert server.log.count("control clients have to wait") <= 3
        clients.close()

        assert server.status()["state"] == "serving"


def address_of(server: Server) -> Address:
    """Return where it listens without asking its control socket."""
    host, port = server.wait_for_log("listening: tcp://").split("tcp://")[1].split()[0].rsplit(":", 1)
    return host, int(port)


def test_a_directory_that_somebody_else_has_locked_does_not_hold_up_the_start(project: Path) -> None:
    directory = os.open(project, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    done = prefork("run", "app:Handler", "--bind", "unix:socket", cwd=project)
    os.close(directory)

    assert done.returncode == 4
    assert "is locked by another process" in done.stderr


@pytest.mark.fault("pid-reuse")
@pytest.mark.root
@pytest.mark.needs("unshare")
def test_pids_that_come_round_are_no_danger_to_strangers(project: Path) -> None:
    """So few pids that workers get those that others had before; strangers live among them."""
    with few_pids(project), LineClient(str(project / "socket")) as host:
        strangers = [host.ask("eval __import__('subprocess').Popen(['sleep', '600']).pid") for _ in range(5)]
        siblings = "[pid for pid in children(1) if title(pid).startswith('prefork: worker') and pid != os.getpid()]"
        died: list[str] = []
        for _ in range(6):
            host.ask("eval __import__('threading').Event().wait(1.1)")  # or they would wait to be replaced
            died += host.ask(f"eval [os.kill(pid, 9) or pid for pid in {siblings}]").strip("[]").split(", ")
            eventually(lambda: host.ask(f"eval len({siblings})") == str(WORKERS - 1))
        alive = [host.ask(f"eval title({pid})") for pid in strangers]

        assert alive == ["sleep"] * 5
        assert len(set(died)) < len(died)


@contextmanager
def few_pids(project: Path) -> Iterator[None]:
    """A server in a pid namespace of its own with very few pids."""
    if tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2]) < (6, 14):
        tools.unavailable("pid_max is the whole machine's before Linux 6.14")
    command = f"{sys.executable} -m prefork run app:Handler -w {WORKERS} -t 2 -b unix:socket"
    script = f"echo {PIDS} > /proc/sys/kernel/pid_max; exec {command}"
    write_application(project, extra=PROC)
    contained = subprocess.Popen(
        ["unshare", "--pid", "--net", "--fork", "--mount-proc", "--kill-child=KILL", "sh", "-c", script],
        cwd=project,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert contained.stderr is not None
    reader = threading.Thread(target=contained.stderr.read)
    try:
        next(line for line in contained.stderr if " ready: " in line)
        reader.start()
        yield
    finally:
        inside = children_of(contained.pid)
        contained.kill()  # and all that it contains
        contained.wait(TIME_LIMIT)
        wait_for_end(inside)
        if reader.ident is not None:
            reader.join(TIME_LIMIT)
        contained.stderr.close()


@pytest.mark.fault("leaks")
def test_two_hundred_reloads_leave_the_master_as_it_was(serve: Serve) -> None:
    with serve(workers=1, canary_time=0) as server:
        reload_often(server, 20)
        before = footprint(server.pid)
        reload_often(server, 200)

        eventually(lambda: footprint(server.pid)[0] <= before[0])  # the last control client may not be gone yet
        assert footprint(server.pid)[1] < before[1] * 1.1
        assert server.status()["totals"]["reloads"] == 220
        assert ask_once(server.address, "version") == "1"


def reload_often(server: Server, times: int) -> None:
    for _ in range(times):
        server.reload()
