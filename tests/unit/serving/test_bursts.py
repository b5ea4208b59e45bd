"""What comes in quick succession is taken without a look at anything else, but not for ever."""

import math
import socket
import socketserver
import threading
from typing import Any

import pytest

from prefork.serving import pool as pools
from prefork.serving import promotion
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


class Reply(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, answering = self.request
        answering.sendto(data, self.client_address)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every request for one that came quickly, and none for one that takes long."""
    monkeypatch.setattr(promotion, "TICK", math.inf)
    monkeypatch.setattr(pools, "TICK", PATIENCE)


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
    server = ThreadPoolUDPServer(LOOPBACK, Reply)
    with client_of(server) as client:
        for number in range(BURST):
            client.send(b"%d" % number)
        bench.pool(server)
        answers = {int(client.recv(10)) for _ in range(BURST)}

    assert answers == set(range(BURST))
    assert len(waits) < BURST / 4


def test_a_burst_of_connections_is_taken_with_few_waits(bench: Bench, quick: None, waits: list[None]) -> None:
    server = make_server(Once, Deep)
    clients = [bench.connect(server) for _ in range(BURST)]
    for client in clients:
        client.sendall(b"x")
    bench.pool(server)

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
    everything = threading.Event()

    class Stream(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            order.append("stream")

    class Datagram(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            order.append("datagram")
            if order.count("datagram") == 5:
                bench.connect(streams)
            if order.count("datagram") == BURST:
                everything.set()

    streams, datagrams = ThreadPoolTCPServer(LOOPBACK, Stream), ThreadPoolUDPServer(LOOPBACK, Datagram)
    streams.socket.setblocking(False)
    with client_of(datagrams) as client:
        for _ in range(BURST):
            client.send(b"x")
        bench.pool(datagrams, streams)
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
