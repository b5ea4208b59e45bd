"""What a process uses of the machine, as far as /proc lets us see it."""

from __future__ import annotations

import os
import re

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process, or None where it cannot be read (gone, or /proc hidden)."""
    import psutil  # imported when first asked: a master that nobody asks stays small

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):
        return None


def own_resident_bytes() -> int:
    """Return the resident memory of this process; 0 where it cannot be read."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read(100).split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


def own_proportional_bytes() -> int:
    """Return this process's share of its memory: what several processes have is divided among them (PSS).

    0 where it cannot be read. Of another process only who may trace it may know (proc_pid_smaps(5)).
    """
    try:
        with open("/proc/self/smaps_rollup", "rb", buffering=0) as file:
            found = re.search(rb"^Pss: +(\d+) kB$", file.read(4096), re.M)
    except OSError:
        return 0
    return int(found[1]) << 10 if found else 0


def cpu_seconds(pid: int, parent: int | None = None) -> float | None:
    """Return the processor time that a process has used, or None where it cannot be read.

    With `parent`, only of a child of that process: the pid of one that has gone may belong to somebody else by now.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if parent is not None and process.ppid() != parent:
            return None
        used = process.cpu_times()
    except (psutil.Error, OSError):
        return None
    return float(used.user + used.system)
