"""No file lies in deploy/ that no tool has read: some test leads to both, the file and a tool that is run."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY
from tests.support.container import ROOT

# Directory -> what reads its files, all of them.
READ_WHOLE = {
    "systemd": "tests/systemd/conftest.py",
    "kubernetes": "tests/deploy/test_kubernetes.py",
}
FILES = sorted(path.relative_to(DEPLOY) for path in DEPLOY.rglob("*") if path.is_file())
TOOLS = {"tools.run", "running"}  # what runs one


@cache
def definitions(module: Path) -> dict[str, set[str]]:
    """Return what each name that a module defines at its top mentions: names, attributes of them, parameters, texts."""
    found: dict[str, set[str]] = {}
    for node in ast.parse(module.read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found[name] = set(mentions(node))
            case ast.Assign(targets=[ast.Name(id=name)]):
                found[name] = set(mentions(node.value))
    return found


def mentions(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        match each:
            case ast.Name(id=name):
                yield name
            case ast.arg(arg=name):  # a fixture
                yield name
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                yield f"{name}.{attribute}"
            case ast.BinOp(left=ast.Name(id="DEPLOY"), op=ast.Div(), right=ast.Constant(value=str(text))):
                yield f"DEPLOY / {text}"


def reached_from(test: str, module: Path) -> set[str]:
    """Return all that a test mentions, and what that mentions in turn, within its module."""
    defined, reached, ahead = definitions(module), set[str](), {test}
    while ahead:
        reached |= ahead
        ahead = set().union(*(defined.get(name, ()) for name in ahead)) - reached
    return reached


def readers_of(file: Path) -> list[str]:
    """Return the tests that give a file to a tool."""
    return [
        test
        for module in (ROOT / "tests/deploy").glob("test_*.py")
        for test in definitions(module)
        if test.startswith("test_")
        and (reached := reached_from(test, module)) & TOOLS
        and f"DEPLOY / {file}" in reached
    ]


@pytest.mark.parametrize("file", [file for file in FILES if file.parts[0] not in READ_WHOLE], ids=str)
def test_a_file_is_given_to_a_tool_by_a_test(file: Path) -> None:
    assert readers_of(file), f"{file} is read by none"


def test_each_whole_directory_has_its_reader() -> None:
    assert {file.parts[0] for file in FILES} >= READ_WHOLE.keys()
    assert [f"deploy/{name}" for name, reader in READ_WHOLE.items() if name not in (ROOT / reader).read_text()] == []
