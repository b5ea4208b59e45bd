"""Sockets passed by the service manager: sd_listen_fds(3)."""

import os

import pytest

from prefork.system.inherited import Inherited, take_inherited


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make it look as if the descriptors 3 and 4 had been passed; what they are does not matter here."""
    inheritable: list[int] = []
    monkeypatch.setattr(os, "set_inheritable", lambda number, flag: inheritable.append(number))
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    return inheritable


def test_passed_descriptors_have_names_and_are_not_passed_on(
    passed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_FDNAMES", "web:dns")
    monkeypatch.setenv("LISTEN_PIDFDID", "4711")  # of newer systemds

    assert take_inherited() == [Inherited(3, "web"), Inherited(4, "dns")]
    assert passed == [3, 4]
    assert [name for name in os.environ if name.startswith("LISTEN_")] == []


def test_descriptors_without_names_are_unknown(passed: list[int]) -> None:
    assert [one.name for one in take_inherited()] == ["unknown", "unknown"]


def test_variables_meant_for_another_process_are_removed_and_ignored(
    passed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")

    assert take_inherited() == []
    assert "LISTEN_FDS" not in os.environ


@pytest.mark.parametrize("text", ["abc", "-1", "2.5", "٣"])
def test_a_count_that_is_no_number_is_an_error(passed: list[int], monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("LISTEN_FDS", text)

    with pytest.raises(ValueError, match="LISTEN_FDS must be a number"):
        take_inherited()


def test_a_count_of_more_than_was_passed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "100000")

    with pytest.raises(ValueError, match=r"LISTEN_FDS says 100000 sockets were passed, but descriptor \d+ is closed"):
        take_inherited()
