"""What the kernel says about a process under test."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def without_descriptors(pid: int) -> Iterator[None]:
    """Leave the process no descriptor beyond those that it has."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (_lowest_free_descriptor(pid), before[1]))
    try:
        yield
    finally:
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        except ProcessLookupError:
            pass  # it was replaced


def _lowest_free_descriptor(pid: int) -> int:
    """Return the number that the next descriptor would get: the limit is one of numbers, see getrlimit(2)."""
    open_ones = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return next(number for number in range(len(open_ones) + 1) if number not in open_ones)
