import os
import socket
from pathlib import Path

from tests.support import tools
from tests.support.addresses import host_and_port
from tests.support.serving import serve_calmly


def test_socat_gets_back_what_it_sends_over_tcp() -> None:
    data = os.urandom(1_000_000)
    with serve_calmly("examples.echo:EchoHandler", workers=2, bind=["tcp://127.0.0.1:0"]) as server:
        host, port = host_and_port(server)
        # -t: how long to wait for the rest of the answer once everything has been sent.
        done = tools.run(["socat", "-t", "60", "-", f"TCP:{host}:{port}"], stdin=data)

    assert done.stdout == data


def test_socat_is_greeted_and_gets_its_lines_numbered_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    with serve_calmly("examples.unix_echo:NumberedEchoHandler", workers=2, bind=[f"unix:{path}"]):
        done = tools.run(["socat", "-t", "60", "-", f"UNIX-CONNECT:{path}"], stdin=b"one\ntwo\n")

    greeting, *lines = done.stdout.splitlines()
    assert greeting.endswith(b"of user %d" % os.getuid())
    assert lines == [b"1: one", b"2: two"]


def test_a_datagram_is_answered_in_capitals() -> None:
    with (
        serve_calmly("examples.upper_udp:UpperHandler", workers=2, bind=["udp://127.0.0.1:0"]) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(30)
        client.sendto("größer".encode(), host_and_port(server))
        answer, sender = client.recvfrom(100)

        assert answer == "größer".encode().upper()
        assert sender == host_and_port(server)
