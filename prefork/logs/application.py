"""What the application logs, warns of and prints, in the same place as our own lines.

Its loggers reach a handler of ours at the root until it configures logging itself: then its configuration wins, and
`prefork.*` stays ours. What anything in its processes writes to the descriptors 1 and 2 goes to the log file as it is.
So does what it prints, but in a log of JSON objects each printed line becomes one.
"""

from __future__ import annotations

import functools
import io
import logging
import sys
import threading
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

    from prefork.logs.output import Output


def log_to(handler: logging.Handler, level: str) -> None:
    """Let loggers at `level` and above, and warnings, reach the handler unless the application has its own."""
    root = logging.getLogger()
    handler.addFilter(_is_nobody_elses)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # It does nothing at a root that has a handler.
    logging.basicConfig = _without(handler, logging.basicConfig)
    warnings.showwarning = _log_warning


def write_to(output: Output | None) -> None:
    """Let standard output and error lead to the log file, if there is one; each printed line is written at once."""
    standard = [stream for stream in (sys.__stdout__, sys.__stderr__) if stream is not None]
    if output is not None:
        output.copy_to(*(stream.fileno() for stream in standard))
    for stream in standard:
        # Whatever is in a buffer is lost when a worker is killed or leaves through os._exit. Without one
        # (PYTHONUNBUFFERED) a line and its end are written apart, and another process writes in between.
        stream.reconfigure(line_buffering=True, write_through=False)


def print_by(record: Callable[[str, str], object]) -> None:
    """Have `record(stream's name, line)` called for each line that is printed from now on."""
    for name in ("stdout", "stderr"):
        standard = getattr(sys, f"__{name}__")
        if standard is not None:
            printed = _Printed(functools.partial(record, name), standard.fileno())
            stream = io.TextIOWrapper(printed, "utf-8", "backslashreplace", line_buffering=True)  # type: ignore[type-var]  # raw is enough for writing
            setattr(sys, name, stream)


_LONGEST_PRINTED = 1 << 16  # bytes: who prints dots, and never the end of the line, shall not fill the memory


class _Printed(io.RawIOBase):
    """The bytes below a text stream, cut into lines. Programs that are given the stream write to its descriptor."""

    def __init__(self, record: Callable[[str], object], descriptor: int) -> None:
        self._record = record
        self._descriptor = descriptor
        self._begun = b""  # of a line that has no end yet
        self._lock = threading.RLock()  # of that

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        written = bytes(data)
        with self._lock:
            *lines, self._begun = (self._begun + written).split(b"\n")
        for line in lines:
            self._tell(line)
        if len(self._begun) > _LONGEST_PRINTED:
            self.flush()
        return len(written)

    def flush(self) -> None:
        """Tell what there is, which nobody could later if the process ends."""
        with self._lock:
            begun, self._begun = self._begun, b""
        self._tell(begun)

    def _tell(self, line: bytes) -> None:
        if line:
            self._record(line.decode("utf-8", "backslashreplace"))


def _is_nobody_elses(record: logging.LogRecord) -> bool:
    """Say whether no handler of the application's own has been given the record."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        for handler in logger.handlers:
            if _is_nobody_elses not in handler.filters and not isinstance(handler, logging.NullHandler):
                return False
        logger = logger.parent if logger.propagate else None
    return True


def _without(handler: logging.Handler, original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def configure(*args: Any, **kwargs: Any) -> None:
        root = logging.getLogger()
        root.removeHandler(handler)
        try:
            original(*args, **kwargs)
        finally:
            root.addHandler(handler)

    return configure


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if file is not None:
        file.write(warnings.formatwarning(message, category, filename, lineno, line))
    else:
        where = f"{filename}:{lineno}"
        logging.getLogger("py.warnings").warning("%s: %s (%s)", category.__name__, message, where)
