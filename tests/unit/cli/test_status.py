"""Status and list: readable at 80 columns, and complete as JSON."""

import io
import json
import os
import sys
from typing import Any

import pytest

from prefork.cli import choice
from prefork.cli.discovery import ControlPlace
from prefork.cli.main import main
from prefork.cli.replies import read_status
from prefork.cli.status import render_list, render_status
from prefork.errors import NotDone
from tests.support.control import SILENCE, FakeControlServer

WORKER: dict[str, Any] = {
    "slot": 0,
    "generation": 2,
    "pid": 4243,
    "state": "serving",
    "accepting": True,
    "age": 11230.5,
    "beat_age": 0.2,
    "threads": 128,
    "threads_busy": 1,
    "accepted": 1234567,
    "open": 3,
    "served": 1234560,
    "failed": 4,
    "rss": 24117248,
    "requests": [{"peer": "127.0.0.1:5", "listener": "tcp://127.0.0.1:0", "seconds": 1.0, "tag": "GET key"}],
}
STATUS: dict[str, Any] = {
    "name": "echo",
    "pid": 4242,
    "version": "0.1.0",
    "python": "3.11.4",
    "target": "app.echo:Handler",
    "state": "serving",
    "ready": True,
    "uptime": 300.0,
    "generation": 2,
    "candidate": None,
    "wanted": 2,
    "listeners": [
        {"address": "tcp://127.0.0.1:41234", "bind": "tcp://127.0.0.1:0"},
        {"address": "unix:/run/app.sock", "bind": "unix:/run/app.sock"},
    ],
    "workers": [
        WORKER,
        {**WORKER, "slot": 1, "pid": None, "state": "starting", "threads_busy": 0, "rss": None, "requests": []},
    ],
    "totals": {"accepted": 1234567, "served": 1234560, "failed": 4, "restarts": 1, "reloads": 2, "reloads_failed": 1},
    "last_reload": {"generation": 3, "ok": False, "reason": "import failed", "detail": "Traceback", "ago": 65.0},
}


def test_a_status_shows_what_an_operator_asks_for() -> None:
    assert render_status(read_status(STATUS)) == [
        "echo: serving   pid 4242   generation 2   up 5m00s",
        "target    app.echo:Handler   (prefork 0.1.0, Python 3.11.4)",
        "listens   tcp://127.0.0.1:41234   (tcp://127.0.0.1:0)",
        "          unix:/run/app.sock",
        "totals    accepted 1.2M, failed 4, restarts 1, reloads 2, reloads failed 1",
        "reload    generation 3 was given up, 1m05s ago: import failed",
        "",
        "WORKER GEN  PID STATE      AGE  BUSY OPEN ACCEPTED FAILED MEMORY",
        "     0   2 4243 serving  3h07m 1/128    3     1.2M      4    23M",
        "     1   2      starting 3h07m 0/128    3     1.2M      4",
        "",
        "WORKER  SERVING  PEER         TAG",
        "     0       1s  127.0.0.1:5  GET key",
    ]


def test_the_status_of_a_large_server_fits_80_columns() -> None:
    worker = {**WORKER, "slot": 1023, "generation": 999, "pid": 4194304, "threads": 4096}
    status = {**STATUS, "workers": [{**worker, "threads_busy": 4096, "accepted": 99_999_999, "age": 9e6}]}

    assert max(map(len, render_status(read_status(status)))) <= 80


def test_reloads_that_were_refused_or_superseded_are_told_if_there_are_any() -> None:
    totals = {"reloads": 2, "reloads_failed": 0, "reloads_refused": 0, "reloads_superseded": 1}

    assert "totals    reloads 2, reloads failed 0, reloads superseded 1" in render_status(
        read_status({**STATUS, "totals": totals})
    )


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"state": "reloading", "candidate": 3}, "echo: reloading to generation 3   pid"),
        ({"ready": False}, "echo: serving, not ready   pid"),
        ({"state": "stopping", "ready": False}, "echo: stopping   pid"),
    ],
)
def test_the_first_line_has_the_state(changes: dict[str, Any], first: str) -> None:
    assert render_status(read_status({**STATUS, **changes}))[0].startswith(first)


def test_the_latest_deaths_are_shown_with_how_many_connections_they_took() -> None:
    death = {"generation": 2, "accepted": 7, "rss": 50 << 20, "parked": 30, "others": 1, "ago": 65.0}
    deaths = [{**death, "slot": slot, "how": "killed by SIGSEGV" + slot * ", again and again"} for slot in range(9)]
    lines = render_status(read_status({**STATUS, "deaths": deaths}))

    assert lines[-6:] == [
        "DIED GEN   AGO ACCEPTED MEM LOST HOW",
        "   8   2 1m05s        7 50M   31 killed by SIGSEGV, again and again, again a…",
        "   7   2 1m05s        7 50M   31 killed by SIGSEGV, again and again, again a…",
        "   6   2 1m05s        7 50M   31 killed by SIGSEGV, again and again, again a…",
        "   5   2 1m05s        7 50M   31 killed by SIGSEGV, again and again, again a…",
        "   4   2 1m05s        7 50M   31 killed by SIGSEGV, again and again, again a…",
    ]


