"""The choice of a server: named, or the only one; never a guess."""

import os
from pathlib import Path
from typing import Any

import pytest

from prefork.cli import choice
from prefork.cli.choice import Choice, ask_all
from prefork.cli.discovery import ControlPlace
from prefork.errors import NoSuchServer, UsageError
from tests.support.control import Answer, FakeControlServer

OURS = ControlPlace(uid=os.geteuid(), pid=os.getpid())
GONE = ControlPlace(uid=os.geteuid(), pid=1_000_000_001)


def status(name: str) -> dict[str, list[Answer]]:
    return {"status": [{"ok": True, "result": {"name": name, "target": "app:Handler"}}]}


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> list[ControlPlace]:
    """What discovery finds; other tests may run servers beside this one."""
    places: list[ControlPlace] = []
    monkeypatch.setattr(choice, "find_places", lambda: places)
    return places


def test_the_only_server_is_found_by_itself(running: list[ControlPlace]) -> None:
    running += [GONE, OURS]
    with FakeControlServer(status("app")), Choice().connect() as connection:
        assert connection.pid == os.getpid()


def test_no_server_is_said_to_be_none(running: list[ControlPlace]) -> None:
    with pytest.raises(NoSuchServer, match="no server is running as this user"):
        Choice().connect()


def test_of_several_servers_none_is_guessed(running: list[ControlPlace]) -> None:
    running += [OURS, OURS]
    with (
        FakeControlServer(status("app")),
        pytest.raises(UsageError, match="2 servers are running; say which") as caught,
    ):
        Choice().connect()

    assert f"--pid {os.getpid()}  app  app:Handler" in str(caught.value)


def test_a_name_picks_its_server(running: list[ControlPlace]) -> None:
    running += [OURS]
    with FakeControlServer(status("app")), Choice(name="app").connect() as connection:
        assert connection.pid == os.getpid()


def test_a_name_that_nobody_has_is_no_such_server(running: list[ControlPlace]) -> None:
    running += [OURS]
    with FakeControlServer(status("app")), pytest.raises(NoSuchServer, match="no server called other is running"):
        Choice(name="other").connect()


def test_a_path_needs_no_discovery(running: list[ControlPlace], tmp_path: Path) -> None:
    place = ControlPlace(str(tmp_path / "ctl"))
    with FakeControlServer({}, place), Choice(control=place.path).connect() as connection:
        assert connection.pid == os.getpid()


def test_two_ways_to_say_which_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="use one of them"):
        Choice(pid=1, name="app").connect()


@pytest.mark.parametrize("answer", [b"", b"nonsense\n", {"ok": True, "result": 3}])
def test_a_server_that_does_not_answer_is_listed_without_a_status(running: list[ControlPlace], answer: Any) -> None:
    running += [GONE, OURS]
    with FakeControlServer({"status": [answer]}):
        assert ask_all() == [(OURS, None)]
