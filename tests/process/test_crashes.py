"""Workers that crash: the log and the status say how, after what, and who was being served."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.conftest import Serve
from tests.process.test_hung_handlers import open_guilty, open_healthy, stack_below
from tests.support.clients import LineClient, ask_once, eventually
from tests.support.control_groups import control_group

SEGFAULT = "eval __import__('ctypes').string_at(0)"


@pytest.mark.fault("crash")
def test_a_message_that_crashes_its_worker_is_named_each_time_and_suspected_the_second(serve: Serve) -> None:
    with serve(workers=2) as server:
        for time in (1, 2):
            with open_guilty(server, "GET bomb") as client:
                client.send(SEGFAULT)
                client.wait_for_end()
            lost = server.wait_for_log("worker lost", count=time)
            details = stack_below(server, lost)

            assert "killed by SIGSEGV" in lost
            assert "lost with it: 127.0.0.1:" in details
            assert "tag 'GET bomb'" in details
            assert "Fatal Python error: Segmentation fault" in details
            assert "which crashed, row 0, serves 127.0.0.1:" in details
            assert "in string_at" in details
            assert ("suspect: tag 'GET bomb' was being served at 2 crashes" in server.log) == (time == 2)

        assert "suspect: peer 127.0.0.1 was being served at 2 crashes" in server.log
        assert server.status()["totals"]["suspects"] == 2


def test_a_crash_of_a_worker_that_drains_counts_too(serve: Serve) -> None:
    with serve(workers=1, canary_time=0) as server:
        with open_guilty(server, "GET bomb") as old:
            server.reload()
            with open_guilty(server, "GET bomb") as new:
                for client in (new, old):
                    client.send(SEGFAULT)
                    client.wait_for_end()

        server.wait_for_log("suspect: tag 'GET bomb' was being served at 2 crashes")


# Answers first, and then holds the interpreter.
DEAF = "eval (self.reply('deaf'), __import__('ctypes').PyDLL(None).sleep(3600))"


def is_held(worker: dict[str, Any]) -> bool:
    return worker["state"] == "serving" and (worker["beat_age"] or 0) > 3


def test_who_outstays_drain_timeout_is_no_suspect(serve: Serve) -> None:
    with serve(workers=1, canary_time=0, drain_timeout=0.2, kill_timeout=0.2) as server:
        for _ in range(2):
            with open_guilty(server, "GET bomb") as client:
                assert client.ask(DEAF) == "deaf"
                eventually(lambda: any(is_held(worker) for worker in server.workers()))
                server.reload()
                client.wait_for_end()
        eventually(lambda: len(server.status()["deaths"]) == 2)

        assert "suspect: " not in server.log


@pytest.mark.parametrize(
    ("order", "how"), [("exit 3", "exit status 3"), ("exit 0", "exit status 0"), ("abort", "killed by SIGABRT")]
)
def test_a_worker_that_ends_by_itself_is_shown_with_whom_it_served(serve: Serve, order: str, how: str) -> None:
    with serve(workers=1) as server, open_guilty(server, "GET bomb") as client:
        others = open_healthy(server, 3)
        client.send(order)
        lost = server.wait_for_log("worker lost")
        for other in others:
            other.wait_for_end()
            other.close()

        (death,) = server.status()["deaths"]
        assert how in lost
        assert stack_below(server, lost).count("lost with it") == 4
        assert (death["slot"], death["how"], death["accepted"]) == (0, how, 4)
        assert "GET bomb" in [request["tag"] for request in death["requests"]]
        assert death["rss"] > 1_000_000


@pytest.mark.fault("killed-worker")
def test_a_kill_by_somebody_else_is_told_from_ours(serve: Serve) -> None:
    with serve(workers=1) as server:
        ask_once(server.address, "version")
        os.kill(server.workers()[0]["pid"], signal.SIGKILL)

        lost = server.wait_for_log("worker lost")

        assert "killed by SIGKILL that we did not send" in lost
        assert "it had accepted 1 in " in stack_below(server, lost)


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group below ours, with little memory; whoever is put there has no more."""
    with control_group("memory", {"memory.limit_in_bytes": "200M", "memory.max": "200M"}) as group:
        yield group


@pytest.mark.fault("oom")
def test_the_oom_killer_is_named(serve: Serve, memory_group: Path) -> None:
    with serve(workers=1) as server, open_guilty(server, "GET everything") as client:
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        for pid in (server.pid, *children):
            (memory_group / "cgroup.procs").write_text(str(pid))
        client.send("eval len(b'x' * 10**9)")

        lost = server.wait_for_log("worker lost")

        details = stack_below(server, lost)
        [death] = server.status()["deaths"]
        assert "killed by SIGKILL of the kernel's OOM killer" in lost
        assert "tag 'GET everything'" in details
        assert death["oom_kills"] >= 1
        assert f"OOM kills in our control group so far: {death['oom_kills']}" in details


def test_a_worker_that_does_not_drain_in_time_says_what_it_took_with_it(serve: Serve) -> None:
    with serve(workers=1, drain_timeout=0.1) as server, LineClient(server.address) as client:
        assert client.ask(DEAF) == "deaf"
        server.reload()

        gone = server.wait_for_log("worker gone")

        assert "that we sent (still there after the time it had to drain)" in gone
        assert "worker=0 gen=1" in gone
        assert "lost with it: 127.0.0.1:" in stack_below(server, gone)
        assert server.status()["losses"] == {"drain timeout": 1}


def test_a_worker_that_is_killed_while_it_drains_is_counted(serve: Serve) -> None:
    with serve(workers=1) as server, LineClient(server.address) as client:
        draining = int(client.ask("pid"))
        server.reload()
        os.kill(draining, signal.SIGKILL)
        server.wait_for_log("worker gone")

        assert server.status()["losses"] == {"killed by SIGKILL that we did not send": 1}


def test_a_worker_that_leaves_in_good_order_is_no_death(serve: Serve) -> None:
    with serve(workers=2) as server:
        server.reload()
        server.scale(1)

        assert server.status()["deaths"] == []
        assert "worker gone" not in server.log
