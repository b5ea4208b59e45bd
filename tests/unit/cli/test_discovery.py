"""Discovery: the kernel's list, read as proc(5) lays it out."""

import os
from pathlib import Path

import pytest

from prefork.cli.discovery import ControlPlace, find_places, place_of
from tests.support.control import FakeControlServer

LIST = """Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 27216 @prefork/1000/42
0000000000000000: 00000003 00000000 00000000 0001 03 27217 @prefork/1000/42
0000000000000000: 00000002 00000000 00010000 0001 01 99 @prefork/1000/7
0000000000000000: 00000002 00000000 00010000 0001 01 98 @prefork/0/9
0000000000000000: 00000002 00000000 00010000 0002 01 97 @prefork/1000/8
0000000000000000: 00000002 00000000 00010000 0001 01 96 @prefork/1000/8/x
0000000000000000: 00000002 00000000 00010000 0001 01 95 /run/@prefork/1000/8
0000000000000000: 00000002 00000000 00010000 0001 01 94
"""

STATUS = "Name:\tprefork: master\nUmask:\t0022\nUid:\t1000\t0\t0\t0\nGid:\t7\t7\t7\t7\n"


@pytest.mark.parametrize(("uid", "pids"), [(1000, [7, 42]), (0, [7, 9, 42]), (5, [])])
def test_a_user_finds_its_own_servers_and_root_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, pids: list[int]
) -> None:
    (tmp_path / "unix").write_text(LIST)
    monkeypatch.setattr(os, "geteuid", lambda: uid)

    assert [place.pid for place in find_places(tmp_path / "unix")] == pids


def test_who_is_left_out_of_one_reading_is_found_in_another(monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel leaves a socket out if one before it, in the same chain of its table, is closed between two read(2).
    readings = iter([LIST.replace("@prefork/1000/42", "@other"), LIST.replace("@prefork/1000/7", "@other")])
    monkeypatch.setattr(Path, "read_text", lambda *_: next(readings))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert [place.pid for place in find_places()] == [7, 42]


def test_root_asks_a_process_where_its_user_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path, *_: {"/proc/42/status": STATUS}[str(path)])
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert place_of(42) == ControlPlace(uid=1000, pid=42)


@pytest.mark.parametrize("uid", [0, 5])
def test_a_process_that_nobody_knows_could_only_be_ours(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)

    assert place_of(1_000_000_000) == ControlPlace(uid=uid, pid=1_000_000_000)


def test_a_user_asks_for_its_own_servers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 5)

    assert place_of(1) == ControlPlace(uid=5, pid=1)


def test_a_hidden_list_is_an_empty_one(tmp_path: Path) -> None:
    assert find_places(tmp_path / "missing") == []


def test_a_real_listener_is_found() -> None:
    with FakeControlServer({}) as server:
        assert server.place in find_places()


def test_a_place_is_named_by_its_pid_or_its_path() -> None:
    assert [str(ControlPlace(uid=0, pid=4)), str(ControlPlace("/run/ctl"))] == ["pid 4", "/run/ctl"]
