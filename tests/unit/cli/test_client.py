"""The client: it believes the kernel, follows to the end, and does not wait for ever."""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from prefork.cli import client
from prefork.cli.client import Connection, is_believable
from prefork.cli.discovery import ControlPlace
from prefork.errors import NoSuchServer, NotDone
from tests.support.control import HANG_UP, SILENCE, AfterRequest, Answer, FakeControlServer

STATUS: dict[str, list[Answer]] = {"status": [{"ok": True, "result": {"name": "app"}}]}


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[str, float, Mapping[str, int]]] = []
        self.waited = 0

    def hear(self, text: str, at: float, counts: Mapping[str, int]) -> None:
        self.heard.append((text, at, counts))

    def wait(self) -> None:
        self.waited += 1


def ask(answers: Mapping[str, Sequence[Answer]], command: str, time_limit: float = 10.0) -> object:
    with FakeControlServer(answers) as server, Connection(server.place, time_limit) as connection:
        return connection.ask({"command": command})


def test_the_result_of_a_request_is_returned() -> None:
    assert ask(STATUS, "status") == {"name": "app"}


def test_the_request_is_one_line_of_json() -> None:
    with FakeControlServer({"scale": [{"ok": True}]}) as server:
        with Connection(server.place) as connection:
            connection.ask({"command": "scale", "workers": 5})

        assert server.requests == [{"command": "scale", "workers": 5}]


def test_log_lines_arrive_before_the_result() -> None:
    listener = Listener()
    answers: list[Answer] = [
        {"log": "one"},
        {"log": "two", "at": 1700000000.5, "workers": {"wanted": 3}},
        {"ok": True, "result": {"generation": 3}},
    ]
    with FakeControlServer({"reload": answers}) as server, Connection(server.place) as connection:
        result = connection.ask({"command": "reload"}, listener)

    assert result == {"generation": 3}
    assert listener.heard == [("one", 0.0, {}), ("two", 1700000000.5, {"wanted": 3})]


def test_a_refusal_has_the_reason_and_the_detail() -> None:
    with pytest.raises(NotDone) as caught:
        ask({"reload": [{"ok": False, "error": "import failed", "detail": "Traceback"}]}, "reload")

    assert (str(caught.value), caught.value.detail) == ("import failed", "Traceback")


def test_a_server_that_hangs_up_without_an_answer_has_not_done_it() -> None:
    with pytest.raises(NotDone, match="hung up without an answer"):
        ask({"reload": [HANG_UP]}, "reload")


def test_a_stop_is_done_when_the_server_hangs_up() -> None:
    assert ask({"stop": [{"log": "draining"}, HANG_UP]}, "stop") is None


@pytest.mark.parametrize("nonsense", [b"hello\n", b"[1]\n", b"\xff\n"])
def test_an_answer_that_makes_no_sense_is_reported(nonsense: bytes) -> None:
    with pytest.raises(NotDone, match="makes no sense"):
        ask({"status": [nonsense]}, "status")


def test_a_silent_server_is_given_up() -> None:
    with pytest.raises(NotDone, match=r"no answer .* in 0\.05 s; it may be stopped or overloaded"):
        ask({"status": [SILENCE]}, "status", time_limit=0.05)


@contextmanager
def crowded(path: Path) -> Iterator[tuple[socket.socket, ControlPlace]]:
    """A control socket whose queue is full."""
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as clients:
        listener.bind(str(path))
        listener.listen(0)
        with pytest.raises(BlockingIOError):
            for _ in range(10):
                client = clients.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(path))
        yield listener, ControlPlace(path=str(path))


def test_a_server_with_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    with crowded(tmp_path / "control") as (listener, place), ThreadPoolExecutor(1) as threads:
        connecting = threads.submit(Connection, place, 30.0)
        with pytest.raises(TimeoutError):
            connecting.result(0.1)  # it would have failed by then
        listener.accept()[0].close()

        with connecting.result(30) as connection:
            assert connection.pid == os.getpid()


def test_a_server_whose_queue_stays_full_is_given_up(tmp_path: Path) -> None:
    with crowded(tmp_path / "control") as (_, place), pytest.raises(NotDone, match=r"no answer from .* in 0\.2 s"):
        Connection(place, 0.2)


def test_a_silent_order_is_given_up_if_nobody_else_gets_an_answer() -> None:
    with FakeControlServer({"reload": [SILENCE], "status": [SILENCE]}) as server:
        with Connection(server.place, 0.05) as connection, pytest.raises(NotDone, match="no answer"):
            connection.ask({"command": "reload"}, Listener())


def test_a_silent_order_goes_on_while_others_get_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, list[Answer]] = {
        "reload": [{"log": "slow"}, AfterRequest("status"), {"ok": True, "result": 7}],
        **STATUS,
    }
    with FakeControlServer(answers) as server, Connection(server.place, 1.0) as connection:
        # The one that asks whether others get an answer has time for it.
        monkeypatch.setattr(client, "Connection", lambda place, limit: Connection(place, 30.0))
        listener = Listener()
        result = connection.ask({"command": "reload"}, listener)

        assert result == 7
        assert listener.waited > 0
        assert {"command": "status"} in server.requests


def test_nobody_there_is_no_such_server(tmp_path: Path) -> None:
    with pytest.raises(NoSuchServer, match="no server listens at"):
        Connection(ControlPlace(str(tmp_path / "ctl")))


def test_a_path_that_is_no_socket_is_no_such_server(tmp_path: Path) -> None:
    (tmp_path / "ctl").write_text("")

    with pytest.raises(NoSuchServer, match="no server listens at"):
        Connection(ControlPlace(str(tmp_path / "ctl")))


def test_an_unknown_pid_is_no_such_server() -> None:
    with pytest.raises(NoSuchServer, match="no server with the pid 1 "):
        Connection.to_pid(1)


def test_a_pid_leads_to_its_server() -> None:
    with FakeControlServer(STATUS) as server, Connection.to_pid(os.getpid()) as connection:
        assert connection.pid == server.place.pid


def test_a_name_bound_by_another_process_is_not_believed() -> None:
    place = ControlPlace(uid=os.geteuid(), pid=os.getpid() + 1_000_000_000)
    with FakeControlServer(STATUS, place), pytest.raises(NoSuchServer, match="is not that server but process"):
        Connection(place)


ABSTRACT = ControlPlace(uid=1000, pid=42)
PATH = ControlPlace("/run/ctl")


@pytest.mark.parametrize(
    ("place", "pid", "uid", "own_uid", "believed"),
    [
        (ABSTRACT, 42, 1000, 1000, True),
        (ABSTRACT, 42, 1000, 0, True),
        (ABSTRACT, 43, 1000, 1000, False),
        (ABSTRACT, 42, 1001, 1000, False),
        (ABSTRACT, 42, 1001, 0, False),
        (ABSTRACT, 42, 1000, 1001, False),
        (ControlPlace(uid=0, pid=42), 42, 0, 1000, True),
        (PATH, 42, 1000, 1000, True),
        (PATH, 42, 0, 1000, True),
        (PATH, 42, 1001, 0, True),
        (PATH, 42, 1001, 1000, False),
    ],
)
def test_only_the_named_process_of_this_user_or_root_is_believed(
    place: ControlPlace, pid: int, uid: int, own_uid: int, believed: bool
) -> None:
    assert is_believable(place, pid, uid, own_uid) is believed
