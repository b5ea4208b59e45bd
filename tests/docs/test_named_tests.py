"""The tests that the documentation names are there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

TESTS = ROOT / "tests"
PAGES = {ROOT / "docs/security.md": TESTS, TESTS / "faults/README.md": TESTS}
MODULE = re.compile(r"`((?:[\w.-]+/)*test_\w+\.py)`")


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