def test_whom_the_latest_deaths_took_along_is_shown() -> None:
    lost = [{"peer": f"10.0.0.1:{port}", "seconds": 3.0, "tag": "GET bomb"} for port in range(1, 9)]
    deaths = [{"slot": slot, "how": "killed by SIGSEGV", "requests": lost} for slot in (0, 1)]
    lines = render_status(read_status({**STATUS, "deaths": deaths}))

    assert lines[-12] == "DIED  SERVED  PEER        TAG"
    assert lines[-11] == "   1      3s  10.0.0.1:1  GET bomb"
    assert lines[-2] == "   0      3s  10.0.0.1:2  GET bomb"
    assert lines[-1] == "and 6 more"


def test_what_the_oom_killer_has_done_is_shown_below_the_deaths() -> None:
    deaths = [{"how": "killed by SIGSEGV"}, {"how": "killed by SIGKILL of the kernel's OOM killer", "oom_kills": 3}]

    assert render_status(read_status({**STATUS, "deaths": deaths}))[-1] == "OOM kills in the control group by then: 3"
    assert render_status(read_status({**STATUS, "deaths": deaths[:1]}))[-1].endswith("killed by SIGSEGV")


def test_only_the_longest_requests_are_shown() -> None:
    requests = [{**WORKER["requests"][0], "seconds": float(number)} for number in range(1, 31)]
    lines = render_status(read_status({**STATUS, "workers": [{**WORKER, "threads_busy": 40, "requests": requests}]}))

    assert [line.split()[1] for line in lines[-11:-1]] == [f"{number}s" for number in range(30, 20, -1)]
    assert lines[-1] == "and 30 more"


def test_a_worker_that_does_not_beat_is_called_silent() -> None:
    status = {**STATUS, "workers": [{**WORKER, "beat_age": 12.0, "requests": []}]}

    assert "silent 12s" in render_status(read_status(status))[-1]


def test_a_server_without_workers_says_how_many_it_wants() -> None:
    assert render_status(read_status({**STATUS, "workers": []}))[-1] == "no workers (2 wanted)"


def test_a_status_of_another_version_may_lack_fields() -> None:
    assert render_status(read_status({"name": "old", "news": 1}))[0].startswith("old: ")


@pytest.mark.parametrize("nonsense", [None, 3, {"pid": "x"}, {"workers": [3]}])
def test_a_status_that_is_none_is_reported(nonsense: object) -> None:
    with pytest.raises(NotDone, match="the status makes no sense"):
        read_status(nonsense)


def test_a_list_has_a_line_for_each_server_and_further_listener() -> None:
    assert render_list([read_status(STATUS), read_status({"name": "?", "pid": 7})]) == [
        "NAME   PID  STATE      WORKERS  LISTENER               TARGET",
        "echo  4242  serving        1/2  tcp://127.0.0.1:41234  app.echo:Handler",
        "                                unix:/run/app.sock",
        "?        7  no answer",
    ]


@pytest.fixture
def only_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_places", lambda: [ControlPlace(uid=os.geteuid(), pid=os.getpid())])


@pytest.mark.usefixtures("only_ours")
def test_status_prints_what_a_terminal_cannot_misread(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeControlServer({"status": [{"ok": True, "result": {**STATUS, "name": "a\x1b[2J"}}]}):
        code = main(["status"])

    assert code == 0
    assert capsys.readouterr().out.startswith("a\\x1b[2J: serving")


@pytest.mark.usefixtures("only_ours")
def test_status_prints_what_a_terminal_does_not_have_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "ascii"))
    with FakeControlServer({"status": [{"ok": True, "result": {**STATUS, "name": "café"}}]}):
        code = main(["status"])

    assert code == 0
    assert shown.getvalue().startswith(b"caf\\xe9: serving")


@pytest.mark.usefixtures("only_ours")
def test_status_prints_json_as_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeControlServer({"status": [{"ok": True, "result": STATUS}]}):
        code = main(["status", "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out) == STATUS


@pytest.mark.usefixtures("only_ours")
def test_list_prints_servers_that_do_not_answer_as_well(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefork.cli.status.PATIENCE", 0.05)
    with FakeControlServer({"status": [SILENCE]}):
        code = main(["list", "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out) == [{"pid": os.getpid(), "state": "does not answer"}]


def test_an_empty_list_says_so_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "find_places", list)
    code = main(["list"])

    assert code == 0
    assert capsys.readouterr() == ("", "no server is running\n")


def test_status_without_a_server_exits_with_5(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "find_places", list)
    code = main(["status"])

    assert code == 5
    assert "prefork: no server is running as this user" in capsys.readouterr().err


def test_certificates_are_shown_with_their_names_and_their_end() -> None:
    told = [
        {"file": "/etc/a.pem", "names": ["a.org", "b.org", "c.org", "d.org"], "not_after": 1577836800.0},
        {"file": "/etc/b.pem", "names": [], "not_after": 32503680000.0},
    ]

    lines = render_status(read_status({**STATUS, "certificates": told}))

    assert "shows     certificate of a.org, b.org, c.org, ..., good until 2020-01-01" in lines
    assert "shows     certificate of /etc/b.pem, good until 3000-01-01" in lines
