"""Parked connections that go to another worker when theirs leaves, under the real command: no client notices."""

import os
import re
import signal
import socket
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from prefork import testing
from tests.process.conftest import Serve
from tests.process.test_upgrade import stopping, upgrade
from tests.support.application import write_application
from tests.support.authorities import Authority
from tests.support.clients import LineClient, connect, eventually

MOVING = """

from prefork.serving import MessageRequestHandler


class Moving(MessageRequestHandler):
    seen = 0

    def handle_message(self):
        word, _, rest = self.rfile.readline().decode().strip().partition(" ")
        self.seen += 1
        match word:
            case "seen":
                self.reply(self.seen)
            case "who":
                self.reply(f"{VERSION} {os.getpid()}")
            case "peer":
                self.reply(self.client_address)
            case "header":
                header = self.server.proxy_header(self.request)
                self.reply(None if header is None else (header.source, header.authority, header.other))
            case "hold":
                self.reply("holding")
                self.rfile.readline()
                self.reply(self.seen)
            case "break":
                self.broken = True
                self.reply("broken")
            case "stay":
                self.stays = True
                self.reply("staying")
            case "grow":
                self.weight = bytes(int(rest))
                self.reply("grown")

    def reply(self, what):
        self.wfile.write(f"{what}\\n".encode())

    def hand_over(self):
        if getattr(self, "broken", False):
            raise ValueError("cannot be written down")
        if getattr(self, "stays", False):
            return None
        return self.seen.to_bytes(8) + getattr(self, "weight", b"")

    def take_over(self, state):
        self.seen = int.from_bytes(state[:8])

    def on_drain(self):
        self.reply("closing")
"""

NOT_MOVING = MOVING.replace("def hand_over", "def _hand_over").replace("def on_drain", "def _on_drain")
FORGETFUL = MOVING.replace("int.from_bytes(state[:8])", "state['seen']")


def serving(serve: Serve, project: Path, **options: Any) -> Any:
    write_application(project, extra=MOVING)
    return serve("app:Moving", **{"threads": 4, **options})


def parked(server: testing.Server, state: str = "serving") -> int:
    return sum(int(worker["parked"]) for worker in server.workers(state))


def connections(server: testing.Server) -> dict[str, Any]:
    found: dict[str, Any] = server.status()["connections"][0]
    return found


def test_a_reload_moves_parked_connections_to_the_new_code(serve: Serve, project: Path) -> None:
    with serving(serve, project, workers=2, drain_timeout=600) as server, ExitStack() as stack:
        clients = [stack.enter_context(LineClient(server.address)) for _ in range(400)]
        assert {client.ask("seen") for client in clients} == {"1"}
        old = {worker["pid"] for worker in server.workers()}
        write_application(project, version="2", extra=MOVING)
        server.reload()
        eventually(lambda: not server.workers("draining"))

        eventually(lambda: parked(server) == 400)
        assert {client.ask("seen") for client in clients} == {"2"}
        whom = {client.ask("who") for client in clients}
        assert {answer.split()[0] for answer in whom} == {"2"}
        assert {int(answer.split()[1]) for answer in whom} == {worker["pid"] for worker in server.workers()} - old
        counts = connections(server)
        assert (counts["accepted"], counts["open"], counts["lost"]) == (400, 400, 0)
        assert counts["handed_over"] == counts["taken_over"] >= 400


def test_clients_that_talk_all_the_time_notice_no_reload(serve: Serve, project: Path) -> None:
    with serving(serve, project, workers=2, drain_timeout=600) as server, ExitStack() as stack:
        clients = [stack.enter_context(LineClient(server.address)) for _ in range(20)]
        asked = 0
        for _ in range(5):
            complete = server.log.count("reload complete")
            server.signal(signal.SIGHUP)
            while server.log.count("reload complete") == complete:
                asked += 1
                assert {client.ask("seen") for client in clients} == {str(asked)}
        eventually(lambda: not server.workers("draining"))

        assert {client.ask("seen") for client in clients} == {str(asked + 1)}
        assert connections(server)["open"] == 20


def test_a_message_that_comes_while_its_connection_moves_is_answered(serve: Serve, project: Path) -> None:
    with serving(serve, project, workers=1, drain_timeout=600) as server, ExitStack() as stack:
        clients = [stack.enter_context(LineClient(server.address)) for _ in range(200)]
        assert {client.ask("seen") for client in clients} == {"1"}
        os.kill(server.workers()[0]["pid"], signal.SIGSTOP)
        old = server.workers()[0]["pid"]
        server.signal(signal.SIGHUP)
        server.wait_for_log("replaced by generation 2")
        for client in clients:
            client.send("seen")  # to a worker that is stopped, and will find the order and the messages together
        os.kill(old, signal.SIGCONT)

        assert {client.read() for client in clients} == {"2"}
        server.wait_for_log("reload complete")
        eventually(lambda: not server.workers("draining"))
        assert {client.ask("seen") for client in clients} == {"3"}


