"""Long-lived connections under the real command: parked between messages, seen in the status, ended in order."""

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from prefork import testing
from tests.process.conftest import Serve
from tests.support.application import write_application
from tests.support.authorities import Authority
from tests.support.clients import LineClient, connect, eventually

MESSAGES = """

from prefork.serving import MessageRequestHandler


class Messages(MessageRequestHandler):
    def handle_message(self):
        word, _, rest = self.rfile.readline().decode().strip().partition(" ")
        self.wfile.write(f"{VERSION if word == 'version' else rest}\\n".encode())


class Holding(Messages):
    def handle_message(self):
        super().handle_message()
        if self.client_address[0] == "127.0.0.2":
            import ctypes

            ctypes.PyDLL(None).sleep(600)  # a call in C that keeps the interpreter


class Polite(Messages):
    def on_drain(self):
        self.wfile.write(b"closing\\n")
"""


def serving(serve: Serve, project: Path, target: str = "app:Messages", **options: Any) -> Any:
    write_application(project, extra=MESSAGES)
    return serve(target, threads=2, **options)


def parked(server: testing.Server) -> int:
    return sum(int(worker["parked"]) for worker in server.workers())


def test_far_more_clients_than_threads_are_served(serve: Serve, project: Path) -> None:
    with serving(serve, project, workers=2) as server:
        clients = [LineClient(server.address) for _ in range(300)]
        for number in range(2):
            assert [client.ask(f"echo {number}") for client in clients] == [str(number)] * 300
        eventually(lambda: parked(server) == 300)

        assert sum(worker["open"] for worker in server.workers()) == 300
        for client in clients:
            client.close()
        eventually(lambda: parked(server) == 0)


def test_parked_connections_survive_a_reload_with_the_old_code(serve: Serve, project: Path) -> None:
    with serving(serve, project) as server:
        client = LineClient(server.address)
        assert client.ask("version") == "1"
        write_application(project, version="2", extra=MESSAGES)
        server.reload()

        assert client.ask("version") == "1"
        with_new_code = LineClient(server.address)
        assert with_new_code.ask("version") == "2"
        client.close()
        with_new_code.close()


def test_a_stop_tells_parked_clients_and_does_not_wait_for_them(serve: Serve, project: Path) -> None:
    with serving(serve, project, "app:Polite", workers=2, drain_timeout=600) as server:
        clients = [LineClient(server.address) for _ in range(20)]
        assert {client.ask("echo x") for client in clients} == {"x"}
        server.signal(signal.SIGTERM)

        assert [client.read() for client in clients] == ["closing"] * 20
        for client in clients:
            client.wait_for_end()
            client.close()
        assert server.wait() == 0


def test_connections_over_tls_are_parked_and_recorded_once(serve: Serve, project: Path) -> None:
    authority = Authority(project)
    authority.issue("localhost")
    with (
        serving(serve, project, tls_cert="cert.pem", access_log="access.log", limit_per_peer=50) as server,
        ExitStack() as stack,
    ):
        clients = [
            stack.enter_context(
                authority.client_context().wrap_socket(connect(server.address), server_hostname="localhost")
            )
            for _ in range(20)
        ]
        for number in range(3):
            for client in clients:
                client.sendall(b"echo %d\n" % number)
                assert client.recv(100) == b"%d\n" % number
        eventually(lambda: parked(server) == 20)
        stack.close()
        eventually(lambda: parked(server) == 0)
        eventually(lambda: sum(server.status()["connections"][0]["durations"]) == 60)  # each message
        assert server.stop() == 0

    records = (project / "access.log").read_text().splitlines()
    assert len([record for record in records if "connection served" in record]) == 20


def test_parked_connections_that_a_wedged_worker_takes_along_are_counted(serve: Serve, project: Path) -> None:
    with serving(serve, project, "app:Holding", workers=1, handler_timeout=1) as server, ExitStack() as clients:
        for number in range(30):
            assert clients.enter_context(LineClient(server.address)).ask(f"echo {number}") == str(number)
        eventually(lambda: parked(server) == 30)
        with LineClient(server.address, ("127.0.0.2", 0)) as guilty:
            guilty.send("echo and never again")
            gone = server.wait_for_log("worker gone")
        server.wait_for_log("lost with it: 30 that were parked")

        [death] = server.status()["deaths"]
        assert "its interpreter is held" in gone
        assert [request["peer"].partition(":")[0] for request in death["requests"]] == ["127.0.0.2"]
        assert (death["parked"], death["others"]) == (30, 0)
        assert server.log.count("lost with it: ") == 2
