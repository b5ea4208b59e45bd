"""The stacks of workers, for the log and for who asks with `prefork dump`.

A worker that listens writes them itself and says when it has. One that does not within half a second is sent the signal
that makes `faulthandler` write them whatever holds its interpreter, and half a second later what is there is read. A
stopped process writes nothing. The master only reads memory, and never waits.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prefork.ipc import messages
from prefork.ipc.channel import ChannelBroken
from prefork.system import processes
from prefork.system.stacks import STACKS_SIGNAL, label_stacks

if TYPE_CHECKING:
    from prefork.master.workers import WorkerProcess

log = logging.getLogger("prefork.master")

PATIENCE = 0.5  # seconds, for the worker itself and then for the signal

Taker = Callable[["WorkerProcess", str], object]


@dataclass(slots=True)
class _Wanted:
    worker: WorkerProcess
    reason: str
    deadline: float
    signalled: bool = False
    takers: list[Taker] = field(default_factory=list)


class Stacks:
    """The stacks that are being waited for."""

    def __init__(self) -> None:
        self._wanted: dict[int, _Wanted] = {}  # by the worker's number

    def ask(self, worker: WorkerProcess, reason: str, taker: Taker) -> None:
        """Ask a worker for its stacks; `taker` gets the text, later."""
        if worker.number not in self._wanted:
            wanted = self._begin(worker, reason)
            try:
                worker.channel.send(messages.Dump())
            except ChannelBroken:
                wanted.deadline = time.monotonic()  # it does not read
        self._wanted[worker.number].takers.append(taker)

    def force(self, worker: WorkerProcess, reason: str) -> None:
        """Have them written without the worker's help."""
        self._signal(self._wanted.get(worker.number) or self._begin(worker, reason))

    def _begin(self, worker: WorkerProcess, reason: str) -> _Wanted:
        worker.words.forget()
        wanted = self._wanted[worker.number] = _Wanted(worker, reason, time.monotonic() + PATIENCE)
        return wanted

    def _signal(self, wanted: _Wanted) -> None:
        wanted.signalled, wanted.deadline = True, time.monotonic() + PATIENCE
        if wanted.worker.pid is not None:
            processes.signal_child(wanted.worker.pid, STACKS_SIGNAL)

    def note_written(self, worker: WorkerProcess) -> None:
        """Take what a worker says it has written; nobody wants it any more if that took too long."""
        if worker.number in self._wanted:
            self._finish(self._wanted[worker.number])
        else:
            worker.words.forget()

    def note_gone(self, worker: WorkerProcess) -> None:
        """Wait no longer for a worker that has gone; what it has written are its last words."""
        if (wanted := self._wanted.pop(worker.number, None)) is not None:
            for taker in wanted.takers:
                taker(worker, "it died before it had written them")

    def deadline(self) -> float:
        """Return when `take_late` has something to do."""
        return min((wanted.deadline for wanted in self._wanted.values()), default=math.inf)

    def take_late(self, now: float) -> None:
        """Signal those that do not answer, and read what those have written that were signalled."""
        for wanted in [wanted for wanted in self._wanted.values() if wanted.deadline <= now]:
            if wanted.signalled:
                self._finish(wanted)
            else:
                self._signal(wanted)

    def _finish(self, wanted: _Wanted) -> None:
        worker = wanted.worker
        text = take_words(worker)
        del self._wanted[worker.number]
        nothing = "" if text else "; it has written none: its process is stopped, or had no time to run"
        extra = {"detail": text, **worker.identity}
        level = logging.INFO if wanted.takers else logging.WARNING
        log.log(level, "stacks of worker: %s%s", wanted.reason, nothing, extra=extra)
        for taker in wanted.takers:
            taker(worker, text or "none written: the process is stopped, or had no time to run")


def take_words(worker: WorkerProcess) -> str:
    """Return what a worker has written, its threads named by whom they serve, and let the next text begin anew."""
    text = worker.words.read()
    worker.words.forget()
    return label_stacks(text, worker.rows.labels(worker.listeners, time.monotonic()))
