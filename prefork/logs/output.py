"""A place that lines go to: whole ones, also when many processes write there, and never at the price of the service.

A line is one system call on a descriptor opened for appending, so lines do not mix. Where a line cannot go now, because
the disk is full or nobody reads the other end, it is dropped after a moment, counted, and the count is told when
the next one gets through. A process spends at most one part in twenty of its time waiting for a slow reader.
"""

import contextlib
import errno
import os
import select
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable

from prefork.errors import UsageError

STANDARD_ERROR = "-"
_PATIENCE = 0.02  # seconds; the master waits here, too, and nobody may hold it
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_RECOVERY = 0.05  # of that patience for each second


class Output:
    """Its descriptor's number never changes, so forks may share it, and copies of it can follow."""

    def __init__(
        self, file: str, tell_loss: Callable[[int], str], count_loss: Callable[[], object] = lambda: None
    ) -> None:
        """Open the file, or take standard error for "-". Raise UsageError.

        `tell_loss` writes the line that says how many are missing; `count_loss` is called for each.
        """
        self.file = file
        self.copies: tuple[int, ...] = ()  # descriptors that are to lead to the same place
        self._tell_loss = tell_loss
        self._count_loss = count_loss
        self.descriptor = _open_first(file)
        self._own = -1
        self.forget_parent()
        self._examine()

    def forget_parent(self) -> None:
        """Begin anew in a forked child, whose parent may have been in the middle of writing."""
        self._lock = threading.RLock()  # reentrant: a signal handler or the garbage collector may log in between
        self._lost = 0  # lines dropped since the last one written; this and the following under the lock
        self._torn = False  # the last line has no end
        self._patience = _PATIENCE
        self._waited = 0.0

    @property
    def descriptors(self) -> set[int]:
        """All that a forked child needs for writing here."""
        extra = {self._own} if self._own >= 0 else set()
        return {self.descriptor} | extra | ({self._socket.fileno()} if self._socket is not None else set())

    def write(self, line: str) -> None:
        """Write a line, or drop it."""
        with self._lock:
            if self._lost and self._send(self._tell_loss(self._lost)):
                self._lost = 0
            if self._lost or not self._send(line):
                self._lost += 1
                self._count_loss()

    def copy_to(self, *descriptors: int) -> None:
        """Let these descriptors, and what programs write to them, lead here from now on."""
        self.copies = descriptors
        for copy in self.copies:
            os.dup2(self.descriptor, copy)

    def reopen(self) -> None:
        """Open the file anew after it was renamed. Raise OSError."""
        self.take(_open(self.file))

    def take(self, fresh: int) -> None:
        """Write through this descriptor from now on, and close it under its own number."""
        try:
            os.dup2(fresh, self.descriptor, inheritable=False)
            self.copy_to(*self.copies)
        finally:
            os.close(fresh)
        self._examine()

    def close(self) -> None:
        """Give back what was opened for it."""
        descriptor, self.descriptor = self.descriptor, -1
        if self._socket is not None:
            self._socket.close()
        self._close_own()
        if self.file != STANDARD_ERROR and descriptor >= 0:
            os.close(descriptor)

    def _examine(self) -> None:
        """Find out how to write without waiting. The descriptor cannot be told not to block: others share it.

        What can be opened anew, a pipe or a terminal, can be told: nobody else has that.
        """
        mode = os.fstat(self.descriptor).st_mode
        self._never_blocks = stat.S_ISREG(mode)
        self._close_own()
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            with contextlib.suppress(OSError):  # /proc is hidden, or it belongs to another user
                self._own = os.open(f"/proc/self/fd/{self.descriptor}", _FLAGS)
        self._can_refuse = True  # to wait, for a single write; until the kernel says otherwise
        self._socket = socket.socket(fileno=os.dup(self.descriptor)) if stat.S_ISSOCK(mode) else None

    def _close_own(self) -> None:
        if self._own >= 0:
            os.close(self._own)
            self._own = -1

    def _send(self, line: str) -> bool:
        data = ("\n" * self._torn + line + "\n").encode("utf-8", "backslashreplace")
        rest = data
        try:
            while rest:
                try:
                    rest = rest[self._write_some(rest) :]
                except BlockingIOError:
                    if not self._wait():
                        break
        except OSError:
            pass  # a full disk, a reader that is gone: the line is lost, and counted
        if len(rest) < len(data):
            self._torn = bool(rest)
        return not rest

    def _write_some(self, data: bytes) -> int:
        if self._never_blocks:
            return os.write(self.descriptor, data)
        if self._own >= 0:
            return os.write(self._own, data)
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        if self._can_refuse:
            try:
                return os.pwritev(self.descriptor, [data], -1, os.RWF_NOWAIT)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:  # a pipe before Linux 6.4
                    raise
                self._can_refuse = False
        if not _is_writable(self.descriptor, 0):
            raise BlockingIOError
        return os.write(self.descriptor, data[: select.PIPE_BUF])  # there is room for so much: pipe(7)

    def _wait(self) -> bool:
        now = time.monotonic()
        self._patience = min(_PATIENCE, self._patience + _RECOVERY * (now - self._waited))
        writable = _is_writable(self.descriptor, self._patience)
        self._waited = time.monotonic()
        self._patience -= self._waited - now
        return writable


def _open_first(file: str) -> int:
    if file == STANDARD_ERROR:
        # Without a standard error its number may belong to a connection by now.
        return sys.__stderr__.fileno() if sys.__stderr__ is not None else _open(os.devnull)
    try:
        return _open(file)
    except OSError as error:
        raise UsageError(f"cannot open the log file {file}: {_reason(error)}") from error


def _open(file: str) -> int:
    # Not to wait for the reader of a named pipe: nobody would be told what is missing.
    descriptor = os.open(file, _FLAGS | os.O_CREAT, 0o640)
    os.set_blocking(descriptor, True)  # programs that are given it expect that
    return descriptor


def _is_writable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(max(0.0, 1000 * seconds)))


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "its directory does not exist (create it)"
    if error.errno == errno.ENXIO:
        return "nobody reads this pipe (start its reader first)"
    return (error.strerror or str(error)).lower()
