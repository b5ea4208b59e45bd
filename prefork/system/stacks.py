"""The stacks of all threads of a process, also while one of them holds the interpreter lock or has just crashed.

`faulthandler` writes them from a signal handler in C, so nothing of the process has to work any more; but it can only
write to a descriptor. That is a file in memory (`Words`), made by the master for each worker and kept open by both: of
fixed size, so that nobody can fill the memory with it, and read by the master whenever it likes, without waiting.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import FrameType

STACKS_SIGNAL = signal.SIGRTMAX - 1
"""What makes a process write its stacks: a number that nobody else uses."""

_WORDS_BYTES = 1 << 19
_MOST_TEXT = 60_000  # characters: a reader of the log that is slow may not hold up the one who writes
_BELOW_FORK = re.compile(r'\n[^\n]*/prefork/system/processes\.py", line \d+ in _be_child\n.*', re.DOTALL)
_THREAD = re.compile(r"(Current thread|Thread) 0x([0-9a-f]+)[^\n]*\(most recent call first\):\n")


class Words:
    """What a process has written about itself: at its end, its last words."""

    def __init__(self) -> None:
        """Raise OSError if there is no memory or no descriptor left."""
        self._file = os.memfd_create("prefork-stacks", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._file, _WORDS_BYTES)
        fcntl.fcntl(self._file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)

    def fileno(self) -> int:
        """The descriptor. Whoever has a copy writes behind what has been written through any other."""
        return self._file

    def forget(self) -> None:
        """Let the next text be written from the beginning."""
        os.lseek(self._file, 0, os.SEEK_SET)

    def read(self) -> str:
        """Return what has been written since `forget`."""
        written = min(os.lseek(self._file, 0, os.SEEK_CUR), _WORDS_BYTES)
        return os.pread(self._file, written, 0).decode(errors="replace").replace("\0", "")

    def close(self) -> None:
        """Give the memory back, once the process has closed its copy."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def write_stacks_when_asked(descriptor: int) -> None:
    """Let this process write its stacks at STACKS_SIGNAL, and when it dies of a fatal signal. Again does no harm."""
    faulthandler.enable(descriptor, all_threads=True)
    faulthandler.register(STACKS_SIGNAL, descriptor, all_threads=True, chain=False)


def own_stacks(labels: Mapping[int, str], first: int | None = None) -> str:
    """Return the stacks of all threads of this process, the thread `first` and then the labelled ones before others."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks = {ident: _write(frame) for ident, frame in sys._current_frames().items()}
    in_order = sorted(stacks, key=lambda ident: (ident != first, ident not in labels))
    return _group((_label(names.get(ident) or f"0x{ident:x}", labels.get(ident)), stacks[ident]) for ident in in_order)


def label_stacks(text: str, labels: Mapping[int, str]) -> str:
    """Make what faulthandler wrote as easy to read as `own_stacks`: it knows threads only by their numbers."""
    before, *rest = _THREAD.split(text)
    crash = before.strip()  # "Fatal Python error: ..."; then the current thread is the one that crashed
    stacks, after = [], []
    for kind, number, body in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        stack, _, more = body.strip("\n").partition("\n\n")
        after.append(more.strip())
        crashed, ident = bool(crash) and kind.startswith("Current"), int(number, 16)
        label = ", ".join(filter(None, ("which crashed" if crashed else "", labels.get(ident))))
        stacks.append((not crashed, ident not in labels, _label(f"0x{ident:x}", label), stack))
    stacks.sort(key=lambda each: each[:2])
    return "\n".join(filter(None, (crash, _group(each[2:] for each in stacks), *after)))


def own_stack(ident: int) -> str:
    """Return the stack of one thread of this process, if it still runs."""
    return _write(sys._current_frames().get(ident))


def _write(frame: FrameType | None) -> str:
    """Write a stack as faulthandler does, most recent call first."""
    lines = []
    while frame is not None:
        code = frame.f_code
        lines.append(f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_name}')
        frame = frame.f_back
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a thread of this process has come. If it is equal a second time, the thread has not moved.

    Its place alone does not tell: a loop gives the interpreter away at the same place each time.
    """

    place: tuple[tuple[int, int], ...]
    cpu_ticks: int


def progress_of(ident: int) -> Progress:
    """Look where a thread of this process is."""
    frame = sys._current_frames().get(ident)
    place = []
    while frame is not None:
        place.append((id(frame), frame.f_lasti))
        frame = frame.f_back
    return Progress(tuple(place), _cpu_ticks(ident))


def _cpu_ticks(ident: int) -> int:
    """Return the time on a CPU, in hundredths of a second (proc_pid_stat(5)); 0 where it cannot be read."""
    native_id = next((thread.native_id for thread in threading.enumerate() if thread.ident == ident), None)
    try:
        with open(f"/proc/self/task/{native_id}/stat", "rb", buffering=0) as file:
            fields = file.read(1000).rpartition(b")")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, ValueError, IndexError):
        return 0


def _label(name: str, label: str | None) -> str:
    return f"thread {name}" + (f", {label}" if label else "")


def _group(stacks: Iterable[tuple[str, str]]) -> str:
    """Write equal stacks once: most threads of a pool wait at the same place."""
    groups: dict[str, list[str]] = {}
    for label, stack in stacks:
        groups.setdefault(_BELOW_FORK.sub("", stack), []).append(label)  # what is below belongs to the parent
    text = "\n".join("\n".join([*labels, stack]) for stack, labels in groups.items())
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}\n[...]"
