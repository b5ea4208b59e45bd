"""Faults of the network and of the peer at its other end."""

import socket
from pathlib import Path

import pytest

from tests.process.conftest import Serve
from tests.support.application import write_application
from tests.support.clients import LineClient, ask_once, eventually
from tests.support.network import SERVER, network

ON_THE_WIRE = f"tcp://{SERVER}:0"

HASTY = '''

class Hasty(socketserver.BaseRequestHandler):
    """Answers at length as soon as it has read a line, and reads no further."""

    def handle(self):
        while self.request.recv(1) != b"\\n":
            pass
        self.request.sendall(b"reply" * 100_000)


class Flooding(socketserver.BaseRequestHandler):
    """Sends until nobody takes it."""

    def handle(self):
        while True:
            self.request.sendall(b"x" * 65536)
'''


@pytest.mark.fault("vanished-peer")
@pytest.mark.root
def test_a_peer_that_vanished_is_given_up_by_keepalive(serve: Serve) -> None:
    with network() as net, serve(workers=1, bind=[f"{ON_THE_WIRE}?keepalive=2"]) as server:
        with net.connect(server.address) as client:
            assert client.ask("echo x") == "x"
            net.filter("drop")

            eventually(lambda: server.workers()[0]["open"] == 0)
            assert "INFO" in server.wait_for_log("connection lost")


@pytest.mark.fault("vanished-peer")
@pytest.mark.root
def test_a_peer_that_takes_no_more_of_its_reply_is_given_up_by_user_timeout(serve: Serve, project: Path) -> None:
    write_application(project, extra=HASTY)
    with network() as net, serve("app:Flooding", workers=1, bind=[f"{ON_THE_WIRE}?user_timeout=2"]) as server:
        with net.connect(server.address) as client:
            assert client._socket.recv(1) == b"x"
            net.filter("drop")

            eventually(lambda: server.workers()[0]["open"] == 0)
            assert "INFO" in server.wait_for_log("connection lost")


@pytest.mark.fault("half-closed")
def test_a_half_closed_connection_gets_its_whole_reply(serve: Serve, project: Path) -> None:
    write_application(project, extra=HASTY)
    with serve("app:Hasty", workers=1) as server, LineClient(server.address) as client:
        client.send("now")
        client._socket.shutdown(socket.SHUT_WR)

        assert client._file.read() == b"reply" * 100_000


@pytest.mark.fault("half-closed")
@pytest.mark.parametrize("kind", ["tcp://127.0.0.1:0", "unix:socket"])
def test_input_that_nobody_read_does_not_reset_the_reply_away(
    serve: Serve, project: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(project)
    write_application(project, extra=HASTY)
    with serve("app:Hasty", workers=1, bind=[kind]) as server, LineClient(server.address) as client:
        client.send("now\n" + "more than anybody reads" * 1000)

        assert client._file.read() == b"reply" * 100_000


@pytest.mark.fault("gone-in-reply")
def test_a_peer_that_goes_in_the_middle_of_its_reply_is_one_line_of_the_log(serve: Serve, project: Path) -> None:
    write_application(project, extra=HASTY)
    with serve("app:Flooding", workers=1) as server:
        for _ in range(20):
            with LineClient(server.address) as client:
                assert client._socket.recv(1) == b"x"

        server.wait_for_log("connection lost", 20)
        assert "Traceback" not in server.log


@pytest.mark.fault("bad-line")
@pytest.mark.root
@pytest.mark.timeout(300)
def test_a_bad_line_with_tiny_segments_changes_nothing_that_is_said(serve: Serve) -> None:
    with network() as net, serve(workers=1, bind=[ON_THE_WIRE]) as server:
        net.slow_down()
        net.filter("numgen random mod 100 < 20 drop")
        options = [(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 88), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        with net.connect(server.address, *options) as client:
            client._socket.settimeout(150)  # what is lost several times in a row comes late
            for byte in b"eval 'x' * 3000\n":
                client._socket.sendall(bytes([byte]))

            assert client.read() == "x" * 3000


@pytest.mark.fault("lost-address")
@pytest.mark.root
def test_an_interface_that_goes_down_and_comes_back_is_served_again(serve: Serve) -> None:
    with network() as net, serve(workers=1, bind=[ON_THE_WIRE]) as server:
        with net.connect(server.address) as client:
            assert client.ask("echo before") == "before"
            net.on_server("link", "set", "server", "down")
            client.send("echo after")
            net.on_server("link", "set", "server", "up")

            assert client.read() == "after"


@pytest.mark.fault("lost-address")
@pytest.mark.root
def test_an_address_that_is_removed_while_bound_is_served_again_when_it_is_back(serve: Serve) -> None:
    with network() as net, serve(workers=1, bind=[ON_THE_WIRE]) as server:
        address = server.address
        net.on_server("addr", "del", f"{SERVER}/24", "dev", "server")
        server.reload()
        net.on_server("addr", "add", f"{SERVER}/24", "dev", "server")

        with net.connect(address) as client:
            assert client.ask("generation") == "2"


@pytest.mark.fault("address-families")
def test_an_ipv6_listener_serves_ipv4_clients_only_if_it_may(serve: Serve) -> None:
    both, only = "tcp://[::]:0", "tcp://[::]:0?ipv6only=on"
    with serve(workers=1, bind=[both]) as server:
        port = server.addresses[0][1]
        assert ask_once(("127.0.0.1", int(port)), "echo x") == "x"
        assert ask_once(("::1", int(port)), "echo x") == "x"
    with serve(workers=1, bind=[only]) as server:
        port = server.addresses[0][1]
        assert ask_once(("::1", int(port)), "echo x") == "x"
        with pytest.raises(ConnectionRefusedError):
            ask_once(("127.0.0.1", int(port)), "echo x")


@pytest.mark.fault("address-families")
def test_an_ipv4_client_of_an_ipv6_listener_is_the_same_peer_as_ever(serve: Serve) -> None:
    with serve(workers=1, bind=["tcp://[::]:0", "tcp://127.0.0.1:0"], limit_per_peer=1) as server:
        mapped, plain = ("127.0.0.1", int(server.addresses[0][1])), server.addresses[1]
        with LineClient(mapped) as first:
            assert first.ask("echo x") == "x"
            with LineClient(plain) as second, pytest.raises(ConnectionError):
                second.ask("echo x")

        assert "peer=127.0.0.1" in server.wait_for_log("peer refused")
