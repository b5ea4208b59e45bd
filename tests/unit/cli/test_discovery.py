"""Discovery: the kernel's list, read as proc(5) lays it out."""

import os
from pathlib import Path

import pytest

from prefork.cli.discovery import ControlPlace, find_places
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


@pytest.mark.parametrize(("uid", "pids"), [(1000, [7, 42]), (0, [7, 9, 42]), (5, [])])
def test_a_user_finds_its_own_servers_and_root_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, pids: list[int]
) -> None:
    (tmp_path / "unix").write_text(LIST)
    monkeypatch.setattr(os, "geteuid", lambda: uid)

    assert [place.pid for place in find_places(tmp_path / "unix")] == pids


def test_a_hidden_list_is_an_empty_one(tmp_path: Path) -> None:
    assert find_places(tmp_path / "missing") == []


def test_a_real_listener_is_found() -> None:
    with FakeControlServer({}) as server:
        assert server.place in find_places()


def test_a_place_is_named_by_its_pid_or_its_path() -> None:
    assert [str(ControlPlace(uid=0, pid=4)), str(ControlPlace("/run/ctl"))] == ["pid 4", "/run/ctl"]
