"""Workers, molds and masters that die: what is replaced, from which code, and who notices."""

import os
import select
import signal
import socket
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.support.application import write_application
from tests.support.clients import LineClient, ask_once, connect, eventually, steady_load
from tests.support.processes import suspended


def wait_for_end(pids: Iterable[int], limit: float = 30.0) -> None:
    """Return when none of the processes lives any more."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended, _, _ = select.select([handle], [], [], limit)
        os.close(handle)
        assert ended, f"process {pid} lives on"


def pids_of(server: Server) -> list[int]:
    return [worker["pid"] for worker in server.workers()]


def children_of(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def mold_of(server: Server) -> int:
    """The child of the master that is no worker, once there is only one: others may be leaving."""
    found: list[int] = []

    def is_alone() -> bool:
        workers = {worker["pid"] for worker in server.status()["workers"]}
        found[:] = set(children_of(server.pid)) - workers
        return len(found) == 1

    eventually(is_alone)
    return found[0]


def serve_for_a_while(server: Server, seconds: float = 1.1) -> None:
    """Return when every worker has served long enough not to be suspected of dying at boot."""
    known: dict[int, float] = {}  # the age at which each was seen to serve

    def have_served() -> bool:
        workers = server.workers()
        since = [worker["age"] - known.setdefault(worker["pid"], worker["age"]) for worker in workers]
        return min(since, default=0.0) >= seconds

    with LineClient(server.address) as client:
        while not have_served():
            client.ask("spin 0.05")
        client.close()


@pytest.mark.fault("killed-worker")
def test_a_killed_worker_is_replaced_and_its_siblings_notice_nothing(serve: Serve) -> None:
    with serve(workers=2) as server:
        clients = [LineClient(server.address) for _ in range(20)]
        slots = {client: client.ask("slot") for client in clients}
        victim = next(worker for worker in server.workers() if worker["slot"] == 0)
        os.kill(victim["pid"], signal.SIGKILL)
        server.wait_for_log("killed by SIGKILL")
        server.wait_for_log("starting worker", count=3)

        for client in clients:
            if slots[client] == "1":
                assert client.ask("echo still here") == "still here"
            else:
                client.wait_for_end()
            client.close()


def test_with_broken_code_on_disk_every_worker_is_replaced_from_its_own_generation(serve: Serve, project: Path) -> None:
    with serve(workers=3) as server:
        (project / "app.py").write_text("this is no Python")
        for count, pid in enumerate(pids_of(server), start=1):
            os.kill(pid, signal.SIGKILL)
            server.wait_for_log("starting worker", count=3 + count)

        assert {ask_once(server.address, "version") for _ in range(30)} == {"1"}


@pytest.mark.fault("crash")
@pytest.mark.parametrize(
    ("order", "how"), [("exit 3", "exit status 3"), ("exit 0", "exit status 0"), ("abort", "killed by SIGABRT")]
)
def test_a_handler_that_ends_its_process_is_one_lost_worker(serve: Serve, order: str, how: str) -> None:
    with serve(workers=2) as server:
        with LineClient(server.address) as client:
            client.send(order)
            client.wait_for_end()
        server.wait_for_log(how)
        server.wait_for_log("starting worker", count=3)

        assert ask_once(server.address, "echo x") == "x"


@pytest.mark.fault("stopped-worker")
def test_a_stopped_worker_is_replaced_and_its_siblings_notice_nothing(serve: Serve) -> None:
    with serve(workers=2, heartbeat_timeout=4, kill_timeout=1) as server:
        with LineClient(server.address) as client:
            mine = client.ask("slot")
            victim = next(worker for worker in server.workers() if str(worker["slot"]) != mine)
            os.kill(victim["pid"], signal.SIGSTOP)
            server.wait_for_log("killing worker")
            server.wait_for_log("starting worker", count=3)

            assert client.ask("slot") == mine


@pytest.mark.fault("killed-master")
def test_a_killed_master_takes_its_workers_along_and_frees_the_port(serve: Serve) -> None:
    with serve(workers=3) as server, LineClient(server.address) as client:
        client.ask("pid")
        address, children = server.address, children_of(server.pid)
        server.signal(signal.SIGKILL)
        started = time.monotonic()
        wait_for_end(children)

        assert time.monotonic() - started < 15  # the promise is 1 s; a busy machine may take longer
        with socket.create_server((str(address[0]), int(address[1]))):
            pass


@pytest.mark.fault("killed-master")
def test_a_master_killed_while_a_worker_drains_takes_it_along(serve: Serve) -> None:
    with serve(workers=1, drain_timeout=300) as server, LineClient(server.address) as client:
        client.ask("pid")
        server.signal(signal.SIGTERM)
        eventually(lambda: client.ask("draining") == "True")
        children = children_of(server.pid)
        server.signal(signal.SIGKILL)

        wait_for_end(children)


def test_a_worker_whose_answer_nobody_hears_any_more_leaves_in_good_order(serve: Serve) -> None:
    with serve(workers=1) as server:
        (worker,) = pids_of(server)
        with suspended(worker), connect(f"\0prefork/{os.getuid()}/{server.pid}") as asking:
            asking.sendall(b'{"command": "dump"}\n')
            server.status()  # asked later, so by now the worker has been asked, too
            children = children_of(server.pid)
            server.signal(signal.SIGKILL)
            server.process.wait(30)

        server.wait_for_log("draining: the master is gone")
        wait_for_end(children)


@pytest.mark.fault("killed-master")
def test_a_master_killed_while_a_worker_loads_leaves_nobody(serve: Serve, project: Path) -> None:
    write_application(project, extra="\nprint('loading', os.getpid(), file=sys.stderr)\nsignal.pause()\n")
    with serve(workers=1, preload="never", wait_until_ready=False) as server:
        loading = int(server.wait_for_log("loading").split()[-1])
        children = children_of(server.pid)
        server.signal(signal.SIGKILL)

        assert loading in children
        wait_for_end(children)


def test_a_worker_that_fails_after_its_master_was_killed_leaves_without_a_word(serve: Serve, project: Path) -> None:
    orphaned = """
