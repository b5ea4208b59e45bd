"""Faults of datagrams."""

import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.support.addresses import host_and_port
from tests.support.clients import TIME_LIMIT
from tests.support.processes import suspended
from tests.support.strace import injected


def client_of(server: Server, source: str = "127.0.0.1") -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(TIME_LIMIT)
    client.bind((source, 0))
    client.connect(host_and_port(server))
    return client


@pytest.mark.fault("datagrams")
def test_a_datagram_that_is_too_long_is_cut_off_and_said_once(serve: Serve) -> None:
    options = {"bind": ["udp://127.0.0.1:0"], "server": {"max_packet_size": 100}}
    with serve("app:Datagrams", workers=1, **options) as server, client_of(server) as client:
        for _ in range(10):
            client.send(b"x" * 200)
            assert client.recv(1000) == b"1 " + b"x" * 100

        server.wait_for_log("datagram cut off")
        assert server.log.count("datagram cut off") == 1


@pytest.mark.fault("datagrams")
def test_clients_that_are_not_there_for_their_answers_disturb_nobody(serve: Serve) -> None:
    with serve("app:Datagrams", workers=1, bind=["udp://127.0.0.1:0"]) as server:
        for _ in range(50):
            with client_of(server) as gone:
                gone.send(b"answer me")  # its port is closed when the answer comes: ICMP port unreachable
        with client_of(server) as client:
            client.send(b"x")

            assert client.recv(100) == b"1 x"
        assert " ERROR " not in server.log


@pytest.mark.fault("datagrams")
def test_a_refusal_reported_by_recvfrom_is_tolerated(serve: Serve, tmp_path: Path) -> None:
    with serve("app:Datagrams", workers=1, bind=["udp://127.0.0.1:0"]) as server, client_of(server) as client:
        fault = "recvfrom:error=ECONNREFUSED:when=1..3"
        with injected(server.workers()[0]["pid"], fault, tmp_path) as injection:
            client.send(b"x")

            assert client.recv(100) == b"1 x"
            assert injection.count >= 1


@pytest.mark.fault("datagrams")
def test_a_flood_from_many_sources_fills_the_socket_and_not_the_memory(serve: Serve) -> None:
    with serve("app:Datagrams", workers=1, bind=["udp://127.0.0.1:0"]) as server, ExitStack() as clients:
        [worker] = server.workers()
        with suspended(worker["pid"]):
            for number in range(100):
                source = clients.enter_context(client_of(server, f"127.0.1.{number + 1}"))
                for _ in range(200):
                    source.send(b"x" * 1000)
        with client_of(server) as client:
            answered = False
            while not answered:  # until the flood has been answered or dropped
                client.send(b"after the flood")
                client.settimeout(0.5)
                try:
                    answered = client.recv(100) == b"1 after the flood"
                except TimeoutError:
                    continue

        [after] = server.workers()
        assert after["pid"] == worker["pid"]
        assert after["rss"] - worker["rss"] < 20 << 20


@pytest.mark.fault("datagrams")
def test_a_reload_loses_no_datagram_that_is_in_the_socket(serve: Serve) -> None:
    with serve("app:Datagrams", workers=1, bind=["udp://127.0.0.1:0"]) as server, client_of(server) as client:
        [worker] = server.workers()
        with suspended(worker["pid"]):
            for number in range(50):
                client.send(str(number).encode())
            server.signal(signal.SIGHUP)

        assert {client.recv(100) for _ in range(50)} == {f"1 {number}".encode() for number in range(50)}
        server.wait_for_log("reload complete")
