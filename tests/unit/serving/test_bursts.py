"""What comes in quick succession is taken without a look at anything else, but not for ever."""

import math
import socket
import socketserver
import threading
from typing import Any

import pytest

from prefork.serving import interpreter, promotion
from prefork.serving import pool as pools
from prefork.serving.accepting import Intakes
from prefork.serving.threadpool import ThreadPoolMixIn, ThreadPoolTCPServer, ThreadPoolUDPServer
from tests.unit.serving.conftest import LOOPBACK, PATIENCE, Bench, make_server
from tests.unit.serving.test_pool import Once
from tests.unit.serving.test_threadpool import serving

BURST = 100


class StandardPoolUDPServer(ThreadPoolMixIn, socketserver.UDPServer):
    """Its socket blocks who receives from it when there is nothing."""


class Deep(socketserver.TCPServer):
    request_queue_size = BURST


class Gate:
    """Where the first request of a burst waits until all of it is there, and another thread is the deputy."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self._open.wait(PATIENCE)

    def open(self) -> None:
        assert self.reached.wait(PATIENCE)
        self._open.set()


GATE = b"gate"


class Reply(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, answering = self.request
        if data == GATE:
            self.server.gate.pass_through()  # type: ignore[attr-defined]
        answering.sendto(data, self.client_address)


def have_a_follower(pool: pools.Pool, client: socket.socket) -> None:
    """Have something served by the first thread, so that the second leads and the first follows."""
    client.send(b"x")
    assert client.recv(10) == b"x"
    while not pool._followers:  # bounded by the time limit of the test
        pass


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every request for one that came quickly, and none for one that takes long, or computes."""
    monkeypatch.setattr(promotion, "TICK", math.inf)
    monkeypatch.setattr(pools, "TICK", PATIENCE)
    monkeypatch.setattr(promotion.Promotion, "is_overdue", lambda *_: False)
    monkeypatch.setattr(interpreter, "MOST", 0)


def client_of(server: Any) -> socket.socket:
    client = socket.socket(server.address_family, socket.SOCK_DGRAM)
    client.settimeout(PATIENCE)
    client.connect(server.server_address)
    return client


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One for each wait of a leader."""
    counted: list[None] = []
    wait = Intakes.wait

    def count(self: Intakes, **how: bool) -> Any:
        counted.append(None)
        return wait(self, **how)

    monkeypatch.setattr(Intakes, "wait", count)
    return counted


def test_a_burst_is_taken_with_few_waits(bench: Bench, quick: None, waits: list[None]) -> None:
    server: Any = ThreadPoolUDPServer(LOOPBACK, Reply)
    server.gate = Gate()
    with client_of(server) as client:
        have_a_follower(bench.pool(server), client)
        client.send(GATE)
        assert server.gate.reached.wait(PATIENCE)
        for number in range(BURST):
            client.send(b"%d" % number)
        waits.clear()
        server.gate.open()
        assert client.recv(10) == GATE
        answers = {int(client.recv(10)) for _ in range(BURST)}

    assert answers == set(range(BURST))
    assert len(waits) < BURST / 4


def test_a_burst_of_connections_is_taken_with_few_waits(bench: Bench, quick: None, waits: list[None]) -> None:
    server = make_server(Once, Deep)
    pool = bench.pool(server)
    have_a_follower(pool, bench.connect())
    first = bench.connect()  # whose handler waits for it to say something
    while not pool._deputy:  # bounded by the time limit of the test
        pass
    clients = [bench.connect() for _ in range(BURST)]
    for client in clients:
        client.sendall(b"x")
    waits.clear()
    first.sendall(b"x")

    assert [client.recv(1) for client in clients] == [b"x"] * BURST
    assert len(waits) < BURST / 4


def test_who_keeps_connections_asks_before_each_whether_somebody_is_less_busy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "TICK", math.inf)  # all come quickly, but the deputy looks
    bench.pool(make_server(), threads=8)
    asked = []
    for _ in range(8):
        bench.notes.asked.clear()
        bench.hold()
        asked.append(bench.notes.asked.is_set())

    assert asked == [True] * 8


def test_who_else_has_something_to_say_is_heard_in_a_burst(bench: Bench, quick: None) -> None:
    order: list[str] = []
    everything, gate = threading.Event(), Gate()

    class Stream(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            order.append("stream")

    class Datagram(Reply):
        def handle(self) -> None:
            super().handle()
            order.append("datagram")
            if order.count("datagram") == 5:
                bench.connect(streams)
            if order.count("datagram") == BURST:
                everything.set()

    streams = ThreadPoolTCPServer(LOOPBACK, Stream)
    datagrams: Any = ThreadPoolUDPServer(LOOPBACK, Datagram)
    datagrams.gate = gate
    streams.socket.setblocking(False)
    with client_of(datagrams) as client:
        have_a_follower(bench.pool(datagrams, streams), client)
        client.send(GATE)
        assert gate.reached.wait(PATIENCE)
        for _ in range(BURST):
            client.send(b"x")
        gate.open()
        assert everything.wait(PATIENCE)

    assert order.index("stream") < BURST / 2


@pytest.mark.parametrize("server_class", [ThreadPoolUDPServer, StandardPoolUDPServer])
def test_nobody_waits_for_a_datagram_that_does_not_come(server_class: Any, quick: None) -> None:
    with server_class(LOOPBACK, Reply) as server, serving(server), client_of(server) as client:
        for _ in range(10):
            client.send(b"x")
            assert client.recv(10) == b"x"
    # It has been shut down.


def test_a_datagram_is_not_left_to_a_less_busy_worker(bench: Bench) -> None:
    bench.notes.advice = 1.0
    server = ThreadPoolUDPServer(LOOPBACK, Reply)
    bench.pool(server)
    with client_of(server) as client:
        client.send(b"x")
        assert client.recv(10) == b"x"

    assert not bench.notes.asked.is_set()
