"""What the kernel tells about a Unix socket that listens: how many clients wait in its queue, and how many may.

No option of the socket says that, so it is asked over netlink (sock_diag(7)). Anybody may ask; but the answer is to be
had only where the kernel has the module `unix_diag` and the process may open a netlink socket.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

_NETLINK_SOCK_DIAG = 4  # <linux/netlink.h>
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_SOCK_DIAG_BY_FAMILY = 20  # <linux/sock_diag.h>
_NLM_F_REQUEST = 1
# <linux/unix_diag.h>, struct unix_diag_req: family, protocol, states, inode, what to show, a cookie of two words
_REQUEST = struct.Struct("=BBxxIIIII")
_ALL_STATES = _NO_COOKIE = 0xFFFFFFFF
_SHOW_QUEUE = 0x10  # UDIAG_SHOW_RQLEN
_MESSAGE_BYTES = 16  # struct unix_diag_msg, before the attributes
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length with this header, type
_QUEUE = 4  # UNIX_DIAG_RQLEN
_LENGTHS = struct.Struct("=II")  # struct unix_diag_rqlen, of a socket that listens: what waits, and how much may

_TRANSIENT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINTR)

# Inodes of which the kernel did not tell: each attempt would have it look for its module again, with a process.
_untold: set[int] = set()


def accept_queue(listener: socket.socket) -> tuple[int, int] | None:
    """Return how many clients wait to be accepted and how many may, or None if the kernel does not tell."""
    inode = os.fstat(listener.fileno()).st_ino
    if inode in _untold:
        return None
    try:
        answer = _ask(_REQUEST.pack(socket.AF_UNIX, 0, _ALL_STATES, inode, _SHOW_QUEUE, _NO_COOKIE, _NO_COOKIE))
    except OSError as error:
        if error.errno in _TRANSIENT:
            return None
        answer = b""
    queue = find_queue(answer)
    if queue is None:
        _untold.add(inode)
    return queue


def _ask(request: bytes) -> bytes:
    """Send one request and return the answer, which the kernel gives before the request has been sent."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        length = _HEADER.size + len(request)
        netlink.sendto(_HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + request, (0, 0))
        return netlink.recv(4096, socket.MSG_DONTWAIT)


def find_queue(answer: bytes) -> tuple[int, int] | None:
    """Find the lengths of the queue among the attributes of an answer; None if it is a refusal, or has none."""
    if len(answer) < _HEADER.size:
        return None
    length, kind, *_ = _HEADER.unpack_from(answer)
    end = min(length, len(answer))
    at = _HEADER.size + _MESSAGE_BYTES
    while kind == _SOCK_DIAG_BY_FAMILY and at + _ATTRIBUTE.size <= end:
        size, attribute = _ATTRIBUTE.unpack_from(answer, at)
        if attribute == _QUEUE and size == _ATTRIBUTE.size + _LENGTHS.size and at + size <= end:
            waiting, limit = _LENGTHS.unpack_from(answer, at + _ATTRIBUTE.size)
            return waiting, limit
        at += max(_ATTRIBUTE.size, (size + 3) & ~3)  # they are aligned
    return None
