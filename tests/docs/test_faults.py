"""Each fault that is listed has its tests, and each fault that is tested is listed, with the same modules."""

import re

from tests.docs.pages import ROOT

TESTS = ROOT / "tests"
ROW = re.compile(r"^\| `([\w-]+)`: .*\| ([^|]+) \|$", re.MULTILINE)
MARK = re.compile(r"^@pytest\.mark\.fault\((.+)\)$", re.MULTILINE)


def listed() -> set[tuple[str, str]]:
    rows = ROW.findall((TESTS / "faults/README.md").read_text())
    return {(name, module) for name, modules in rows for module in re.findall(r"`([^`]+)`", modules)}


def made_by_tests() -> set[tuple[str, str]]:
    return {
        (name, str(path.relative_to(TESTS)))
        for path in TESTS.rglob("test_*.py")
        for names in MARK.findall(path.read_text())
        for name in re.findall(r'"([^"]+)"', names)
    }


def test_a_fault_that_is_listed_is_tested() -> None:
    assert listed()
    assert listed() - made_by_tests() == set()


def test_a_fault_that_is_tested_is_listed() -> None:
    assert made_by_tests() - listed() == set()
