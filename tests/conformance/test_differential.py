"""Our module behaves as the standard one: every scenario is played on both and the traces compared."""

import socketserver
from types import ModuleType

import pytest

import prefork.socketserver
import tests.conformance.scenarios  # noqa: F401  registers them
from tests.conformance.differences import DIFFERENCES
from tests.conformance.play import SCENARIOS, play

EQUAL = sorted(name for name in SCENARIOS if name not in DIFFERENCES or not DIFFERENCES[name].applies)
DIFFERENT = sorted(name for name in DIFFERENCES if DIFFERENCES[name].applies)


def sentence(name: str) -> str:
    return name.replace("_", " ")


@pytest.mark.parametrize("name", EQUAL, ids=sentence)
def test_as_in_the_standard_module(name: str) -> None:
    expected = play(name, socketserver)

    assert expected, "a scenario without a trace holds us to nothing"
    assert play(name, prefork.socketserver) == expected


@pytest.mark.parametrize("module", [socketserver, prefork.socketserver], ids=["standard", "ours"])
@pytest.mark.parametrize("name", DIFFERENT, ids=sentence)
def test_different_on_purpose(name: str, module: ModuleType) -> None:
    difference = DIFFERENCES[name]

    expected = difference.standard if module is socketserver else difference.ours
    assert play(name, module) == expected, difference.reason


def test_every_difference_is_one_and_has_its_scenario() -> None:
    assert set(DIFFERENCES) <= set(SCENARIOS)
    assert [name for name, difference in DIFFERENCES.items() if difference.ours == difference.standard] == []
