"""What the kernel says about a process under test."""

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.clients import eventually

_LOOKS = 0.5  # seconds


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def suspended(*pids: int) -> Iterator[None]:
    """Let the processes do nothing for the length of the block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: all(_is_stopped(pid) for pid in pids))  # a thread may be about to accept
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _is_stopped(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    try:
        return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)
    except OSError:
        return False  # one has ended


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
    # What is open for a moment only, as with each beat, is not there at every look, though a process may be preempted.
    open_ones = _descriptors_of(pid)
    deadline = time.monotonic() + _LOOKS
    while time.monotonic() < deadline:
        open_ones &= _descriptors_of(pid)
    return next(number for number in range(len(open_ones) + 1) if number not in open_ones)


def _descriptors_of(pid: int) -> set[int]:
    return {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
