"""The command line that is built from Python values."""

import sys
from collections.abc import Mapping
from types import ModuleType

import pytest

from prefork.errors import UsageError
from prefork.launch import command_line


class Handler:
    class Inner:
        pass


def words(target: object, **options: object) -> list[str]:
    return command_line(target, options)[4:]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"workers": 4}, ["--workers", "4"]),
        ({"drain_timeout": 0.5}, ["--drain-timeout", "0.5"]),
        ({"bind": ["tcp://:1", "udp://:1"]}, ["--bind", "tcp://:1", "--bind", "udp://:1"]),
        ({"reload": True}, ["--reload"]),
        ({"reload": False}, ["--no-reload"]),
        ({"env": {"COLOUR": "blue"}}, ["--env", "COLOUR=blue"]),
        ({"server": {"motd": "hello", "size": 3}}, ["--set", "motd='hello'", "--set", "size=3"]),
        ({"server": {"resolver": "@zone:resolver"}}, ["--set", "resolver=@zone:resolver"]),
    ],
)
def test_an_option_becomes_its_flag(options: Mapping[str, object], expected: list[str]) -> None:
    assert words("app:Handler", **options) == ["app:Handler", *expected]


def test_the_same_interpreter_serves() -> None:
    assert command_line("app:Handler", {})[:4] == [sys.executable, "-m", "prefork", "run"]


@pytest.mark.parametrize(("target", "name"), [(Handler, "Handler"), (Handler.Inner, "Handler.Inner"), (words, "words")])
def test_a_class_or_function_is_named_as_the_workers_import_it(target: object, name: str) -> None:
    assert words(target) == [f"{__name__}:{name}"]


@pytest.mark.parametrize("target", [lambda: None, object(), 3], ids=["a lambda", "an object", "a number"])
def test_what_cannot_be_imported_by_name_is_refused(target: object) -> None:
    with pytest.raises(UsageError, match="define it in a module"):
        words(target)


def test_a_class_of_a_script_is_imported_from_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    script = ModuleType("__main__")
    script.__file__ = "/srv/app/server.py"
    monkeypatch.setitem(sys.modules, "__main__", script)
    monkeypatch.setattr(Handler, "__module__", "__main__")

    assert words(Handler) == ["server:Handler", "--pythonpath", "/srv/app"]


def test_an_interactive_session_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    monkeypatch.setattr(Handler, "__module__", "__main__")

    with pytest.raises(UsageError, match="interactive"):
        words(Handler)
