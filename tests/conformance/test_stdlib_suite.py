"""The interpreter's own tests of socketserver pass with our module in its place."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("run_stdlib_suite.py")
Outcome = dict[str, dict[str, str]]

# A test of the suite that cannot pass here -> why. None needs to be named at present.
EXCEPTIONS: dict[str, str] = {}


def suite_is_installed() -> bool:
    try:
        return importlib.util.find_spec("test.test_socketserver") is not None
    except ModuleNotFoundError:
        return False


pytestmark = pytest.mark.skipif(
    not suite_is_installed(), reason="this Python comes without its `test` package (Debian: libpython3-testsuite)"
)


pytestmark = pytest.mark.timeout(300)  # the first one runs the suite twice


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return {name: run(name, tmp_path_factory.mktemp("suite")) for name in ("socketserver", "prefork.socketserver")}


def run(module: str, directory: Path) -> Outcome:
    result = directory / "result"
    command = [sys.executable, str(PROGRAM), module, str(result)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # In a directory of its own: the suite makes files where it runs.
    subprocess.run(command, cwd=directory, env=environment, timeout=100, check=True)
    outcome: Outcome = json.loads(result.read_text())
    return outcome


def test_it_passes(outcomes: dict[str, Outcome]) -> None:
    failed = outcomes["prefork.socketserver"]["failed"]

    assert {name: text for name, text in failed.items() if name not in EXCEPTIONS} == {}


def test_it_runs_the_tests_it_runs_on_the_standard_module(outcomes: dict[str, Outcome]) -> None:
    standard, ours = outcomes["socketserver"], outcomes["prefork.socketserver"]

    assert standard["failed"] == {}
    assert len(standard["tests"]) > 20
    assert ours["tests"] == standard["tests"]
    assert ours["skipped"] == standard["skipped"]
