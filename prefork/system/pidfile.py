"""The pid file: says which process is the master, and is locked for as long as it lives.

The lock is the kernel's and goes with the process, so a file that nobody has locked is stale whatever it says.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from prefork.errors import UsageError


class Pidfile:
    """A pid file that is ours from the constructor to `close()`."""

    def __init__(self, path: str) -> None:
        """Write our pid, unless another process has the file locked. Raise UsageError."""
        self._path = path
        try:
            self._descriptor = _take(path)
        except OSError as error:
            raise UsageError(f"cannot write the pid file {path}: {_reason(error)}") from error

    def hand_over(self) -> None:
        """Leave the file to the process that writes it next."""
        os.close(self._descriptor)

    def close(self) -> None:
        """Remove the file, if it is still the one that we locked."""
        try:
            if _is_at(self._descriptor, self._path):
                os.unlink(self._path)
        except OSError:
            pass  # its directory is gone, or not ours to write any more: a stale file harms nobody
        os.close(self._descriptor)


def _take(path: str) -> int:
    """Open, lock and write it."""
    while True:
        # A fifo would have us wait for a reader.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"cannot write the pid file {path}: it is no regular file (name another)")
            _lock(descriptor, path)
            if _is_at(descriptor, path):
                _write_pid(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last owner removed it between our opening and our locking


def _lock(descriptor: int, path: str) -> None:
    """Lock for this process alone: a child forked later does not hold it (fcntl(2), advisory record locking)."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        raise UsageError(
            f"cannot write the pid file {path}: process {owner} has it locked (another server runs; stop it first)"
        ) from None


def _write_pid(descriptor: int) -> None:
    os.fchmod(descriptor, 0o644)  # whatever the umask: anybody may know
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _is_at(descriptor: int, path: str) -> bool:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "its directory does not exist (create it)"
    if error.errno == errno.ELOOP:
        return "it is a symbolic link, and none is followed (name the file itself)"
    if error.errno == errno.EPERM:
        return "it belongs to another user (remove it, or name another)"
    return (error.strerror or str(error)).lower()
