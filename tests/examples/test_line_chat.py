import socket
from signal import SIGTERM
from types import TracebackType
from typing import Self

from tests.support.addresses import host_and_port
from tests.support.clients import eventually
from tests.support.serving import serve_calmly


class Client:
    """Somebody in the chat."""

    def __init__(self, address: tuple[str, int], name: str) -> None:
        self._socket = socket.create_connection(address, timeout=30)
        self._lines = self._socket.makefile("r", encoding="utf-8")
        assert self.hear() == "Your name?"
        self.say(name)
        self.welcome = self.hear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def say(self, line: str) -> None:
        self._socket.sendall(f"{line}\n".encode())

    def hear(self) -> str:
        return self._lines.readline().rstrip("\n")


def test_clients_of_a_worker_see_each_other() -> None:
    with serve_calmly("examples.line_chat:ChatHandler", workers=1, bind=["tcp://127.0.0.1:0"]) as server:
        with Client(host_and_port(server), "Ann") as ann:
            with Client(host_and_port(server), "Ben") as ben:
                bell = "\a"
                ben.say(f"hello{bell}")

                assert ann.welcome == "Welcome, Ann. With you in this worker's room: nobody yet."
                assert ben.welcome == "Welcome, Ben. With you in this worker's room: Ann."
                assert ann.hear() == "* Ben enters"
                assert ann.hear() == "Ben: hello"
            assert ann.hear() == "* Ben leaves"


def test_a_reload_leaves_everybody_in_the_room() -> None:
    with serve_calmly("examples.line_chat:ChatHandler", workers=1, bind=["tcp://127.0.0.1:0"]) as server:
        with Client(host_and_port(server), "Ann") as ann, Client(host_and_port(server), "Ben") as ben:
            assert ann.hear() == "* Ben enters"
            server.reload()
            eventually(lambda: not server.workers("draining"))
            ben.say("still here")

            assert ann.hear() == "Ben: still here"


def test_a_client_hears_a_goodbye_when_the_server_stops() -> None:
    with serve_calmly("examples.line_chat:ChatHandler", workers=1, bind=["tcp://127.0.0.1:0"]) as server:
        with Client(host_and_port(server), "Ann") as ann:
            server.signal(SIGTERM)

            assert ann.hear() == "* This server is closing. Come again!"
        server.wait()
