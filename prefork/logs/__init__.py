"""The log: one line for each record, as text or JSON, and the access log beside it.

The standard `logging` does the rest: loggers are `prefork`, `prefork.master`, `prefork.worker` and so on. Who speaks
comes last, in a fixed order: `worker=3 gen=2 pid=4242`. `set_identity` says it once for a process; a record about
somebody else names its own with `extra={"worker": 3, "gen": 2, "pid": 4242}`. `extra={"detail": text}` adds lines
below, as a traceback does.

The master opens the files, also anew after a rotation, and hands the descriptors to the others: they may not be allowed
to open them.
"""

from __future__ import annotations

import logging
import os
import time

from prefork.logs import application
from prefork.logs.lines import IDENTITY, STYLES, Line, as_json, as_text, is_ours, line_of, own_identity
from prefork.logs.output import STANDARD_ERROR, Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork.logs.lines import Style

_identity: dict[str, int] = {"pid": os.getpid()}
_outputs: dict[str, Output] = {}  # by file
_style: Style = as_text
_log: Output | None = None
_access: Output | None = None
_level = "info"
_losses = -1  # an eventfd(2): a counter that all forks share, and add to in one step
_lost = 0  # what has been taken from it; the master's


def set_up(level: str, file: str, style: str = "text", access: str = "off") -> None:
    """Send the records of `prefork` from `level` up to `file`, "-" for standard error; again after a reload.

    `access` is where `record_access` writes: "-" for the same place, a file, or "off". Raise UsageError.
    """
    global _style, _log, _access, _level, _losses
    if _losses < 0:
        _losses = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    access = file if access == "-" else access
    wanted = {file} | ({access} - {"off"})
    for name in wanted - _outputs.keys():
        _outputs[name] = Output(name, _tell_loss, _count_loss)
    _style, _log, _access, _level = STYLES[style], _outputs[file], _outputs.get(access), level
    keep_loggers()
    for name in _outputs.keys() - wanted:
        _outputs.pop(name).close()


def keep_loggers() -> None:
    """Take our loggers back after the application may have configured logging, which disables what it does not know."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if is_ours(name) and isinstance(logger, logging.Logger):
            logger.disabled = False
    ours = logging.getLogger("prefork")
    if _handler not in ours.handlers:
        ours.addHandler(_handler)
    ours.propagate = False
    ours.setLevel(_level.upper())


def capture_application() -> None:
    """Let what the application logs, warns of and prints go where our own lines go. Called before it is imported."""
    application.log_to(_Handler(), _level)
    application.write_to(None if _log is None or _log.file == STANDARD_ERROR else _log)
    if _style is as_json:
        application.print_by(_record_printed)


def reopen() -> dict[str, int]:
    """Open the files anew after they were renamed; return the descriptors of those that could be, for other processes.

    A file that cannot be opened goes on being written under its new name.
    """
    reopened, log = {}, logging.getLogger("prefork")
    for file, output in _outputs.items():
        if file == STANDARD_ERROR:
            continue
        try:
            output.reopen()
        except OSError as error:
            log.error("cannot reopen the log %s: %s; the old file is still written", file, error.strerror)
        else:
            log.info("log reopened: %s", file)
            reopened[file] = output.descriptor
    return reopened


def take_reopened(file: bytes, descriptor: int) -> None:
    """Write to the file through a descriptor from the master, which is closed."""
    output = _outputs.get(os.fsdecode(file))
    if output is not None:
        output.take(descriptor)
    else:
        os.close(descriptor)  # of another generation's settings


def open_descriptors() -> set[int]:
    """Return the descriptors that are written to, for a forked child that closes all others."""
    return {2, _losses}.union(*(output.descriptors for output in _outputs.values()))


def lost_lines() -> int:
    """Return how many lines this process and its forks had to drop since the start (master only)."""
    global _lost
    try:
        _lost += os.eventfd_read(_losses)
    except OSError:
        pass  # none since the last look, or there is no log yet
    return _lost


def set_identity(**fields: int) -> None:
    """Say once who this process is: worker, gen, slot. The pid is added by itself, also after a fork."""
    unknown = fields.keys() - set(IDENTITY)
    assert not unknown, f"not an identity field: {unknown}"
    _identity.clear()
    _identity.update({"pid": os.getpid(), **fields})


def record_access(what: str, fields: Mapping[str, object], identity: Mapping[str, object] | None = None) -> None:
    """Write a line to the access log, whatever the log's level; the identity is this process's unless given."""
    if _access is not None:
        _access.write(_style(_line("INFO", "prefork.access", what, fields, identity)))


def _line(
    level: str,
    logger: str,
    message: str,
    fields: Mapping[str, object],
    identity: Mapping[str, object] | None = None,
) -> Line:
    return Line(time.time(), level, logger, message, {**fields, **own_identity(identity or _identity)})


def _count_loss() -> None:
    try:
        os.eventfd_write(_losses, 1)
    except OSError:
        pass  # in a child that has closed it


def _tell_loss(lost: int) -> str:
    return _style(_line("WARN", "prefork.log", "lines lost: the log could not be written", {"lost": lost}))


def _record_printed(stream: str, text: str) -> None:
    if _log is not None:
        _log.write(_style(_line("INFO", stream, text, {})))


class _Handler(logging.Handler):
    """Writes each record to the log, wherever that is now."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = _style(line_of(record, _identity))
        except Exception:  # arguments that do not fit the message, or whose __str__ raises: logging reports it
            self.handleError(record)
            return
        if _log is not None:
            _log.write(line)

    def close(self) -> None:
        """Do nothing: `logging.config` closes every handler there is, and this one goes on."""


_handler = _Handler()


def _forget_parent() -> None:
    _identity["pid"] = os.getpid()
    for output in _outputs.values():
        output.forget_parent()


os.register_at_fork(after_in_child=_forget_parent)
