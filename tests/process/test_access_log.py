"""The access log: one record for each connection, with what is known of it."""

import re
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.support.application import write_application
from tests.support.clients import LineClient, ask_once, connect

SERVERS = """
class Refusing(socketserver.ThreadingTCPServer):
    def verify_request(self, request, client_address): return False

from prefork.serving import ThreadPoolTCPServer
class RefusingPool(ThreadPoolTCPServer):
    def verify_request(self, request, client_address): return False
"""
KINDS = {
    "pooled": {"target": "app:Handler"},
    "foreign": {"target": "socketserver:ThreadingTCPServer", "handler": "app:Handler"},
}
both_kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def _servers(project: Path) -> None:
    write_application(project, extra=SERVERS)


def fields_of(line: str) -> dict[str, str]:
    """Return the fields of a record and, as `what`, what it says."""
    what, _, rest = line.partition(" INFO  ")[2].partition("  ")
    return {"what": what, **dict(re.findall(r"(\w+)=(\S+)", rest))}


def record_of(server: Server, outcome: str, kind: str = "connection") -> dict[str, str]:
    return fields_of(server.wait_for_log(f" {kind} {outcome} "))


@both_kinds
def test_a_served_connection_is_recorded_with_its_bytes(serve: Serve, kind: str) -> None:
    with serve(**KINDS[kind], workers=1, access_log="-") as server:
        with LineClient(server.address) as client:
            peer = "{}:{}".format(*client._socket.getsockname())
            assert client.ask("echo hello") == "hello"
            assert client.ask("eval 'z' * 300000") == "z" * 300000
        record = record_of(server, "served")

        (worker,) = server.workers()
        assert float(record.pop("seconds")) > 0
        assert record == {
            "what": "connection served",
            "in": str(len("echo hello\n" + "eval 'z' * 300000\n")),
            "out": str(len("hello\n") + 300001),
            "listener": "tcp://{}:{}".format(*server.address),
            "peer": peer,
            "worker": "0",
            "gen": "1",
            "pid": str(worker["pid"]),
        }


# A thread of the standard library ends silently with SystemExit.
@pytest.mark.parametrize(("kind", "line"), [("pooled", "raise it"), ("pooled", "sysexit 1"), ("foreign", "raise it")])
def test_a_connection_whose_handler_raises_has_failed(serve: Serve, kind: str, line: str) -> None:
    with serve(**KINDS[kind], workers=1, access_log="-") as server, LineClient(server.address) as client:
        client.send(line)
        client.wait_for_end()

        record = record_of(server, "failed")
        assert (record["in"], record["out"]) == (str(len(line) + 1), "0")


@both_kinds
def test_a_connection_whose_client_is_gone_is_lost(serve: Serve, kind: str) -> None:
    with serve(**KINDS[kind], workers=1, access_log="-") as server:
        client = connect(server.address)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"echo hello\n")
        client.recv(100)
        client.close()  # with a reset

        record = record_of(server, "lost")
        assert (record["in"], record["out"]) == ("11", "6")


@both_kinds
def test_a_connection_that_we_end_is_cut(serve: Serve, kind: str) -> None:
    with serve(**KINDS[kind], workers=1, access_log="-") as server, LineClient(server.address) as client:
        client.ask("echo hello")
        server.stop(quick=True)

        record = record_of(server, "cut")
        assert (record["in"], record["out"]) == ("11", "6")


@pytest.mark.parametrize("target", ["app:Refusing", "app:RefusingPool"])
def test_a_connection_that_its_server_does_not_want_is_refused(serve: Serve, target: str) -> None:
    with serve(target=target, handler="app:Handler", workers=1, access_log="-") as server:
        with LineClient(server.address) as client:
            client.wait_for_end()

        assert record_of(server, "refused")["out"] == "0"
        assert server.status()["totals"]["refused"] == 1


@both_kinds
def test_a_connection_whose_worker_dies_is_lost(serve: Serve, kind: str) -> None:
    with serve(**KINDS[kind], workers=1, access_log="-") as server, LineClient(server.address) as client:
        pid = client.ask("pid")
        client.send("exit 7")
        client.wait_for_end()

        record = record_of(server, "lost")
        assert float(record["seconds"]) > 0
        assert (record["in"], record["out"], record["worker"], record["pid"]) == ("-", "-", "0", pid)
        assert record["peer"] == "{}:{}".format(*client._socket.getsockname())


def test_what_a_child_does_with_a_connection_is_not_known(serve: Serve) -> None:
    with serve(target="socketserver:ForkingTCPServer", handler="app:Handler", workers=1, access_log="-") as server:
        assert ask_once(server.address, "echo hello") == "hello"

        record = record_of(server, "forked")
        assert (record["seconds"], record["in"], record["out"]) == ("-", "-", "-")


def test_the_bytes_of_a_unix_connection_are_not_known(serve: Serve, project: Path) -> None:
    with serve(bind=[f"unix:{project}/socket"], workers=1, access_log="-") as server:
        assert ask_once(server.address, "echo hello") == "hello"

        record = record_of(server, "served")
        assert (record["in"], record["out"], record["peer"]) == ("-", "-", "unix")


@pytest.mark.parametrize(
    "options", [{"target": "app:Datagrams"}, {"target": "socketserver:ThreadingUDPServer", "handler": "app:Datagrams"}]
)
def test_of_a_datagram_we_know_what_came_in(serve: Serve, options: dict[str, Any]) -> None:
    with serve(**options, bind=["udp://127.0.0.1:0"], workers=1, access_log="-") as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(30)
            client.connect(server.address)
            client.send(b"hello")
            client.recv(100)

        record = record_of(server, "served", kind="datagram")
        assert (record["in"], record["out"]) == ("5", "-")


def test_without_an_access_log_nothing_is_recorded(serve: Serve) -> None:
    with serve(workers=1) as server:
        assert ask_once(server.address, "eval 'completed' in repr(self.server.shutdown_request)") == "False"
        server.stop()

    assert "connection served" not in server.log


def test_the_level_of_the_log_does_not_silence_the_access_log(serve: Serve, project: Path) -> None:
    access = project / "access.log"
    with serve(workers=1, access_log=str(access), bind=["tcp://127.0.0.1:0"]) as server:
        ask_once(server.address, "echo hello")
        assert server.stop() == 0

    assert " connection served " in access.read_text()
    assert " connection served " not in server.log


def test_a_client_cannot_forge_a_record_by_its_name(serve: Serve, project: Path) -> None:
    with serve(bind=[f"unix:{project}/socket"], workers=1, access_log="-") as server:
        with socket.socket(socket.AF_UNIX) as client:
            client.bind("\0a pid=1\nforged")
            client.connect(server.address)

        assert ' peer="@a pid=1\\\\nforged" worker=0 ' in server.wait_for_log("connection served")


def test_what_clients_say_is_in_no_log(serve: Serve) -> None:
    with serve(workers=1, access_log="-", log_level="debug") as server:
        assert ask_once(server.address, "echo the secret") == "the secret"
        with LineClient(server.address) as client:
            client.ask("echo the secret")
            client.send("abort")
            client.wait_for_end()
        server.wait_for_log("worker lost")
        server.wait_for_log("connection lost")

    assert "the secret" not in server.log
