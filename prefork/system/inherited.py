"""Sockets that the service manager passed in: the LISTEN_FDS protocol of sd_listen_fds(3)."""

from __future__ import annotations

import os
from dataclasses import dataclass

_FIRST = 3  # SD_LISTEN_FDS_START


@dataclass(frozen=True, slots=True)
class Inherited:
    """One passed descriptor and the name that its socket unit gave it (FileDescriptorName=)."""

    descriptor: int
    name: str


def take_inherited() -> list[Inherited]:
    """Return the passed descriptors, closed-on-exec, and remove the variables so that no child sees them.

    Variables meant for another process (LISTEN_PID) are removed and otherwise ignored, as the protocol asks. Raise
    ValueError when LISTEN_FDS or LISTEN_PID is not a number, or says what is not true.
    """
    count = _number(os.environ.pop("LISTEN_FDS", ""), "LISTEN_FDS")
    pid = _number(os.environ.pop("LISTEN_PID", ""), "LISTEN_PID")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    os.environ.pop("LISTEN_PIDFDID", None)  # says the same as LISTEN_PID, of a pid that may be used again
    if pid != os.getpid():
        return []
    names += ["unknown"] * (count - len(names))
    taken = [Inherited(_FIRST + index, names[index] or "unknown") for index in range(count)]
    for one in taken:
        _close_on_exec(one.descriptor, count)
    return taken


def _close_on_exec(descriptor: int, count: int) -> None:
    try:
        os.set_inheritable(descriptor, False)
    except OSError as error:
        raise ValueError(
            f"LISTEN_FDS says {count} sockets were passed, but descriptor {descriptor} is closed"
        ) from error


def _number(text: str, variable: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError(f"{variable} must be a number, not {text!r}; unset it, or let the service manager set it")
    return int(text or 0)
