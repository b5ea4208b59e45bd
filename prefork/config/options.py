"""The options as data: what the fields of `Settings` declare, for all who must know every option."""

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from prefork.config import values
from prefork.config.settings import Option, Settings


class Rejected(ValueError):
    """All that is wrong with one value: several messages if it is a list."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__("\n".join(messages))
        self.messages = messages


@dataclass(frozen=True, slots=True)
class DeclaredOption:
    """One field of `Settings`."""

    name: str
    type: Any
    least: float | None
    most: float | None
    default: object
    about: Option

    @property
    def flag(self) -> str:
        return self.about.flag or "--" + self.name.replace("_", "-")

    @property
    def negative_flag(self) -> str:
        return self.flag.replace("--", "--no-", 1)

    @property
    def variable(self) -> str:
        return f"PREFORK_{self.name.upper()}"

    @property
    def is_switch(self) -> bool:
        return self.type is bool

    @property
    def is_table(self) -> bool:
        return get_origin(self.type) is Mapping

    @property
    def repeatable(self) -> bool:
        return self.is_table or get_origin(self.type) is tuple

    @property
    def words(self) -> tuple[str, ...]:
        """The words that may stand for a value, if there are any."""
        if get_origin(self.type) is Literal:
            return get_args(self.type)
        return ("auto",) if self.about.auto else ()

    @property
    def metavar(self) -> str:
        if self.about.metavar:
            return self.about.metavar
        return (
            "|".join((*self.words, *{int: ["N"], float: ["TIME"], values.Size: ["SIZE"]}.get(self.type, []))) or "TEXT"
        )

    @property
    def default_text(self) -> str:
        return "auto" if self.about.auto else show(self.default)

    def read(self, raw: object) -> object:
        """Turn what was written, as text or as a TOML value, into the field's value; raise Rejected."""
        try:
            if self.about.auto is not None and raw == "auto":
                return self.about.auto()
            if self.is_table:
                return _read_table(raw)
            if self.repeatable:
                return _read_all(raw, self.about.read)
            return self._within_bounds(self._read_one(raw))
        except Rejected:
            raise
        except ValueError as error:
            raise Rejected([str(error)]) from None

    def _read_one(self, raw: object) -> object:
        if get_origin(self.type) is Literal:
            return _read_choice(raw, get_args(self.type))
        readers: dict[Any, Callable[[object], object]] = {
            bool: values.read_switch,
            int: values.read_number,
            float: values.read_duration,
            values.Size: values.read_size,
        }
        return readers.get(self.type, self.about.read)(_as_text(raw))

    def _within_bounds(self, value: object) -> object:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if self.least is not None and value < self.least:
                raise ValueError(f"must be at least {show(self.type(self.least))}, not {show(value)}")
            if self.most is not None and value > self.most:
                raise ValueError(f"must be at most {show(self.type(self.most))}, not {show(value)}")
        return value


@functools.cache
def declared_options() -> Mapping[str, DeclaredOption]:
    """Every option by name, in the order of the fields."""
    return {field.name: _declared(field) for field in msgspec.structs.fields(Settings)}


def show(value: object) -> str:
    """Write a value as an operator would; "" where nothing is set."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return values.show_duration(value)
        case values.Size():
            return values.show_size(value)
        case tuple():
            return " ".join(str(item) for item in value)
        case Mapping():
            return " ".join(f"{name}={item}" for name, item in value.items())
    return str(value)


def _declared(field: msgspec.structs.FieldInfo) -> DeclaredOption:
    base, *notes = get_args(field.type)
    assert get_origin(field.type) is Annotated, f"{field.name} has no Option"
    bounds = next((note for note in notes if isinstance(note, msgspec.Meta)), None)
    least, most = (bounds.ge, bounds.le) if bounds else (None, None)
    about = next(note for note in notes if isinstance(note, Option))
    default = None if about.auto else field.default
    if field.default is msgspec.NODEFAULT and not about.auto:
        default = field.default_factory()
    if isinstance(base, UnionType):
        base = next(part for part in get_args(base) if part is not NoneType)
    return DeclaredOption(field.name, base, least, most, default, about)


def _read_choice(raw: object, choices: tuple[str, ...]) -> str:
    if not isinstance(raw, str) or raw not in choices:
        raise ValueError(f"must be {', '.join(choices[:-1])} or {choices[-1]}, not {raw!r}")
    return raw


def _read_all(raw: object, read: Callable[[object], object]) -> tuple[object, ...]:
    """Read a list, a single item, or a table of NAME = VALUE."""
    results, messages = [], []
    for item in _items(raw):
        try:
            results.append(read(_as_text(item)))
        except ValueError as error:
            messages.append(str(error))
    if messages:
        raise Rejected(messages)
    return tuple(results)


def _read_table(raw: object) -> dict[str, object]:
    if not isinstance(raw, Mapping):
        pairs = _read_all(raw, values.read_attribute)
        return dict(pair for pair in pairs if isinstance(pair, tuple))
    wrong = [f"{name!r} cannot be the name of an attribute" for name in raw if not str(name).isidentifier()]
    if wrong:
        raise Rejected(wrong)
    # Native text is kept in the form that `--set` has it in, so that the reader of Settings.server knows one form only.
    return {
        name: repr(value) if isinstance(value, str) and not value.startswith("@") else value
        for name, value in raw.items()
    }


def _items(raw: object) -> list[object]:
    if isinstance(raw, Mapping):
        return [f"{name}={value}" for name, value in raw.items()]
    if isinstance(raw, (list, tuple)):
        return list(raw)
    return [raw]


def _as_text(raw: object) -> object:
    return os.fspath(raw) if isinstance(raw, os.PathLike) else raw
