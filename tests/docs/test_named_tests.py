"""The tests that the documentation names are there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

TESTS = ROOT / "tests"
PAGES = {ROOT / "docs/security.md": TESTS, TESTS / "faults/README.md": TESTS}
MODULE = re.compile(r"`((?:[\w.-]+/)*test_\w+\.py)(?:::\w+)?`")
ONE_TEST = re.compile(r"`((?:[\w.-]+/)*test_\w+\.py)::(\w+)`")
THREATS = (ROOT / "docs/security.md").read_text()


def named_tests() -> Iterator[tuple[str, Path]]:
    """What is named without a directory, behind a directory that is named, is below that one."""
    for page, directory in PAGES.items():
        for paragraph in page.read_text().split("\n\n"):
            other = re.search(r"`tests/(\w+)`", paragraph)
            for name in MODULE.findall(paragraph):
                yield page.name, (TESTS / other[1] if other else directory) / name


@pytest.mark.parametrize(("page", "path"), sorted(set(named_tests())), ids=str)
def test_a_test_that_is_named_is_there(page: str, path: Path) -> None:
    assert path.is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_page_names_tests(page: Path) -> None:
    assert MODULE.search(page.read_text())


@pytest.mark.parametrize(("path", "name"), sorted(set(ONE_TEST.findall(THREATS))))
def test_a_function_that_is_named_is_there(path: str, name: str) -> None:
    assert f"\ndef {name}(" in (TESTS / path).read_text()


CLAIMS = [line for line in THREATS.splitlines() if line.startswith("| ") and not line.endswith("| shown by |")]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.split("|")[1].strip())
def test_each_claim_about_security_names_the_test_that_shows_it(claim: str) -> None:
    assert ONE_TEST.search(claim.split("|")[-2])
