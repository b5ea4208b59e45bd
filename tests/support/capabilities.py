"""A thread that may do less than root, for what any user must be able to do."""

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

NET_ADMIN = 12  # <linux/capability.h>
_HEADER = struct.pack("=Ii", 0x20080522, 0)  # capget(2): version 3, the calling thread


@contextmanager
def without_capability(number: int) -> Iterator[None]:
    """Take a capability below 32 from the calling thread during the block, if it has that."""
    libc = ctypes.CDLL(None, use_errno=True)
    sets = ctypes.create_string_buffer(24)  # effective, permitted and inheritable, and the same of those from 32 on
    _check(libc.capget(_HEADER, sets))
    (effective,) = struct.unpack_from("=I", sets)
    fewer = ctypes.create_string_buffer(sets.raw, 24)
    struct.pack_into("=I", fewer, 0, effective & ~(1 << number))
    _check(libc.capset(_HEADER, fewer))
    try:
        yield
    finally:
        _check(libc.capset(_HEADER, sets))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