def test_a_connection_in_the_middle_of_a_message_moves_after_it(serve: Serve, project: Path) -> None:
    with serving(serve, project, workers=1, drain_timeout=600) as server, LineClient(server.address) as client:
        assert client.ask("hold") == "holding"
        write_application(project, version="2", extra=MOVING)
        server.reload()
        [old] = server.workers("draining")

        assert client.ask("go on") == "1"  # answered by the old one; it does not say that it is closing
        assert client.ask("who") != f"1 {old['pid']}"
        eventually(lambda: not server.workers("draining"))
        assert client.ask("seen") == "3"


@pytest.mark.parametrize("order", ["recycle", "scale"])
def test_whoever_is_replaced_or_not_wanted_any_more_hands_over(serve: Serve, project: Path, order: str) -> None:
    with serving(serve, project, workers=3, drain_timeout=600) as server, ExitStack() as stack:
        clients = [stack.enter_context(LineClient(server.address)) for _ in range(60)]
        assert {client.ask("seen") for client in clients} == {"1"}
        if order == "scale":
            server.scale(1)
        else:
            server._ask({"command": "recycle"})
        eventually(lambda: not server.workers("draining"))

        assert {client.ask("seen") for client in clients} == {"2"}
        eventually(lambda: parked(server) == 60)


def test_a_worker_that_somebody_terminates_hands_over_to_its_siblings(serve: Serve, project: Path) -> None:
    with serving(serve, project, workers=2, drain_timeout=600) as server, ExitStack() as stack:
        clients = [stack.enter_context(LineClient(server.address)) for _ in range(20)]
        assert {client.ask("seen") for client in clients} == {"1"}
        eventually(lambda: parked(server) == 20)
        terminated = max(server.workers(), key=lambda worker: int(worker["parked"]))["pid"]
        os.kill(terminated, signal.SIGTERM)
        server.wait_for_log("other workers go on with them")

        told = [client.ask("who") for client in clients]
        assert terminated not in {int(answer.split()[-1]) for answer in told if answer != "closing"}


def test_what_new_code_does_not_take_over_stays_with_the_old(serve: Serve, project: Path) -> None:
    with serving(serve, project, workers=2) as server, LineClient(server.address) as client:
        assert client.ask("seen") == "1"
        write_application(project, version="2", extra=NOT_MOVING)
        server.reload()

        assert client.read() == "closing"
        assert client.ask("who").startswith("1 ")
        assert connections(server)["handed_over"] == 0


def test_a_handler_may_keep_its_connection(serve: Serve, project: Path) -> None:
    with serving(serve, project, workers=1) as server, LineClient(server.address) as client:
        assert client.ask("stay") == "staying"
        server.reload()

        assert client.read() == "closing"  # it is told, as nobody goes on with it
        assert client.ask("seen") == "2"
        eventually(lambda: parked(server, "draining") == 1)


def test_a_state_that_is_too_big_stays_and_is_told(serve: Serve, project: Path) -> None:
    with serving(serve, project, workers=1) as server, LineClient(server.address) as client:
        assert client.ask("grow 70000") == "grown"
        server.reload()

        assert "which is too much" in server.wait_for_log("cannot hand over the connection of 127.0.0.1")
        assert client.read() == "closing"
        assert client.ask("seen") == "2"


def test_a_handler_that_fails_ends_its_own_connection_only(serve: Serve, project: Path) -> None:
    with serving(serve, project, workers=1, drain_timeout=600) as server, ExitStack() as stack:
        one, other = (stack.enter_context(LineClient(server.address)) for _ in range(2))
        assert one.ask("break") == "broken"
        assert other.ask("seen") == "1"
        server.reload()

        one.wait_for_end()
        assert other.ask("seen") == "2"
        assert "cannot be written down" in server.log
        write_application(project, version="2", extra=FORGETFUL)
        server.reload()
        other.wait_for_end()

        eventually(lambda: connections(server)["open"] == 0)
        assert (connections(server)["failed"], connections(server)["lost"]) == (2, 0)


def test_connections_of_unix_sockets_move_and_those_over_tls_stay(serve: Serve, project: Path) -> None:
    authority = Authority(project)
    authority.issue("localhost")
    binds = ["tcp://127.0.0.1:0", f"unix:{project}/socket?tls=off"]
    with (
        serving(serve, project, bind=binds, workers=1, tls_cert="cert.pem") as server,
        LineClient(str(project / "socket")) as plain,
    ):
        secured = LineClient.over(
            authority.client_context().wrap_socket(connect(server.address), server_hostname="localhost")
        )
        before = plain.ask("peer")
        assert secured.ask("seen") == "1"
        write_application(project, version="2", extra=MOVING)
        server.reload()
        eventually(lambda: sum(one["taken_over"] for one in server.status()["connections"]) == 1)

        assert plain.ask("who").startswith("2 ")
        assert plain.ask("peer") == before
        assert secured.read() == "closing"
        assert secured.ask("who").startswith("1 ")
        secured.close()


