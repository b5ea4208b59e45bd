"""Promotion: when a leader promotes somebody before it serves, and what a deputy does otherwise."""

import ctypes
import math
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from prefork.serving import pool as pools
from prefork.serving import promotion
from prefork.serving.pool import Pool
from prefork.serving.poolthread import PoolThread
from prefork.serving.promotion import TICK, Promotion
from prefork.serving.threadpool import ThreadPoolTCPServer
from tests.unit.serving.conftest import LOOPBACK, PATIENCE, Bench, make_server
from tests.unit.serving.test_messages import Echoes, wait_until_one_is_parked
from tests.unit.serving.test_pool import Fails, Once, queue, threads_of


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def leave_quickly(made: Promotion, count: int) -> list[int]:
    """Take so many requests at the same moment, all of which are left to the deputy; return their numbers."""
    numbers = []
    for _ in range(count):
        assert not made.is_due()
        numbers.append(made.leave())
    return numbers


def test_somebody_is_promoted_for_requests_that_come_slowly(clock: Clock) -> None:
    made = Promotion(clock)
    for _ in range(3):
        clock.now += 1.5 * TICK
        assert made.is_due()


def test_nobody_is_promoted_for_requests_that_come_quickly(clock: Clock) -> None:
    made = Promotion(clock)
    assert made.is_due()
    for _ in range(3):
        clock.now += TICK / 2
        assert not made.is_due()


def test_a_request_is_overdue_at_the_second_look(clock: Clock) -> None:
    made = Promotion(clock)
    made.is_due()
    made.appoint()
    [number] = leave_quickly(made, 1)

    assert not made.is_overdue([number])
    assert not made.is_quiet()
    assert made.is_overdue([number])


def test_others_that_come_and_go_do_not_hide_one_that_stays(clock: Clock) -> None:
    made = Promotion(clock)
    made.is_due()
    made.appoint()
    stays, _ = leave_quickly(made, 2)
    assert not made.is_quiet()
    *_, latest = leave_quickly(made, 10)

    assert made.is_overdue([latest, stays])
    assert not made.is_overdue([latest])


def test_it_is_quiet_when_nothing_was_left_since_the_last_look(clock: Clock) -> None:
    made = Promotion(clock)
    made.is_due()
    made.appoint()
    leave_quickly(made, 5)

    assert [made.is_quiet(), made.is_quiet()] == [False, True]


def run_length(made: Promotion) -> int:
    """Count the requests for which somebody is promoted although they come quickly."""
    count = 0
    while made.is_due():
        count += 1
    made.leave()
    return count


def test_runs_grow_while_slow_requests_come_soon_after_each_other_and_are_short_again_later(clock: Clock) -> None:
    made = Promotion(clock)
    made.is_due()
    lengths = []
    for _ in range(7):
        made.appoint()
        leave_quickly(made, 1)
        made.begin_run()
        lengths.append(run_length(made))
    assert lengths == [64, 128, 256, 512, 1024, 1024, 1024]

    made.appoint()
    leave_quickly(made, 1025)
    made.begin_run()
    assert run_length(made) == 32


@pytest.fixture
def everything_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion, "TICK", math.inf)


@pytest.fixture
def no_deputy_looks(monkeypatch: pytest.MonkeyPatch, everything_is_quick: None) -> None:
    monkeypatch.setattr(pools, "TICK", 300.0)


def eventually(so: Callable[[], bool]) -> None:
    while not so():  # bounded by the time limit of the test
        pass


def start_second_thread(bench: Bench, pool: Pool) -> None:
    """Have a connection served by the first thread, so that the second leads and the first follows."""
    bench.hold().close()
    eventually(lambda: len(pool._followers) == 1)


@pytest.mark.usefixtures("no_deputy_looks")
def test_one_thread_serves_what_comes_quickly(bench: Bench) -> None:
    pool = bench.pool(make_server(Once))
    with bench.connect() as client:
        assert bench.talk(client) == b"x"
    eventually(lambda: len(pool._followers) == 1)
    bench.notes.lines.clear()

    for _ in range(20):
        with bench.connect() as client:
            assert bench.talk(client) == b"x"
            assert client.recv(1) == b""

    assert {line[1] for line in bench.notes.lines} == {1}
    assert len(threads_of(pool)) == 2


@pytest.mark.usefixtures("everything_is_quick")
def test_nobody_waits_for_ever_behind_a_slow_request(bench: Bench) -> None:
    pool = bench.pool(make_server(), threads=8)
    start_second_thread(bench, pool)

    held = [bench.hold() for _ in range(8)]  # each would wait for the one before
    assert all(bench.talk(client, b"y") == b"y" for client in held)


