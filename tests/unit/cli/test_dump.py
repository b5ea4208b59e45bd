"""The stacks of workers, as `prefork dump` prints them."""

import json
import os

import pytest

from prefork.cli.main import main
from tests.support.control import FakeControlServer

PID = str(os.getpid())
RESULT = {"workers": [{"slot": 1, "generation": 2, "pid": 7, "stacks": "thread a\x1b\n  in wait"}]}
ANSWER = {"ok": True, "result": RESULT}


@pytest.mark.parametrize(("words", "slot"), [([], None), (["1"], 1)])
def test_a_dump_prints_the_stacks_of_each_worker(
    words: list[str], slot: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeControlServer({"dump": [{"log": "starting worker"}, ANSWER]}) as server:
        code = main(["dump", *words, "--pid", PID])

        assert code == 0
        assert server.requests == [{"command": "dump", "slot": slot}]
        assert capsys.readouterr().out == "worker 1   generation 2   pid 7\nthread a\\x1b\n  in wait\n\n"


def test_a_dump_is_json_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeControlServer({"dump": [ANSWER]}):
        code = main(["dump", "--json", "--pid", PID])

    assert code == 0
    assert json.loads(capsys.readouterr().out) == RESULT


def test_a_slot_is_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", "one", "--pid", PID]) == 2
    assert "'one' is not a valid integer" in capsys.readouterr().err
