"""Signals as readable facts: a descriptor that wakes the wait, and the numbers that arrived.

The one door to `signal.signal`. A handler only notes the number; Python writes a byte into the wake-up pipe first, so
a signal that arrives just before the wait ends it. A full pipe loses no signal: the byte only wakes, the note counts.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from types import FrameType

# What a terminal or an operator sends to the whole process group is the master's business alone.
FOR_THE_MASTER = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
)


class Signals:
    """The signals of this process, of which there is one (the main thread's)."""

    def __init__(self, handled: Iterable[signal.Signals], unheeded: Iterable[signal.Signals] = ()) -> None:
        self._handled = tuple(handled)
        self._unheeded = tuple(unheeded)
        self._noted: list[int] = []
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def install(self) -> None:
        """Take over the signals and unblock all of them; call again to take them back from the application.

        Unheeded ones get an empty handler and not SIG_IGN, which programs started by the application would inherit.
        """
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in self._handled:
            signal.signal(number, self._note)
            signal.siginterrupt(number, False)
        for number in self._unheeded:
            signal.signal(number, _ignore)
            signal.siginterrupt(number, False)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted.append(number)

    def fileno(self) -> int:
        """The descriptor that is readable when a signal has arrived."""
        return self._read_end

    def take(self) -> list[signal.Signals]:
        """Return the signals that arrived since the last call, in order."""
        try:
            while len(os.read(self._read_end, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass  # woken by nothing, or emptied by an earlier call
        taken, self._noted = self._noted, []
        return [signal.Signals(number) for number in taken]

    def close(self) -> None:
        """Close the wake-up pipe; used by a forked child before it installs its own signals."""
        if self._read_end >= 0:
            signal.set_wakeup_fd(-1)
            os.close(self._read_end)
            os.close(self._write_end)
            self._read_end = self._write_end = -1


def restore_default(number: signal.Signals) -> None:
    """Give a signal its default action back: for a forked process that inherited a handler of its parent."""
    signal.signal(number, signal.SIG_DFL)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing, visibly: programs that the application starts get the default action back."""
