"""Datagrams that come in quick succession are taken without a look at anything else, but not for ever."""

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
from tests.unit.serving.conftest import LOOPBACK, PATIENCE, Bench
from tests.unit.serving.test_threadpool import serving

BURST = 100


class StandardPoolUDPServer(ThreadPoolMixIn, socketserver.UDPServer):
    """Its socket blocks who receives from it when there is nothing."""


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


def test_a_burst_is_taken_with_few_waits(bench: Bench, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = 0
    wait = Intakes.wait

    def counted(self: Intakes, **how: bool) -> Any:
        nonlocal waits
        waits += 1
        return wait(self, **how)

    monkeypatch.setattr(Intakes, "wait", counted)
    server = ThreadPoolUDPServer(LOOPBACK, Reply)
    with client_of(server) as client:
        for number in range(BURST):
            client.send(b"%d" % number)
        bench.pool(server)
        answers = {int(client.recv(10)) for _ in range(BURST)}

    assert answers == set(range(BURST))
    assert waits < BURST / 4


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
