"""What stands behind `module:name`: found, imported, and named in words when it is not there."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import sys
from dataclasses import dataclass

from prefork.errors import ApplicationError, nearest_name
from prefork.worker.blame import application_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of a target that is written with a call; literals only."""

    arguments: tuple[object, ...]
    keywords: dict[str, object]


@dataclass(frozen=True, slots=True)
class Target:
    """`module:name`, `module:dotted.name` or `module:name("prod", debug=True)`, taken apart."""

    text: str
    module: str
    names: tuple[str, ...]
    call: Call | None = None


def parse_target(text: str) -> Target:
    """Take a target apart. Raise ApplicationError if it is none."""
    module, _, expression = text.partition(":")
    if not expression or not all(part.isidentifier() for part in module.split(".")):
        raise ApplicationError(f"{text!r} is no target: write MODULE:NAME, for example app:Handler")
    try:
        node = ast.parse(expression.strip(), mode="eval").body
        call = None
        if isinstance(node, ast.Call):
            call = _read_call(node)
            node = node.func
        return Target(text, module, _read_names(node), call)
    except (SyntaxError, ValueError) as error:
        what = error.msg if isinstance(error, SyntaxError) else error
        raise ApplicationError(f"{text!r} is no target: {what}; write a name or a call with literals only") from None


def find(target: Target) -> object:
    """Import the module and return what the target names; a call is not made. Raise ApplicationError."""
    found: object = _import(target)
    path = target.module
    for name in target.names:
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ApplicationError(f"{path} has no {name!r}{_hint(name, dir(found))}") from None
        except Exception as error:
            raise application_error(f"cannot get {name!r} of {path}", error) from error
        path = f"{path}.{name}"
    return found


def call_target(target: Target, found: object) -> object:
    """Return the target, called if it is written with a call. Raise ApplicationError."""
    if target.call is None:
        return found
    if not callable(found):
        raise ApplicationError(f"{target.text} cannot be called: {type(found).__name__} is not callable")
    try:
        return found(*target.call.arguments, **target.call.keywords)
    except (Exception, SystemExit) as error:
        raise application_error(f"calling {target.text} failed", error) from error


def add_to_path(directories: Sequence[str]) -> None:
    """Let modules be imported from these directories before all others."""
    first = [os.path.abspath(directory) for directory in directories]
    sys.path[:] = [*dict.fromkeys(first), *(entry for entry in sys.path if entry not in first)]
    importlib.invalidate_caches()


def _import(target: Target) -> ModuleType:
    try:
        return importlib.import_module(target.module)
    except ModuleNotFoundError as error:
        if error.name and f"{target.module}.".startswith(f"{error.name}."):
            raise ApplicationError(_missing(error.name)) from None
        raise application_error(f"importing {target.module} failed", error) from error
    except (Exception, SystemExit) as error:
        raise application_error(f"importing {target.module} failed", error) from error


def _missing(name: str) -> str:
    package, _, last = name.rpartition(".")
    parent = sys.modules.get(package)
    places = list(getattr(parent, "__path__", ())) if package else None
    if package and not places:
        return f"there is no module {name!r}: {package} is a module, not a package"
    near = nearest_name(last, [module.name for module in pkgutil.iter_modules(places)])
    prefix = f"{package}." if package else ""
    hint = f"; did you mean {prefix}{near}?" if near else ""
    return f"there is no module {name!r} in {os.getcwd()} or elsewhere on the path{hint} (see pythonpath)"


def _hint(name: str, known: Sequence[str]) -> str:
    near = nearest_name(name, known)
    return f"; did you mean {near}?" if near else ""


def _read_names(node: ast.expr) -> tuple[str, ...]:
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Attribute(value=owner, attr=name):
            return (*_read_names(owner), name)
    raise ValueError(f"{ast.unparse(node)} is not a name")


def _read_call(node: ast.Call) -> Call:
    keywords = {keyword.arg: _read_literal(keyword.value) for keyword in node.keywords if keyword.arg is not None}
    if len(keywords) != len(node.keywords):
        raise ValueError("arguments cannot be unpacked")
    return Call(tuple(_read_literal(argument) for argument in node.args), keywords)


def _read_literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise ValueError(f"{ast.unparse(node)} is not a literal") from None
