"""Orders: progress on standard error, the result on standard output, the truth in the exit code."""

import json
import os
import subprocess

import pytest

from prefork.cli import orders
from prefork.cli.main import main
from prefork.errors import NotDone
from tests.support.control import HANG_UP, Answer, FakeControlServer

PID = str(os.getpid())


def test_a_reload_that_serves_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeControlServer({"reload": [{"log": "loading\x1b"}, {"ok": True, "result": {"generation": 3}}]}):
        code = main(["reload", "--pid", PID])

    assert code == 0
    assert capsys.readouterr() == ("reloaded: generation 3 serves\n", "loading\\x1b\n")


def test_a_reload_that_is_given_up_prints_the_cause(capsys: pytest.CaptureFixture[str]) -> None:
    refusal = {"ok": False, "error": "import failed", "detail": "Traceback:\n  boom\x1b"}
    with FakeControlServer({"reload": [{"log": "loading"}, refusal]}):
        code = main(["reload", "--pid", PID])

    assert code == 1
    assert capsys.readouterr() == ("", "loading\nprefork: import failed\nTraceback:\n  boom\\x1b\n")


def test_a_failure_is_json_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeControlServer({"reload": [{"ok": False, "error": "import failed", "detail": ""}]}):
        code = main(["reload", "--json", "--pid", PID])

    assert code == 1
    assert json.loads(capsys.readouterr().out) == {"ok": False, "error": "import failed", "detail": ""}


@pytest.mark.parametrize(
    ("argument", "request_", "said"),
    [
        ("5", {"command": "scale", "workers": 5}, "scaled to 5\n"),
        ("+1", {"command": "scale", "change": 1}, "scaled by +1\n"),
        ("-2", {"command": "scale", "change": -2}, "scaled by -2\n"),
    ],
)
def test_scale_takes_a_number_or_a_change(
    argument: str, request_: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeControlServer({"scale": [{"ok": True}]}) as server:
        code = main(["scale", argument, "--pid", PID])

        assert code == 0
        assert server.requests == [request_]
        assert capsys.readouterr().out == said


@pytest.mark.parametrize("argument", ["many", "", "1.5", "--jsn", "9999999"])
def test_scale_takes_nothing_else(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", argument]) == 2
    assert "must be a number of workers" in capsys.readouterr().err


def test_reopen_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeControlServer({"reopen": [{"ok": True}]}):
        code = main(["reopen", "--pid", PID])

    assert (code, capsys.readouterr()) == (0, ("", ""))


@pytest.mark.parametrize("ending", [[{"ok": True}], [HANG_UP]])
def test_stop_is_not_done_while_the_process_is_there(
    ending: list[Answer], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "PATIENCE", 0.0)
    with FakeControlServer({"stop": [{"log": "draining"}, *ending]}) as server:
        code = main(["stop", "--quick", "--pid", PID])

        assert server.requests[0] == {"command": "stop", "quick": True}
    assert code == 1
    assert f"its process {PID} is still there" in capsys.readouterr().err


def test_the_end_of_a_process_is_waited_for() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        process = orders._open_process(child.pid)
        assert process is not None
        assert child.stdin is not None
        child.stdin.close()
        orders._wait_for_end(process, child.pid)
        os.close(process)


def test_a_process_that_goes_on_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "PATIENCE", 0.0)
    process = os.pidfd_open(os.getpid())

    with pytest.raises(NotDone, match="still there"):
        orders._wait_for_end(process, os.getpid())
    os.close(process)
