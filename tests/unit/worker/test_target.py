"""Targets: taken apart, imported, and explained when they are not there."""

import os
import sys

import pytest

from prefork.errors import ApplicationError
from prefork.worker.target import Call, add_to_path, call_target, find, parse_target
from tests.unit.worker.conftest import Workshop


def failure(workshop: Workshop, text: str) -> ApplicationError:
    add_to_path([str(workshop.directory)])
    with pytest.raises(ApplicationError) as caught:
        target = parse_target(text)
        call_target(target, find(target))
    return caught.value


def test_a_name_is_taken_apart() -> None:
    target = parse_target("package.app:Outer.Inner")

    assert (target.module, target.names, target.call) == ("package.app", ("Outer", "Inner"), None)


def test_a_call_is_taken_apart() -> None:
    target = parse_target('app:make("prod", [1, -2], debug=True)')

    assert target.names == ("make",)
    assert target.call == Call(("prod", [1, -2]), {"debug": True})


@pytest.mark.parametrize(
    "text", ["app", "app:", ":x", "a b:x", "app:x y", "app:f(x)", "app:f(*[1])", "app:f(**{})", "app:f()()", "app:x[0]"]
)
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ApplicationError, match="is no target"):
        parse_target(text)


def test_a_dotted_name_is_found(workshop: Workshop) -> None:
    workshop.module("class Outer:\n    class Inner: pass\n")
    add_to_path([str(workshop.directory)])

    found = find(parse_target("app:Outer.Inner"))

    assert getattr(found, "__name__", "") == "Inner"


def test_a_missing_module_is_told_with_the_nearest_name(workshop: Workshop) -> None:
    workshop.module("", "weather_app")

    error = failure(workshop, "wether_app:Handler")

    assert "there is no module 'wether_app'" in str(error)
    assert "did you mean weather_app?" in str(error)
    assert error.detail == ""


def test_a_missing_module_of_a_package_is_told(workshop: Workshop) -> None:
    workshop.module("", "package/__init__")
    workshop.module("", "package/server")

    assert "did you mean package.server?" in str(failure(workshop, "package.servr:x"))
    assert "server is a module, not a package" in str(failure(workshop, "package.server.x:x"))


def test_a_missing_dependency_is_told_apart_from_a_missing_target(workshop: Workshop) -> None:
    workshop.module("import absent_library\n")

    error = failure(workshop, "app:x")

    assert "importing app failed: it needs the module 'absent_library'" in str(error)
    assert "import absent_library" in error.detail


def test_a_missing_name_is_told_with_the_nearest_one(workshop: Workshop) -> None:
    workshop.module("class Handler: pass\n")

    assert str(failure(workshop, "app:Handlr")) == "app has no 'Handlr'; did you mean Handler?"


def test_a_syntax_error_is_told_with_its_place(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workshop.directory)
    workshop.module("x = 1\ndef f(:\n    pass\n")

    assert "SyntaxError in app.py:2: " in str(failure(workshop, "app:x"))


def test_an_import_that_raises_is_told_with_its_place(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workshop.directory)
    workshop.module("import helper\n")
    workshop.module("def f():\n    raise ValueError('no such city')\nf()\n", "helper")

    error = failure(workshop, "app:x")

    assert str(error) == "importing app failed: ValueError: no such city (helper.py:2)"


def test_a_traceback_starts_in_the_code_of_the_application(workshop: Workshop) -> None:
    workshop.module("try:\n    {}['k']\nexcept KeyError as error:\n    raise ValueError('wrong') from error\n")

    detail = failure(workshop, "app:x").detail

    assert detail.startswith("Traceback")
    assert "KeyError: 'k'" in detail
    assert detail.endswith("ValueError: wrong")
    assert "importlib" not in detail
    assert "prefork" not in detail.replace(str(workshop.directory), "")


def test_a_script_that_ends_the_program_is_told(workshop: Workshop) -> None:
    workshop.module("import sys\nsys.exit('usage: app')\n")

    assert "it ended the program (sys.exit('usage: app'))" in str(failure(workshop, "app:x"))


def test_a_call_that_raises_is_told(workshop: Workshop) -> None:
    workshop.module("def make(kind):\n    raise OSError('no database')\nnumber = 3\n")

    assert "calling app:make('x') failed: OSError: no database" in str(failure(workshop, "app:make('x')"))
    assert "int is not callable" in str(failure(workshop, "app:number()"))


def test_directories_come_first_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/c", "/b", "/d"])

    add_to_path(["/a", "/b", "/a"])

    assert sys.path == ["/a", "/b", "/c", "/d"]
    assert os.path.isabs(sys.path[0])
