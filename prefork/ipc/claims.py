"""Claims: which worker serves which of the sockets that share a place, agreed on by the workers themselves.

A file in memory for the life of the server, whose bytes stand for things and hold nothing: who has the record lock of a
byte (fcntl(2), F_SETLK) has the thing. Such a lock ends with its process, however that ends, and no child inherits it.
A socket is the byte of its inode number, which is the same in every process and generation. Whoever lets go of
something, or wants something, rings the bell.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator, Sequence

from prefork.ipc.bell import Bell

_SERVING = 1 << 40  # here and below, more than any inode number of a socket, which has 32 bits
_ASKING = 1 << 41
_FLOCK = "@hhqqi4x"  # struct flock: type, whence, start, length, pid


class Claims:
    """Used by the main thread of each worker. The master makes it, and rings when a worker has died."""

    def __init__(self, passed: Sequence[int] = ()) -> None:
        """Make it, or have what was passed on by the master before us: the file and the bell."""
        if passed:
            self._file, bell = passed
            self._bell = Bell(bell)
        else:
            self._file = os.memfd_create("prefork-claims", os.MFD_CLOEXEC)
            self._bell = Bell()

    @property
    def descriptors(self) -> tuple[int, int]:
        """What a process must not close that is to have it: the file and the bell."""
        return self._file, self._bell.fileno()

    def claim(self, inode: int) -> bool:
        """Have the socket with this inode number, unless another process has it."""
        return self._lock(inode)

    def release(self, inode: int) -> None:
        """Leave the socket to others."""
        self._unlock(inode)

    def owner(self, inode: int) -> int | None:
        """Return the pid of the other process that has the socket; None: nobody, or we."""
        return self._holder(inode)

    def ask(self, group: int) -> bool:
        """Be the one who has too few of a group of sockets, unless another is; `group` is the inode of its first."""
        return self._lock(_ASKING + group)

    def stop_asking(self, group: int) -> None:
        """Let another one ask."""
        self._unlock(_ASKING + group)

    def asker(self, group: int) -> int | None:
        """Return the pid of the other process that has too few, if there is one."""
        return self._holder(_ASKING + group)

    def begin(self) -> None:
        """Count among those who serve, until `end()` or the end of the process."""
        self._lock(_SERVING + os.getpid())

    def end(self) -> None:
        """Let go of everything."""
        fcntl.lockf(self._file, fcntl.LOCK_UN)

    def others(self) -> int:
        """Return how many other processes serve."""
        return sum(1 for _ in self._holders(_SERVING, _ASKING))

    def ring(self) -> None:
        """Have everybody look."""
        self._bell.ring()

    def fileno(self) -> int:
        """Return the descriptor of the bell."""
        return self._bell.fileno()

    def close(self) -> None:
        """Close this process's copies, which lets go of everything."""
        os.close(self._file)
        self._bell.close()

    def _lock(self, byte: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError:  # another has it, or the kernel has no memory for a lock
            return False
        return True

    def _unlock(self, byte: int) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)

    def _holder(self, byte: int) -> int | None:
        return next(self._holders(byte, byte + 1), None)

    def _holders(self, start: int, end: int) -> Iterator[int]:
        """Find which processes have locked bytes of a range, in no order: the kernel tells any one of them."""
        ranges = [(start, end)]
        while ranges:
            start, end = ranges.pop()
            if start == end:
                continue
            wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, start, end - start, 0)
            kind, _, found, length, pid = struct.unpack(_FLOCK, fcntl.fcntl(self._file, fcntl.F_GETLK, wanted))
            if kind != fcntl.F_UNLCK:
                yield pid
                ranges += [(start, found), (found + length, end)]
