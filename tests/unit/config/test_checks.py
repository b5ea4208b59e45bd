"""Settings that contradict each other or this machine."""

import importlib.util

import pytest

from prefork.config.checks import find_contradictions
from prefork.config.settings import Settings


def test_the_defaults_contradict_nothing() -> None:
    assert list(find_contradictions(Settings())) == []


def test_reload_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert list(find_contradictions(Settings(reload=True))) == [
        ("reload", "needs the package watchfiles", "pip install 'prefork[reload]'")
    ]


def test_a_control_path_must_fit_a_socket() -> None:
    (finding,) = find_contradictions(Settings(control="/" + "c" * 107))

    assert finding[0] == "control"
