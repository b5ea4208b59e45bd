"""The log: one line for each record, whole even when many processes write to the same place.

The standard `logging` does the rest: loggers are `prefork`, `prefork.master`, `prefork.worker` and so on. A record is
written by a single `os.write` to a descriptor opened for appending, so lines of several processes never mix. A log that
cannot be written is no reason to stop serving: errors are dropped, and so are lines while nobody reads the other end
of a full pipe (the next line that gets through tells how many).

Who speaks comes last, in a fixed order: `worker=3 gen=2 pid=4242`. `set_identity` says it once for a process; a record
about somebody else names its own with `extra={"worker": 3, "gen": 2, "pid": 4242}`. `extra={"detail": text}` adds
lines below, as a traceback does; they are indented, so that nothing in them can pass for a line of ours.
"""

import errno
import logging
import os
import select
import sys
import time

from prefork.errors import UsageError

_SUBJECT = ("listener", "peer")
_IDENTITY = ("worker", "gen", "slot", "pid")
_LEVELS = {logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}
_PATIENCE = 1.0
"""Seconds to wait for a reader that has stopped reading; then lines are lost instead of time."""

_identity: dict[str, int] = {}


def set_up(level: str, file: str) -> None:
    """Send the records of `prefork` from `level` up to `file`, "-" for standard error; again after a reload."""
    logger, previous = logging.getLogger("prefork"), _handler()
    if previous is None or previous.file != file:
        logger.addHandler(_LineHandler(file))
        if previous is not None:
            logger.removeHandler(previous)
            previous.close()
    logger.propagate = False
    logger.setLevel(level.upper())


def reopen() -> None:
    """Open the log file anew after it was renamed; keep the old one, and say so, if that fails."""
    handler, log = _handler(), logging.getLogger("prefork")
    if handler is None or handler.file == "-":
        return
    try:
        handler.reopen()
    except OSError as error:
        log.error("cannot reopen the log %s: %s; the old file is still written", handler.file, error.strerror)
    else:
        log.info("log reopened: %s", handler.file)


def open_descriptor() -> int:
    """Return the descriptor that is written to, for a forked child that closes all others."""
    handler = _handler()
    return 2 if handler is None else handler.descriptor


def set_identity(**fields: int) -> None:
    """Say once who this process is: worker, gen, slot. The pid is added by itself, also after a fork."""
    unknown = fields.keys() - set(_IDENTITY)
    assert not unknown, f"not an identity field: {unknown}"
    _identity.clear()
    _identity.update(fields)


def _handler() -> "_LineHandler | None":
    handlers = logging.getLogger("prefork").handlers
    return next((handler for handler in handlers if isinstance(handler, _LineHandler)), None)


class _LineHandler(logging.Handler):
    """Writes each record with one system call. Its descriptor number never changes, so a fork may share it."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = file
        self.setFormatter(_LineFormatter())
        self.descriptor = _open_first(file)
        self._lost = 0  # lines dropped since the last one written; under the handler's lock, as emit() is

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # arguments that do not fit the message, or whose __str__ raises: logging reports it
            self.handleError(record)
            return
        if self._lost:
            line = f"{line}\n    ({self._lost} lines before this one were lost: the log could not be written)"
        written = _write(
            self.descriptor, f"{line}\n".encode("utf-8", "backslashreplace"), 0 if self._lost else _PATIENCE
        )
        self._lost = 0 if written else self._lost + 1

    def reopen(self) -> None:
        fresh = _open(self.file)
        try:
            os.dup2(fresh, self.descriptor, inheritable=False)
        finally:
            os.close(fresh)

    def close(self) -> None:
        super().close()
        descriptor, self.descriptor = self.descriptor, -1
        if self.file != "-" and descriptor >= 0:  # logging closes at exit what we may have closed before
            os.close(descriptor)


class _LineFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        level = _LEVELS.get(record.levelno, record.levelname)
        who = "".join(f" {name}={_escape(str(value))}" for name, value in _who(record))
        line = f"{stamp}.{int(record.msecs):03d}+00:00 {level:<5} {_escape(record.getMessage())} {who}"
        return "\n".join([line, *_lines_below(record)])


def _who(record: logging.LogRecord) -> list[tuple[str, object]]:
    given = record.__dict__
    subject = [(name, given[name]) for name in _SUBJECT if given.get(name) is not None]
    # A record about a worker must not carry the pid of the master that writes it: either all is its own, or nothing.
    own = {name: given[name] for name in _IDENTITY if given.get(name) is not None}
    identity = own or {**_identity, "pid": os.getpid()}
    return subject + [(name, identity[name]) for name in _IDENTITY if name in identity]


def _lines_below(record: logging.LogRecord) -> list[str]:
    text = str(record.__dict__.get("detail") or "")
    if record.exc_info:
        text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
    if record.stack_info:
        text = f"{text}\n{record.stack_info}"
    return [f"    {_escape(line)}" for line in text.splitlines() if line]


def _escape(text: str) -> str:
    """Clients choose parts of what we log: nothing of it may start a line, move the cursor or hide text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _open_first(file: str) -> int:
    if file == "-":
        # Without a standard error its number may belong to a connection by now.
        return sys.__stderr__.fileno() if sys.__stderr__ is not None else _open(os.devnull)
    try:
        return _open(file)
    except OSError as error:
        raise UsageError(f"cannot open the log file {file}: {_reason(error)}") from error


def _open(file: str) -> int:
    return os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o640)


def _write(fd: int, data: bytes, patience: float) -> bool:
    """Write all of it, or report that it was lost: a full disk or a stuck reader may not stop a server."""
    if fd < 0:
        return False
    writable = select.poll()
    writable.register(fd, select.POLLOUT)
    try:
        if not writable.poll(patience * 1000):
            return False
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        return False
    return True


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "its directory does not exist (create it)"
    return (error.strerror or str(error)).lower()
