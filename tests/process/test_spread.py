"""Equal workers are equally busy: where the next connection goes.

A worker waits only a moment for a less busy one, and that one may not have the processor in time: so each claim has
several attempts, of which chance alone would pass none.
"""

from collections import Counter
from contextlib import ExitStack

import pytest

from prefork import testing
from tests.process.conftest import Serve
from tests.process.test_control import control
from tests.support.clients import LineClient, ask_once, eventually

pytestmark = pytest.mark.timeout(600)
ATTEMPTS = 8


def accepted(server: testing.Server) -> list[int]:
    return [worker["accepted"] for worker in server.workers()]


def test_connections_one_after_another_go_to_all_workers_alike(serve: Serve) -> None:
    assert any(busiest_to_idlest(serve) <= 1.2 for _ in range(ATTEMPTS))


def busiest_to_idlest(serve: Serve) -> float:
    with serve(workers=4) as server:
        address = server.address
        for _ in range(2000):
            ask_once(address, "echo x")
        eventually(lambda: sum(accepted(server)) == 2000)
        return max(accepted(server)) / min(accepted(server))


def test_a_busy_worker_leaves_the_next_connection_to_a_less_busy_one(serve: Serve) -> None:
    assert any(taken_by_the_busy_one(serve) <= 4 for _ in range(ATTEMPTS))


def taken_by_the_busy_one(serve: Serve) -> int:
    """Count what it takes until a new worker has as many connections as it had."""
    slots: Counter[str] = Counter()
    with serve(workers=1) as server, ExitStack() as held:
        for _ in range(20):
            assert held.enter_context(LineClient(server.address)).ask("slot") == "0"
        assert control(server, "scale", "2").returncode == 0
        while slots["1"] < 20:
            slots[held.enter_context(LineClient(server.address)).ask("slot")] += 1
    return slots["0"]


def test_connections_do_not_queue_behind_a_worker_that_computes(serve: Serve) -> None:
    assert any(taken_while_computing(serve) <= 4 for _ in range(ATTEMPTS))


def taken_while_computing(serve: Serve) -> int:
    """Count what the worker that computes takes of 20."""
    slots: Counter[str] = Counter()
    with serve(workers=2) as server, LineClient(server.address) as computing:
        busy = computing.ask("slot")
        for _ in range(20):
            computing.send("spin 0.05")
            with LineClient(server.address) as other:
                slots[other.ask("slot")] += 1
            assert computing.read() == "spun"
    return slots[busy]
