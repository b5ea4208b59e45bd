"""A log in a file, and the log of the whole process as it was before."""

import logging
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from prefork import logs


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Take the handlers that pytest has at the root away: an application has none there at first."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)
    yield


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("prefork")
    before = root.handlers[:], root.level, logging.basicConfig, warnings.showwarning
    yield
    handlers, level, logging.basicConfig, warnings.showwarning = before
    root.handlers[:] = handlers
    root.setLevel(level)
    logs.set_up("info", "-")
    logs.set_identity()
    ours.handlers.clear()
    ours.propagate = True
    ours.setLevel(logging.NOTSET)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    logs.set_up("info", str(path))
    return path
