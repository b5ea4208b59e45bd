"""How a record becomes a line: as text for people, or as JSON for programs.

Clients choose parts of what is logged. In text nothing of it starts a line, moves the cursor, hides what follows or
passes for a field of ours; in JSON it is a string of plain ASCII.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

SUBJECT = ("listener", "peer")
IDENTITY = ("worker", "gen", "slot", "pid")
_LEVELS = {logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}
_OURS = "prefork"


@dataclass(frozen=True, slots=True)
class Line:
    """What is to be told, in no format yet. A field that is None is not known."""

    time: float
    level: str
    logger: str
    message: str
    fields: Mapping[str, object] = field(default_factory=dict)
    detail: str = ""


Style = Callable[[Line], str]


def as_text(line: Line) -> str:
    """Write `time level message  field=value ...`; a detail follows in lines of its own, indented."""
    # Our own messages say what they are about; of others one wants to know where they come from.
    message = line.message if is_ours(line.logger) else f"{line.logger}: {line.message}"
    fields = "".join(f" {name}={_as_word(value)}" for name, value in line.fields.items())
    first = f"{_stamp(line.time)} {line.level:<5} {_escape(message)} {fields}"
    return "\n".join([first, *(f"    {_escape(below)}" for below in line.detail.splitlines() if below)])


def as_json(line: Line) -> str:
    """Write one object; a detail is a string in it."""
    told = {
        "time": _stamp(line.time),
        "level": line.level,
        "logger": line.logger,
        "message": line.message,
        **line.fields,
        **({"detail": line.detail.strip("\n")} if line.detail else {}),
    }
    return json.dumps({name: _encodable(value) for name, value in told.items()})


STYLES: Mapping[str, Style] = {"text": as_text, "json": as_json}


def line_of(record: logging.LogRecord, identity: Mapping[str, object]) -> Line:
    """Take a record apart; whoever does not say whom it concerns means `identity`."""
    return Line(
        time=record.created,
        level=_LEVELS.get(record.levelno, record.levelname),
        logger=record.name,
        message=record.getMessage(),
        fields=_who(record, identity),
        detail=_detail(record),
    )


def own_identity(identity: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of this process, in their order."""
    return {name: identity[name] for name in IDENTITY if name in identity}


def is_ours(logger: str) -> bool:
    """Say whether a logger of this name is one of prefork's own."""
    return logger == _OURS or logger.startswith(_OURS + ".")


def _who(record: logging.LogRecord, identity: Mapping[str, object]) -> dict[str, object]:
    given = record.__dict__
    subject = {name: given[name] for name in SUBJECT if given.get(name) is not None}
    # A record about a worker must not carry the pid of the master that writes it: either all is its own, or nothing.
    own = {name: given[name] for name in IDENTITY if given.get(name) is not None}
    return subject | (own or own_identity(identity))


def _detail(record: logging.LogRecord) -> str:
    parts = [str(record.__dict__.get("detail") or "")]
    if record.exc_info:
        parts.append(logging.Formatter().formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(part for part in parts if part)


def _stamp(moment: float) -> str:
    seconds, milliseconds = divmod(int(moment * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03d}+00:00"


def _as_word(value: object) -> str:
    """Write a value so that it ends where the next field begins: a client may choose the name of its Unix socket."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6f}"
    text = _escape(str(value))
    if any(character in text for character in ' "='):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _encodable(value: object) -> object:
    """Leave what JSON has a word for; write as escapes what is no Unicode, which strict readers refuse."""
    if value is None or isinstance(value, int | float):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode()
