"""Which servers are running: the kernel's list of abstract sockets has their addresses, which name user and process.

The list is made piece by piece, and who is in it may be left out when another one leaves between two pieces. So it is
read twice, and nobody needs it whose pid is known.

Anybody may bind any abstract name. So a name alone is only a claim; whoever connects compares it with the credentials
that the kernel vouches for (`prefork.cli.client`).
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

_SOCKETS = Path("/proc/self/net/unix")  # a hardened unit (ProcSubset=pid) still sees its own processes
_READINGS = 2
# Num RefCount Protocol Flags Type St Inode Path; flag 0x10000 is a listening socket, type 1 a stream (proc(5)).
_LINE = re.compile(r"\S+ \S+ \S+ 00010000 0001 \S+ +\d+ @prefork/(\d{1,10})/(\d{1,10})")
_USER = re.compile(r"^Uid:\t(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ControlPlace:
    """Where a server can be asked: an abstract address with the user and process it claims, or a path."""

    path: str = ""
    uid: int = -1
    pid: int = -1

    @property
    def address(self) -> str:
        return self.path or f"\0prefork/{self.uid}/{self.pid}"

    def __str__(self) -> str:
        return self.path or f"pid {self.pid}"


def find_places(sockets: Path = _SOCKETS) -> list[ControlPlace]:
    """List the servers that this user may control, by pid: its own, or for root all of them."""
    try:
        text = "\n".join(sockets.read_text("utf-8", "replace") for _ in range(_READINGS))
    except OSError:
        return []  # a hardened /proc hides it: --pid and --control still work
    found = {ControlPlace(uid=int(uid), pid=int(pid)) for uid, pid in _matches(text)}
    return sorted((place for place in found if os.geteuid() in (0, place.uid)), key=lambda place: place.pid)


def place_of(pid: int) -> ControlPlace:
    """Say where the server with this pid is asked, if it is one that this user may control."""
    return ControlPlace(uid=_user_of(pid) if os.geteuid() == 0 else os.geteuid(), pid=pid)


def _user_of(pid: int) -> int:
    """Return the real user of a process (proc_pid_status(5)); this user, if that cannot be known."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    except OSError:
        status = ""
    match = _USER.search(status)
    return int(match[1]) if match else os.geteuid()


def _matches(text: str) -> list[tuple[str, str]]:
    return [(match[1], match[2]) for line in text.splitlines() if (match := _LINE.fullmatch(line))]