def test_what_a_proxy_said_moves_along(serve: Serve, project: Path) -> None:
    addresses = socket.inet_aton("192.0.2.7") + socket.inet_aton("192.0.2.8") + struct.pack("!HH", 4711, 25)
    values = b"\x02" + struct.pack("!H", 7) + b"example" + b"\xe0" + struct.pack("!H", 2) + b"\xff\x00"
    header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(addresses + values)) + addresses + values
    with (
        serving(serve, project, workers=1, proxy_protocol="on", trusted_proxies="127.0.0.1") as server,
        connect(server.address) as connection,
    ):
        connection.sendall(header)
        client = LineClient.over(connection)
        before = client.ask("header"), client.ask("peer")
        write_application(project, version="2", extra=MOVING)
        server.reload()
        eventually(lambda: not server.workers("draining"))

        assert client.ask("who").startswith("2 ")
        assert (client.ask("header"), client.ask("peer")) == before
        assert before == ("(('192.0.2.7', 4711), 'example', ((224, b'\\xff\\x00'),))", "('192.0.2.7', 4711)")
        client.close()


def test_limits_and_the_access_log_follow_a_connection(serve: Serve, project: Path) -> None:
    options = {"limit_connections": 3, "limit_per_peer": 2, "access_log": "access.log"}
    with serving(serve, project, workers=1, **options) as server, ExitStack() as stack:
        clients = [stack.enter_context(LineClient(server.address)) for _ in range(2)]
        assert {client.ask("seen") for client in clients} == {"1"}
        server.reload()
        eventually(lambda: not server.workers("draining"))
        assert {client.ask("seen") for client in clients} == {"2"}

        with LineClient(server.address) as third:
            third.wait_for_end()  # the peer still has two
        with LineClient(server.address, ("127.0.0.2", 0)) as other:
            assert other.ask("seen") == "1"
        stack.close()
        eventually(lambda: connections(server)["open"] == 0)
        with LineClient(server.address) as again, LineClient(server.address) as and_again:
            assert again.ask("seen") == and_again.ask("seen") == "1"
        eventually(lambda: connections(server)["open"] == 0)
        assert server.stop() == 0

    served = re.findall(r"connection served .* in=(\d+)", (project / "access.log").read_text())
    assert sorted(served) == ["10", "10", "5", "5", "5"]  # two of them asked before and after they moved


def test_an_idle_connection_that_moved_is_ended_in_its_time(serve: Serve, project: Path) -> None:
    with serving(serve, project, workers=1, idle_timeout=2, drain_timeout=600) as server, ExitStack() as stack:
        idle, in_the_middle = (stack.enter_context(LineClient(server.address)) for _ in range(2))
        assert idle.ask("seen") == in_the_middle.ask("seen") == "1"
        server.reload()
        eventually(lambda: not server.workers("draining"))
        in_the_middle.begin("se")

        idle.wait_for_end()
        in_the_middle.wait_for_end()
        eventually(lambda: connections(server)["open"] == 0)
        assert connections(server)["failed"] == 0


@pytest.mark.parametrize(("before", "after"), [("0", "60"), ("60", "0")])
def test_a_message_in_two_pieces_is_waited_for_after_the_move(
    serve: Serve, project: Path, before: str, after: str
) -> None:
    (project / "prefork.toml").write_text(f"idle_timeout = {before}\n")
    with serving(serve, project, workers=1, config="prefork.toml") as server, LineClient(server.address) as client:
        assert client.ask("hold") == "holding"
        client.send("and")
        assert client.read() == "1"
        (project / "prefork.toml").write_text(f"idle_timeout = {after}\n")
        server.reload()
        eventually(lambda: not server.workers("draining"))

        assert client.ask("hold") == "holding"  # it reads again, and there is nothing yet
        assert client.ask("and") == "2"


def test_a_stop_ends_parked_connections_as_ever(serve: Serve, project: Path) -> None:
    with serving(serve, project, workers=2, drain_timeout=600) as server, ExitStack() as stack:
        clients = [stack.enter_context(LineClient(server.address)) for _ in range(20)]
        assert {client.ask("seen") for client in clients} == {"1"}
        server.signal(signal.SIGTERM)

        assert {client.read() for client in clients} == {"closing"}
        assert server.wait() == 0


def test_an_upgrade_moves_parked_connections_to_the_new_master(serve: Serve, project: Path) -> None:
    with serving(serve, project, workers=2, drain_timeout=600) as server, ExitStack() as stack:
        clients = [stack.enter_context(LineClient(server.address)) for _ in range(100)]
        staying = stack.enter_context(LineClient(server.address))
        assert {client.ask("seen") for client in clients} == {"1"}
        assert staying.ask("stay") == "staying"
        write_application(project, version="2", extra=MOVING)
        with stopping(upgrade(server)):
            assert server.process.wait(30) == 0

            staying.wait_for_end()
            assert {client.ask("seen") for client in clients} == {"2"}
            assert {client.ask("who").split()[0] for client in clients} == {"2"}
