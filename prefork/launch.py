"""Starting a server from Python: the same command line that an operator would type, built from values."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import NoReturn

from prefork.errors import UsageError


def run(target: object, **options: object) -> NoReturn:
    """Serve `target` in place of this process, as `prefork run` does.

    `target` is a text (`"app:Handler"`) or a class or function of a module; `options` are those of `prefork run` with
    underscores: `workers=4, bind=["tcp://:9999", "udp://:9999"], server={"motd": "hello"}`. The process is replaced
    (os.execv), so its pid stays, and the master never holds the application's code: a reload is always new code. In a
    script call it under `if __name__ == "__main__":`, because the workers import the script again.
    """
    arguments = command_line(target, options)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(arguments[0], arguments)


def command_line(target: object, options: Mapping[str, object]) -> list[str]:
    """Return the words of the command that serves `target` with these options."""
    name, directory = _name_of(target)
    words = [sys.executable, "-m", "prefork", "run", name]
    if directory is not None:
        words += ["--pythonpath", directory]
    for option, value in options.items():
        words += _words_for(option, value)
    return words


def _words_for(option: str, value: object) -> list[str]:
    flag = "--" + option.replace("_", "-")
    match value:
        case bool():
            return [flag if value else "--no-" + flag.removeprefix("--")]
        case Mapping() if option == "env":
            return [word for name, item in value.items() for word in (flag, f"{name}={item}")]
        case Mapping():
            return [word for name, item in value.items() for word in ("--set", f"{name}={_literal(item)}")]
        case list() | tuple():
            return [word for item in value for word in (flag, str(item))]
    return [flag, str(value)]


def _literal(value: object) -> str:
    """Write an attribute for --set: a reference stays as it is, anything else is a Python literal."""
    return value if isinstance(value, str) and value.startswith("@") else repr(value)


def _name_of(target: object) -> tuple[str, str | None]:
    """Return `module:name` and, for a class of the running script, the directory to import it from."""
    if isinstance(target, str):
        return target, None
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        raise UsageError(f"cannot serve {target!r}: the workers import it by name (define it in a module)")
    return (f"{module}:{name}", None) if module != "__main__" else _name_in_script(sys.modules["__main__"], name)


def _name_in_script(script: ModuleType, name: str) -> tuple[str, str | None]:
    if script.__spec__ is not None:  # python -m package.module
        return f"{script.__spec__.name}:{name}", None
    path = getattr(script, "__file__", None)
    if path is None:
        raise UsageError(f"cannot serve {name}: the workers cannot import it from an interactive session")
    directory, file = os.path.split(os.path.abspath(path))
    return f"{os.path.splitext(file)[0]}:{name}", directory
