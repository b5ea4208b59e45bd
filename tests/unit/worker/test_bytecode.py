"""Which sources leave cached bytecode behind."""

import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from prefork.worker.bytecode import cache_only_settled_sources


@pytest.fixture(autouse=True)
def _only_settled_sources(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = SourceFileLoader.set_data
    cache_only_settled_sources()
    yield
    SourceFileLoader.set_data = before  # type: ignore[method-assign]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "module_of_this_test.py"
    path.write_text("answer = 42\n")
    return path


def load(path: Path) -> None:
    SourceFileLoader("module_of_this_test", str(path)).get_code("module_of_this_test")


def cache_of(path: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(path)))


def test_a_settled_source_is_cached(source: Path) -> None:
    os.utime(source, (time.time() - 10, time.time() - 10))
    load(source)

    assert cache_of(source).exists()


def test_a_source_that_has_just_changed_is_not(source: Path) -> None:
    os.utime(source, (time.time() + 60, time.time() + 60))  # however long this takes
    load(source)

    assert not cache_of(source).exists()