import ctypes


def on_worker_start(server):
    ctypes.CDLL(None).prctl(1, 0)  # PR_SET_PDEATHSIG: outlive the master
    master = os.getppid()
    os.kill(master, signal.SIGKILL)
    while os.getppid() == master:
        time.sleep(0.01)
    raise ValueError("the cause")


Handler.on_worker_start = staticmethod(on_worker_start)
"""
    write_application(project, extra=orphaned)
    with serve(workers=1, wait_until_ready=False) as server:
        assert server.wait() == -signal.SIGKILL

    assert "Traceback" not in server.log


def test_a_dead_mold_is_replaced_and_no_request_is_lost(serve: Serve, project: Path) -> None:
    with serve(workers=2, canary_time=0) as server, steady_load(server.address) as crowd:
        write_application(project, version="2")
        os.kill(mold_of(server), signal.SIGKILL)
        server.wait_for_log(" reload complete: ")
        crowd.forget()
        crowd.wait_for_more()

        assert set(crowd.answers) == {"2"}
        assert crowd.failures == []


def test_a_dead_mold_and_broken_code_leave_the_workers_serving(serve: Serve, project: Path) -> None:
    with serve(workers=2, canary_time=0) as server:
        (project / "app.py").write_text("raise ValueError('the cause')")
        os.kill(mold_of(server), signal.SIGKILL)
        server.wait_for_log("reload failed")
        assert ask_once(server.address, "version") == "1"

        write_application(project, version="3")
        server.reload()
        assert ask_once(server.address, "version") == "3"


@pytest.mark.fault("short-lived")
def test_a_worker_that_dies_at_once_for_ever_is_started_ever_more_slowly(serve: Serve, project: Path) -> None:
    dying = "\n\ndef on_worker_start(server):\n    import threading\n    threading.Timer(0.5, os._exit, [7]).start()\n"
    write_application(project, extra=dying + "\nHandler.on_worker_start = staticmethod(on_worker_start)\n")
    with serve(workers=1, wait_until_ready=False) as server:
        server.wait_for_log("starting worker", count=3)
        eventually(lambda: server.status()["backoff_waited"] > 3)  # 0.5 + 1 + 2
        server.wait_for_log("starting worker", count=1 + server.log.count("starting worker"))
        times = [line.split()[0] for line in server.log.splitlines() if "starting worker" in line]

        assert seconds_between(times[0], times[-1]) > 2.5  # less the clock of the log
        # One that is held up for a second before it dies has served, and the waits begin anew.
        assert max(seconds_between(*pair) for pair in pairwise(times)) > 1.4
        assert server.stop(quick=True) == 0


def seconds_between(first: str, last: str) -> float:
    from datetime import datetime

    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()


@pytest.mark.fault("leaks")
@pytest.mark.timeout(600)
def test_many_deaths_leave_the_master_as_it_was(serve: Serve) -> None:
    """A thousand workers die; what one death would leave behind would be seen a thousand times."""
    workers, rounds = 100, 10
    with serve(workers=workers, threads=2, time_limit=120) as server:
        serve_for_a_while(server)
        kill_all(server, 2 * workers)
        before = footprint(server.pid)
        for count in range(2, rounds + 1):
            kill_all(server, (count + 1) * workers)

        assert server.status()["totals"]["restarts"] == workers * rounds
        eventually(lambda: footprint(server.pid)[0] <= before[0])  # the last control client may not be gone yet
        assert footprint(server.pid)[1] < before[1] * 1.1
        assert zombies_of(server.pid) == []


def kill_all(server: Server, started: int) -> None:
    """Kill every worker and wait until all have successors that have served for a while."""
    pids = pids_of(server)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    server.wait_for_log("starting worker", count=started)
    while len(server.workers()) < len(pids):
        ask_once(server.address, "spin 0.05")
    serve_for_a_while(server)


def footprint(pid: int) -> tuple[int, int]:
    """The open descriptors and the resident bytes of a process."""
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return len(os.listdir(f"/proc/{pid}/fd")), resident


def zombies_of(parent: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = stat.read_text().split(" (", 1)
        except OSError:
            continue
        state, ppid = rest.rsplit(") ", 1)[1].split()[:2]
        if int(ppid) == parent and state == "Z":
            found.append(pid)
    return found


@pytest.mark.fault("process-1")
def test_an_adopted_orphan_is_reaped(serve: Serve) -> None:
    with serve(workers=1) as server, LineClient(server.address) as client:
        orphan = client.ask("eval __import__('subprocess').check_output('sh -c \"exit 4\" & echo $!', shell=True)")
        client.ask("pid")

        wait_for_end([int(orphan.strip("b'\\n"))])
        eventually(lambda: zombies_of(server.pid) == [])
        assert len(server.workers()) == 1


@pytest.mark.fault("broken-start")
def test_a_first_start_that_cannot_work_ends_with_status_3_and_the_cause(serve: Serve, project: Path) -> None:
    (project / "app.py").write_text("raise ValueError('the cause')")
    for preload in ("auto", "never"):
        with serve(workers=2, preload=preload, wait_until_ready=False) as server:
            assert server.wait() == 3
            assert "ValueError: the cause" in server.log
            assert server.log.count("starting mold") <= 2  # nothing is tried again and again


@pytest.mark.fault("hanging-start")
def test_a_first_start_that_hangs_ends_with_status_3(serve: Serve, project: Path) -> None:
    (project / "app.py").write_text("import threading\nthreading.Event().wait()\n")
    for preload in ("auto", "never"):
        with serve(workers=2, preload=preload, boot_timeout=1, wait_until_ready=False) as server:
            assert server.wait() == 3
            assert "not loaded within 1 s" in server.log or "not ready within 1 s" in server.log


@pytest.mark.fault("one-thread")
def test_the_master_has_one_thread(serve: Serve) -> None:
    with serve(workers=2) as server:
        server.reload()

        assert os.listdir(f"/proc/{server.pid}/task") == [str(server.pid)]
