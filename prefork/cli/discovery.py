"""Which servers are running: the kernel's list of abstract sockets has their addresses, which name user and process.

Anybody may bind any abstract name. So a name alone is only a claim; whoever connects compares it with the credentials
that the kernel vouches for (`prefork.cli.client`).
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

_SOCKETS = Path("/proc/self/net/unix")  # a hardened unit (ProcSubset=pid) still sees its own processes
# Num RefCount Protocol Flags Type St Inode Path; flag 0x10000 is a listening socket, type 1 a stream (proc(5)).
_LINE = re.compile(r"\S+ \S+ \S+ 00010000 0001 \S+ +\d+ @prefork/(\d{1,10})/(\d{1,10})")


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
        text = sockets.read_text("utf-8", "replace")
    except OSError:
        return []  # a hardened /proc hides it: --control still works
    found = {ControlPlace(uid=int(uid), pid=int(pid)) for uid, pid in _matches(text)}
    return sorted((place for place in found if os.geteuid() in (0, place.uid)), key=lambda place: place.pid)


def _matches(text: str) -> list[tuple[str, str]]:
    return [(match[1], match[2]) for line in text.splitlines() if (match := _LINE.fullmatch(line))]