@pytest.mark.usefixtures("everything_is_quick")
def test_the_deputy_goes_off_duty_when_it_is_quiet(bench: Bench) -> None:
    pool = bench.pool(make_server(Once))
    start_second_thread(bench, pool)
    for _ in range(5):
        with bench.connect() as client:
            bench.talk(client)

    eventually(lambda: pool._deputy is None and len(pool._followers) >= 1)
    assert pool._leader is not None


@pytest.mark.usefixtures("no_deputy_looks")
def test_a_drain_with_a_request_left_to_the_deputy_takes_effect_at_once(bench: Bench) -> None:
    pool = bench.pool(make_server())
    start_second_thread(bench, pool)
    held = bench.hold()
    assert pool._leader is None

    pool.drain()

    assert not pool.accepting
    assert bench.talk(held, b"y") == b"y"
    held.close()
    assert bench.changes.wait_until(lambda: pool.open_connections == 0)
    eventually(lambda: not threads_of(pool))


@pytest.mark.usefixtures("everything_is_quick")
def test_the_deputy_serves_the_queue_of_a_drain(bench: Bench) -> None:
    pool = bench.pool(make_server())
    start_second_thread(bench, pool)
    bench.hold()
    queued = queue(bench, 3)

    pool.drain({0})

    assert [client.recv(1) for client in queued] == [b"q"] * 3


@pytest.mark.usefixtures("no_deputy_looks")
def test_a_deputy_that_is_killed_leaves_a_leader(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    pool = bench.pool(make_server())
    start_second_thread(bench, pool)
    bench.hold()
    deputy = pool._deputy
    assert deputy is not None
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(deputy.ident or 0), ctypes.py_object(Fails)) == 1
    with pool._lock:
        deputy.call()
    deputy.join(PATIENCE)

    bench.hold()


@pytest.mark.usefixtures("no_deputy_looks")
def test_a_thread_that_dies_after_a_request_left_to_the_deputy_leaves_a_leader(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(me: PoolThread) -> bool:
        raise Fails

    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    pool = bench.pool(make_server())
    start_second_thread(bench, pool)
    held = bench.hold()
    [busy] = pool._busy
    with monkeypatch.context() as patched:
        patched.setattr(pool, "_wait_for_turn", dies)
        held.close()
        busy.join(PATIENCE)

    bench.hold()


@pytest.mark.usefixtures("everything_is_quick")
def test_parked_connections_are_served_while_another_is_slow(bench: Bench) -> None:
    pool = bench.pool(make_server(), make_server(Echoes, ThreadPoolTCPServer))
    start_second_thread(bench, pool)
    parked = bench.hold(bench.servers[1])
    wait_until_one_is_parked(pool)

    bench.hold()
    assert bench.talk(parked, b"two") == b"two"


@pytest.mark.usefixtures("everything_is_quick")
@pytest.mark.parametrize(
    ("what_it_is", "may_be_left"),
    [
        ({}, True),
        ({"spoken": True}, False),
        ({"spoken": True, "hung_up": True}, True),
        ({"spoken": True, "leaving": True}, True),
        ({"spoken": True, "moving": True}, True),
    ],
    ids=["its first message", "another message", "its last, or its end", "its end", "its hand-over"],
)
def test_a_connection_whose_client_may_go_on_keeps_a_thread(what_it_is: dict[str, bool], may_be_left: bool) -> None:
    resumed: Any = SimpleNamespace(
        **{"spoken": False, "hung_up": False, "leaving": False, "moving": False, **what_it_is}
    )

    assert Pool(2)._may_leave(resumed) is may_be_left


def test_where_more_clients_talk_than_there_are_threads_one_of_them_serves_all_in_turn(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ThreadPoolTCPServer(LOOPBACK, Echoes)
    server.socket.setblocking(False)
    pool = bench.pool(server, threads=1)
    clients = [bench.connect() for _ in range(6)]
    for _ in range(3):
        for client in clients:
            client.sendall(b"x\n")
        assert [client.recv(10) for client in clients] == [b"x\n"] * 6
    assert pool._crowded > 0

    monkeypatch.setattr(promotion, "TICK", math.inf)
    talks: Any = SimpleNamespace(spoken=True, hung_up=False, leaving=False, moving=False)
    other = Pool(2)
    other._crowded = 3
    assert [other._may_leave(talks) for _ in range(3)] == [True, True, False]
