"""Admission: who may be accepted when, judged by two workers that share a ledger."""

import math
import os
import socket
import socketserver
import time
from collections.abc import Iterator

import pytest

from prefork.ipc.ledger import Ledger
from prefork.serving import limits
from prefork.serving.limits import Admission, peer_name
from prefork.serving.threadpool import ThreadPoolTCPServer
from tests.unit.serving.conftest import PATIENCE, Bench, make_server


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger(slots=4)
    for slot in range(4):
        ledger.clear(slot)
    yield ledger
    ledger.close()


def admission(ledger: Ledger, slot: int = 0, connections: int = 0, per_peer: int = 0) -> Admission:
    return Admission(ledger.account(slot), connections, per_peer, ledger.key)


def begin(worker: Admission, host: str = "192.0.2.1") -> object:
    connection = object()
    assert worker.reserve() == 0
    worker.begun(connection)
    assert worker.identify(connection, (host, 1))
    return connection


def test_without_a_limit_for_the_server_there_is_always_room(ledger: Ledger) -> None:
    worker = admission(ledger, per_peer=1)

    assert [worker.reserve() for _ in range(100)] == [0] * 100


def test_the_limit_counts_the_connections_of_all_workers(ledger: Ledger) -> None:
    first, second = admission(ledger, 0, connections=2), admission(ledger, 1, connections=2)
    begin(first)
    held = begin(second)
    assert first.reserve() == math.inf
    assert ledger.total() == 2

    second.ended(held)
    assert first.reserve() == 0


def test_a_place_that_was_not_needed_is_given_back(ledger: Ledger) -> None:
    worker = admission(ledger, connections=1)
    assert worker.reserve() == 0
    worker.cancel()

    assert ledger.total() == 0


def test_who_waits_for_room_hears_of_an_end_in_another_worker(ledger: Ledger) -> None:
    first, second = admission(ledger, 0, connections=1), admission(ledger, 1, connections=1)
    held = begin(first)
    second.reserve()
    second.hear()
    assert second.overloaded()

    first.ended(held)
    assert second._bell.poll(30)
    second.hear()
    assert second._full_until < math.inf


def test_two_that_miss_the_last_place_together_try_again_at_different_times(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "monotonic", lambda: 100.0)
    other = ledger.account(1)

    class Contended:
        """The other one reaches for the place just before we look, and gives up just after."""

        def __init__(self) -> None:
            self.account = ledger.account(0)

        def __getattr__(self, name: str) -> object:
            return getattr(self.account, name)

        def total(self) -> int:
            seen = self.account.total()
            if ledger.account(0)._words[8]:  # our own reservation stands
                other.add(1)
                seen = self.account.total()
                other.add(-1)
            return seen

    worker = Admission(Contended(), 1, 0, ledger.key)  # type: ignore[arg-type]  # by way of __getattr__
    assert 100 < worker.reserve() < 101
    assert not worker.overloaded()
    assert ledger.total() == 0


def test_an_overload_is_over_after_a_calm_second(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(limits, "monotonic", lambda: now)
    worker = admission(ledger, connections=1)
    held = begin(worker)
    worker.reserve()
    worker.ended(held)
    begin(worker)
    assert worker.overloaded()

    now += 1.1
    assert not worker.overloaded()


def test_one_peer_has_its_limit_with_all_workers_together(ledger: Ledger) -> None:
    first, second = admission(ledger, 0, per_peer=2), admission(ledger, 1, per_peer=2)
    held = begin(first)
    begin(second)
    surplus = object()
    second.begun(surplus)
    assert not second.identify(surplus, ("192.0.2.1", 2))
    second.ended(surplus)
    begin(second, "192.0.2.2")

    first.ended(held)
    begin(second)
    assert list(second.refused_peers) == ["192.0.2.1"]


def test_a_peer_is_reported_again_only_after_a_while(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(limits, "monotonic", lambda: now)
    worker = admission(ledger, per_peer=1)
    begin(worker)
    for _ in range(5):
        assert not worker.identify(object(), ("192.0.2.1", 2))
    assert len(worker.refused_peers) == 1

    now += 31
    assert not worker.identify(object(), ("192.0.2.1", 2))
    assert len(worker.refused_peers) == 2


def test_an_end_that_is_told_twice_counts_once(ledger: Ledger) -> None:
    worker = admission(ledger, connections=5)
    held = begin(worker)
    begin(worker)
    worker.ended(held)
    worker.ended(held)
    worker.ended("a datagram")

    assert ledger.total() == 1


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no address", "no address"),
    ],
)
def test_what_counts_as_one_peer(host: str, name: str) -> None:
    assert peer_name(None, (host, 1)) == name
    assert peer_name(None, (host, 1, 0, 0)) == name


@pytest.mark.parametrize("address", ["", b"", None, "/client", ()])
def test_who_has_no_address_is_not_limited(address: object) -> None:
    assert peer_name(None, address) == ""


def test_a_surplus_connection_is_closed_by_the_pool_and_its_place_free_again(ledger: Ledger, bench: Bench) -> None:
    worker = admission(ledger, connections=2, per_peer=1)
    bench.pool(make_server(), admission=worker)
    held = bench.hold()
    surplus = bench.connect()
    assert surplus.recv(1) == b""
    _wait_for_total(ledger, 1)

    held.close()
    _wait_for_total(ledger, 0)
    assert bench.talk(bench.connect()) == b"x"


def test_a_peer_that_comes_back_when_it_sees_the_end_is_within_its_limit(ledger: Ledger, bench: Bench) -> None:
    class Closing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"bye")

    bench.pool(make_server(Closing, ThreadPoolTCPServer), admission=admission(ledger, per_peer=1))
    for _ in range(300):
        with bench.connect() as client:
            assert client.recv(100) == b"bye"
            assert client.recv(100) == b""


def _wait_for_total(ledger: Ledger, count: int) -> None:
    """Wait for the thread that has closed a connection to say so."""
    deadline = time.monotonic() + PATIENCE
    while ledger.total() != count:
        assert time.monotonic() < deadline
        os.sched_yield()


def test_behind_a_proxy_the_peer_is_whom_the_proxy_names(ledger: Ledger, bench: Bench) -> None:
    worker = admission(ledger, per_peer=1)
    server = make_server()
    server.trusted_proxies = lambda address: True
    bench.pool(server, admission=worker)

    first, second = bench.hold(), bench.hold()
    assert bench.talk(first) == bench.talk(second) == b"x"


def test_datagrams_are_not_limited(ledger: Ledger, bench: Bench) -> None:
    class Answers(socketserver.DatagramRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.read())

    server = socketserver.UDPServer(("127.0.0.1", 0), Answers)
    ledger.account(1).add(1)
    bench.pool(server, admission=admission(ledger, connections=1, per_peer=1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(30)
        client.sendto(b"x", server.server_address)

        assert client.recv(10) == b"x"
