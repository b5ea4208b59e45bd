"""Handlers that hang: who is named, who is freed, who is replaced, and who notices."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.support.clients import LineClient, ask_once, eventually

DEADLOCK = "eval (lambda lock: (lock.acquire(), lock.acquire()))(__import__('threading').Lock())"
REGULAR_EXPRESSION = "eval __import__('re').match('(a+)+$', 'a' * 64 + 'b')"
HELD_BY_C = "eval __import__('ctypes').PyDLL(None).sleep(600)"
NEVER_ENDING = "eval any(None for _ in iter(int, 1))"

FLEET = {"workers": 4, "threads": 8, "handler_timeout": 2, "heartbeat_timeout": 600, "drain_timeout": 600}


def open_healthy(server: Server, count: int) -> list[LineClient]:
    """Open connections whose handlers say that they may take longer."""
    address, clients = server.address, []
    for _ in range(count):
        clients.append(LineClient(address))
        clients[-1].ask("eval self.server.extend_deadline(600)")
    return clients


def open_guilty(server: Server, tag: str = "the guilty") -> LineClient:
    client = LineClient(server.address)
    client.ask(f"eval self.server.tag({tag!r})")
    return client


@contextmanager
def in_conversation(clients: list[LineClient]) -> Iterator[list[str]]:
    """Go on asking every client; what did not go well is in the list."""
    stop, failures = threading.Event(), list[str]()

    def ask_all() -> None:
        while not stop.is_set():
            for number, client in enumerate(clients):
                try:
                    if client.ask(f"echo {number}") != str(number):
                        failures.append(f"{number}: a wrong answer")
                except OSError as error:
                    failures.append(f"{number}: {error!r}")
                    return

    asking = threading.Thread(target=ask_all)
    asking.start()
    try:
        yield failures
    finally:
        stop.set()
        asking.join()


def close(clients: list[LineClient]) -> None:
    for client in clients:
        client.close()


def stack_below(server: Server, line: str) -> str:
    """Return the lines of the log below this one, once the next record shows that all of them have been read."""
    below = re.compile(re.escape(line) + r"((?:    .*\n)*)\d")
    eventually(lambda: below.search(server.log) is not None)
    found = below.search(server.log)
    assert found is not None
    return found[1]


@pytest.mark.fault("stuck-handler")
def test_a_deadlocked_handler_is_named_and_replaced_and_no_sibling_loses_a_request(serve: Serve) -> None:
    with serve(**FLEET) as server:
        healthy, guilty = open_healthy(server, 31), open_guilty(server)
        guilty.ask("eval self.server.extend_deadline(600)")  # until it deadlocks
        slot = guilty.ask("slot")
        with in_conversation(healthy) as failures:
            guilty.send(f"eval self.server.extend_deadline(2) or {DEADLOCK.removeprefix('eval ')}")
            named = server.wait_for_log("handler overdue")
            server.wait_for_log("handler stuck")
            server.wait_for_log("worker stuck")
            server.wait_for_log("draining worker")
        close(healthy)
        server.wait_for_log("leaving without waiting")
        eventually(lambda: slot not in [str(worker["slot"]) for worker in server.status()["workers"]])

        assert failures == []
        assert "tag 'the guilty'" in named
        assert f"worker={slot} " in named
        assert "row" in stack_below(server, named).splitlines()[0]
        assert "app.py" in stack_below(server, named)
        assert "worker lost" not in server.log
        assert "worker gone" not in server.log
        assert len(server.workers()) == 4
        guilty.close()


def test_when_all_threads_of_the_only_worker_hang_its_replacement_serves_the_next_client(serve: Serve) -> None:
    with serve(**{**FLEET, "workers": 1, "threads": 2}) as server:
        guilty = [open_guilty(server) for _ in range(2)]
        pid = guilty[0].ask("pid")
        for client in guilty:
            client.send(DEADLOCK)

        assert ask_once(server.address, "pid") != pid
        close(guilty)


@pytest.mark.fault("stuck-handler")
def test_a_deadlock_in_a_handler_is_no_lost_beat_of_its_worker(serve: Serve) -> None:
    with serve(workers=1, heartbeat_timeout=5) as server, LineClient(server.address) as sibling:
        guilty = open_guilty(server)
        pid = guilty.ask("pid")
        guilty.send(DEADLOCK)
        served_for_8_seconds = sibling.ask("eval __import__('threading').Event().wait(8)")

        assert served_for_8_seconds == "False"
        assert sibling.ask("pid") == ask_once(server.address, "pid") == pid
        assert "killing worker" not in server.log
        guilty.close()


def test_a_handler_blocked_in_recv_is_freed_and_nothing_else_happens(serve: Serve) -> None:
    assert any(nothing_happens_but_the_end_of_a_handler_in_recv(serve) for _ in range(ATTEMPTS))


def nothing_happens_but_the_end_of_a_handler_in_recv(serve: Serve) -> bool:
    with serve(**FLEET) as server:
        healthy, guilty = open_healthy(server, 31), open_guilty(server)
        with in_conversation(healthy) as failures:
            named = server.wait_for_log("handler overdue")
            server.wait_for_log("handler stuck")
            guilty.wait_for_end()
            server.wait_for_log("not overdue any more")
        close(healthy)

        assert failures == []
        assert "tag 'the guilty'" in named
        assert "readinto" in stack_below(server, named)
        guilty.close()
        return "worker stuck" not in server.log and server.log.count("starting worker") == 4


@pytest.mark.parametrize(
    ("order", "frame"), [(REGULAR_EXPRESSION, "in match"), (HELD_BY_C, "in handle")], ids=["regex", "C"]
)
def test_a_handler_that_holds_the_interpreter_is_named_and_its_worker_killed(
    serve: Serve, order: str, frame: str
) -> None:
    with serve(**FLEET) as server:
        healthy = open_healthy(server, 31)
        slots = [client.ask("slot") for client in healthy]
        guilty = open_guilty(server)
        slot = guilty.ask("slot")
        others = [client for client, its_slot in zip(healthy, slots, strict=True) if its_slot != slot]
        guilty.send(order)
        with in_conversation(others) as failures:
            named = server.wait_for_log("stacks of worker")
            gone = server.wait_for_log("worker gone")
            server.wait_for_log("starting worker", count=5)
            server.scale(4)  # changes nothing, and makes the next record
        close(healthy)

        assert failures == []
        assert "tag 'the guilty'" in named
        assert frame in stack_below(server, named)
        assert f"worker={slot} " in gone
        assert "that we sent (a handler has served" in gone
        lost = stack_below(server, gone)
        assert lost.count("lost with it") == 32 - len(others)
        assert "tag 'the guilty'" in lost
        guilty.close()


ATTEMPTS = 5  # a busy machine may hold up the worker or the master as well as the guilty


@pytest.mark.fault("stuck-handler")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("order", "line"),
    [
        (DEADLOCK, "handler overdue"),
        ("", "handler overdue"),
        (REGULAR_EXPRESSION, "stacks of worker"),
        (HELD_BY_C, "stacks of worker"),
    ],
    ids=["deadlock", "recv", "regex", "C"],
)
def test_the_guilty_is_named_with_its_stack_within_two_seconds(serve: Serve, order: str, line: str) -> None:
    assert any(seconds_until_named(serve, order, line) < FLEET["handler_timeout"] + 2 for _ in range(ATTEMPTS))


def seconds_until_named(serve: Serve, order: str, line: str) -> float:
    """Let one handler among 31 healthy ones hang; return its age when the log had its stack."""
    with serve(**FLEET) as server:
        healthy, guilty = open_healthy(server, 31), open_guilty(server)
        if order:
            guilty.send(order)
        named = server.wait_for_log(line)
        close([*healthy, guilty])
        decided = server.wait_for_log("asking worker for its stacks") if line == "stacks of worker" else named
    assert "tag 'the guilty'" in named
    age = re.search(r", for ([\d.]+) s[ ,]", decided)
    assert age is not None, decided
    return float(age[1]) + (time_of(named) - time_of(decided)).total_seconds()


def time_of(line: str) -> datetime:
    return datetime.fromisoformat(line.split()[0])


def test_a_slow_handler_is_told_from_a_stuck_one(serve: Serve) -> None:
    with serve(workers=1, handler_timeout=1, drain_timeout=1) as server, LineClient(server.address) as client:
        client.send(NEVER_ENDING)

        slow = server.wait_for_log("handler slow")
        server.wait_for_log("worker stuck")
        server.wait_for_log("leaving without waiting")

        assert "it is at work" in slow
        assert "app.py" in stack_below(server, slow)
        assert ask_once(server.address, "echo a") == "a"


def test_a_handler_that_asks_for_more_time_has_it(serve: Serve) -> None:
    with serve(workers=1, handler_timeout=1) as server, LineClient(server.address) as patient:
        patient.ask("eval self.server.extend_deadline(600)")
        with LineClient(server.address) as impatient:
            impatient.wait_for_end()

        assert patient.ask("echo a") == "a"


def test_a_canary_whose_handler_does_not_end_fails_the_reload(serve: Serve, project: Path) -> None:
    with serve(workers=1, handler_timeout=1, canary_time=30, drain_timeout=1) as server:
        server.signal(signal.SIGHUP)
        server.wait_for_log("starting worker", count=2)
        guilty = []

        def canary_serves() -> bool:
            client = LineClient(server.address)
            if client.ask("generation") != "2":
                client.close()
                return False
            client.send(DEADLOCK)
            guilty.append(client)
            return True

        server.wait_for_log("the canary of generation 2")
        healthy = open_healthy(server, 2)  # so that the other one is less busy
        eventually(canary_serves)
        failed = server.wait_for_log("reload failed")
        close(healthy + guilty)
        server.wait_for_log("released generation 2")  # its canary accepts until it has heard that it is not wanted

        assert "its canary: a handler does not end" in failed
        assert ask_once(server.address, "generation") == "1"


@pytest.mark.fault("stopped-worker")
def test_a_worker_that_stopped_beating_shows_its_stacks_before_it_is_killed(serve: Serve) -> None:
    with serve(workers=1, heartbeat_timeout=2) as server, LineClient(server.address) as client:
        client.send(HELD_BY_C)
        shown = server.wait_for_log("stacks of worker")
        gone = server.wait_for_log("worker gone")

        assert "no beat for 2 s (heartbeat_timeout)" in shown
        assert "in handle" in stack_below(server, shown)
        assert "that we sent (no beat for 2 s" in gone
        assert ask_once(server.address, "echo a") == "a"


def test_a_stopped_worker_is_killed_without_its_stacks(serve: Serve) -> None:
    with serve(workers=1, heartbeat_timeout=2) as server:
        os.kill(server.workers()[0]["pid"], signal.SIGSTOP)
        shown = server.wait_for_log("stacks of worker")
        server.wait_for_log("worker gone")

        assert "it has written none" in shown
        assert ask_once(server.address, "echo a") == "a"


@pytest.mark.fault("hanging-start")
def test_a_worker_that_hangs_while_it_boots_shows_where(serve: Serve, project: Path) -> None:
    (project / "app.py").write_text("import threading\ndef hang():\n    threading.Event().wait()\nhang()\n")
    with serve(workers=1, preload="never", boot_timeout=5, wait_until_ready=False) as server:
        assert server.wait() == 3
        assert "in hang" in stack_below(server, server.wait_for_log("stacks of worker"))


def dump(server: Server, *words: str) -> str:
    command = [sys.executable, "-m", "prefork", "dump", *words, "--pid", str(server.pid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return f"{done.stdout}{done.stderr}exit status {done.returncode}"


@pytest.mark.parametrize("order", ["", HELD_BY_C], ids=["listens", "held"])
def test_a_dump_shows_what_every_thread_of_a_worker_does(serve: Serve, order: str) -> None:
    with serve(workers=1) as server, open_guilty(server) as client:
        client.send(order)

        shown = dump(server)

        assert re.search(r"thread .*, row 0, serves 127\.0\.0\.1:\d+ at .*, tag 'the guilty', for ", shown)
        assert "in handle" in shown
        assert shown.endswith("exit status 0")
        assert "prefork dump asked for them" in server.wait_for_log("stacks of worker")


def test_a_dump_of_one_slot_is_of_one_worker(serve: Serve) -> None:
    with serve(workers=2) as server:
        one, none = dump(server, "1"), dump(server, "7")

        assert re.findall(r"^worker (\d)", one, re.MULTILINE) == ["1"]
        assert none.endswith("no worker is running in slot 7\nexit status 1")
