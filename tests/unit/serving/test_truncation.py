"""Datagrams that are longer than the server takes."""

import socket
import socketserver

import pytest

from prefork.serving import truncation
from prefork.serving.threadpool import ThreadPoolUDPServer
from tests.unit.serving.conftest import LOOPBACK


@pytest.mark.parametrize(("size", "truncated"), [(9, 0), (10, 0), (11, 1), (5000, 1)])
def test_a_datagram_is_cut_at_max_packet_size_and_counted(size: int, truncated: int) -> None:
    with ThreadPoolUDPServer(LOOPBACK, socketserver.DatagramRequestHandler) as server:
        server.max_packet_size = 10
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"x" * size, server.server_address)
            (data, _), _ = server.get_request()

        assert len(data) == min(size, 10)
        assert server.truncated == truncated


def test_it_is_said_once_an_episode(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(truncation, "monotonic", lambda: now)
    with ThreadPoolUDPServer(LOOPBACK, socketserver.DatagramRequestHandler) as server:
        for _ in range(3):
            now += 59
            server._note_truncated(("192.0.2.1", 1))
        assert len(caplog.records) == 1

        now += 61
        server._note_truncated(("192.0.2.1", 1))
        assert len(caplog.records) == 2
    assert "192.0.2.1" in caplog.records[0].getMessage()
