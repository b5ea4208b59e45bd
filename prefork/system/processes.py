"""Processes: forking with signals held back, reaping, and noticing that a parent has gone.

The one door to `os.fork` for the master and the mold. A child is forked with every signal blocked, so none that
arrives before it has installed its handlers is lost or does the default thing; the child unblocks them itself
(`signals.install`). Pids are only signalled while they are our own unreaped children, so never a stranger.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NoReturn

log = logging.getLogger("prefork.process")

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Death:
    """A reaped child: its pid and, in words, how it ended."""

    pid: int
    how: str


def fork(run: Callable[[], int]) -> int:
    """Fork a child that calls `run` with all signals blocked and exits with what it returns; return its pid.

    Raise OSError when the kernel refuses (EAGAIN: process limit, ENOMEM).
    """
    flush_standard_streams()  # or the child would write the parent's buffered output a second time
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _be_child(run)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _be_child(run: Callable[[], int]) -> NoReturn:
    code = 1
    try:
        code = run()
    except SystemExit as exit_request:
        code = exit_request.code if isinstance(exit_request.code, int) else 1
    except BaseException:
        log.error("process failed: %s", traceback.format_exc().rstrip())
    finally:
        # The frames below belong to the parent: the child must never return into them.
        flush_standard_streams()
        os._exit(code)


def flush_standard_streams() -> None:
    """Write out what Python has buffered for standard output and error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # closed, absent or full: nobody is left to tell


def close_descriptors_except(kept: Collection[int]) -> None:
    """Close what this process opened for itself (close-on-exec, as Python opens everything), but for `kept`.

    For a child that never returns into its parent's frames: the parent's objects stay referenced there, so none of
    them can close a descriptor number that has been given to something else meanwhile.
    """
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        numbers = list(range(3, os.sysconf("SC_OPEN_MAX")))
    for number in numbers:
        try:
            if number > 2 and number not in kept and fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
                os.close(number)
        except OSError:
            pass  # not open: the listing itself was one of them


def reap() -> Iterator[Death]:
    """Yield every child that has ended, reaping it (waitid(2))."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return
        if ended is None:
            return
        yield Death(ended.si_pid, _describe_end(ended.si_code, ended.si_status))


def _describe_end(code: int, status: int) -> str:
    if code == os.CLD_EXITED:
        return f"exit status {status}"
    try:
        name = signal.Signals(status).name
    except ValueError:
        name = f"signal {status}"
    return f"killed by {name}" + (" (core dumped)" if code == os.CLD_DUMPED else "")


def is_child(pid: int) -> bool:
    """Tell whether `pid` is a child of this process that has not been reaped, alive or not."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def kill_child(pid: int) -> None:
    """Send SIGKILL to a child, dead or alive, that has not been reaped (so that the pid cannot be anybody else's)."""
    os.kill(pid, signal.SIGKILL)


def signal_child(pid: int, number: int) -> None:
    """Send a signal to a child that has not been reaped."""
    os.kill(pid, number)


def become_subreaper() -> None:
    """Adopt orphaned descendants, so that workers forked by a mold become our children (prctl(2))."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends; end at once if it already has."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def outlive_parent() -> None:
    """Take `die_with_parent` back: from here on the channel's end of file says that the parent is gone."""
    _prctl(_PR_SET_PDEATHSIG, 0)


def raise_descriptor_limit() -> None:
    """Let this process open as many descriptors as it may: parked connections hold one each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("cannot raise the limit of open descriptors: %s; it stays %d", error, soft)
    else:
        log.debug("limit of open descriptors raised: %d may be open; it was %d", hard, soft)


def _prctl(option: int, argument: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {errno.errorcode.get(number, number)}")
