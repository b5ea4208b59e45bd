"""The configuration file: which one it is, what it says, and on which line."""

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prefork.config.toml_lines import Key, find_key_lines, line_of
from prefork.errors import ConfigurationError, Problem

NAMES = ("prefork.toml", "pyproject.toml")
_MOST_BYTES = 1024 * 1024
_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Document:
    """The part of a TOML file that is ours: the whole of prefork.toml, or [tool.prefork] of pyproject.toml."""

    label: str
    """The file as messages name it."""
    path: Path
    values: Mapping[str, object]
    warnings: tuple[str, ...]
    table: Key
    lines: Mapping[Key, int]

    def origin(self, name: str) -> str:
        return f"{self.label}:{line_of(self.lines, (*self.table, name))}"


def find_document(directory: Path) -> Document | None:
    """Read prefork.toml of this directory or, if there is none, [tool.prefork] of its pyproject.toml."""
    for name in NAMES:
        if os.path.lexists(directory / name):
            document = read_document(directory / name, name)
            return document if document.values or name == "prefork.toml" else None
    return None


def read_document(path: Path, label: str) -> Document:
    """Read a configuration file; raise ConfigurationError with the place of a syntax error."""
    text, mode = _read_text(path, label)
    try:
        whole = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(*_place_of(error, text, label)) from None
    lines = find_key_lines(text)
    table: Key = ("tool", "prefork") if path.name == "pyproject.toml" else ()
    values: object = whole
    for name in table:
        values = values.get(name, {}) if isinstance(values, Mapping) else {}
    if not isinstance(values, Mapping):
        raise _wrong(f"{label}:{line_of(lines, table)}", "tool.prefork must be a table")
    warnings = (f"{label} can be written by everyone; chmod o-w {label}",) if mode & stat.S_IWOTH else ()
    return Document(label, path, values, warnings, table, lines)


def _read_text(path: Path, label: str) -> tuple[str, int]:
    try:
        # O_NONBLOCK: a reload reads this in the master, which a named pipe without a writer must not hold up.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise _wrong(label, "is not a regular file", "each reload reads it again, so name a file")
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        what = os.strerror(error.errno).lower() if error.errno else str(error)
        raise _wrong(label, f"cannot be read: {what}") from None
    if len(data) > _MOST_BYTES:
        raise _wrong(label, "is larger than 1 MiB; this cannot be a configuration")
    try:
        return data.decode(), mode
    except UnicodeDecodeError as error:
        line, column = _position(data[: error.start].decode("latin-1"))
        raise _wrong(f"{label}:{line}:{column}", "is not UTF-8", "save the file as UTF-8") from None


def _place_of(error: tomllib.TOMLDecodeError, text: str, label: str) -> tuple[str, str]:
    match = _PLACE.fullmatch(str(error))
    if match is None:
        return label, str(error)
    line, column = (match[2], match[3]) if match[2] else _position(text.rstrip("\n"))
    what = match[1][:1].lower() + match[1][1:]
    if text.startswith("\ufeff"):
        what = "begins with a byte order mark, which TOML does not allow; save the file without it"
    return f"{label}:{line}:{column}", what


def _position(before: str) -> tuple[int, int]:
    """Line and column after this text, counted from 1."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _wrong(origin: str, what: str, way_out: str = "") -> ConfigurationError:
    return ConfigurationError([Problem(origin, what, way_out)])
