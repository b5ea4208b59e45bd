"""Health: the exit status is the answer."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from prefork.cli.main import main
from tests.support.control import SILENCE, FakeControlServer

PID = str(os.getpid())
READY: dict[str, Any] = {"state": "serving", "started": True, "ready": True, "draining": False}
BOOTING: dict[str, Any] = {"state": "starting", "started": False, "ready": False, "draining": False}
DRAINED: dict[str, Any] = {"state": "serving", "started": True, "ready": False, "draining": True}


@pytest.mark.parametrize(
    ("health", "words", "code", "text"),
    [
        (READY, [], 0, "ready: serving\n"),
        (BOOTING, [], 1, "not ready: starting\n"),
        (DRAINED, ["--ready"], 1, "not ready: serving, drained\n"),
        (BOOTING, ["--live"], 0, "live: starting\n"),
        (BOOTING, ["--started"], 1, "not started: starting\n"),
        (DRAINED, ["--started"], 0, "started: serving, drained\n"),
    ],
)
def test_the_exit_status_is_the_answer(
    health: dict[str, Any], words: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeControlServer({"health": [{"ok": True, "result": health}]}):
        assert main(["health", *words, "--pid", PID]) == code

    assert capsys.readouterr().out == text


def test_the_answer_can_be_json(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeControlServer({"health": [{"ok": True, "result": DRAINED}]}):
        assert main(["health", "--json", "--pid", PID]) == 1

    assert json.loads(capsys.readouterr().out) == {"ok": False, **DRAINED}


def test_a_server_that_does_not_answer_is_not_healthy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("prefork.cli.choice.Choice.connect.__defaults__", (0.05,))
    with FakeControlServer({"health": [SILENCE]}):
        assert main(["health", "--live", "--pid", PID]) == 1

    assert "no answer" in capsys.readouterr().err


def test_no_server_has_a_status_of_its_own() -> None:
    assert main(["health", "--pid", "1"]) == 5


def test_it_loads_neither_the_serving_stack_nor_what_else_is_slow() -> None:
    code = (
        "import sys; from prefork.cli.main import main; main(['health', '--pid', '1']);"
        "slow = {'msgspec', 'psutil', 'textual', 'asyncio', 'prefork.serving', 'prefork.master', 'prefork.worker'};"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == "[]\n"
