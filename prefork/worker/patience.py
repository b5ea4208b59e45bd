"""How long a handler may take (`handler_timeout`): judged by the worker's main thread from its own scoreboard rows.

A handler that is over its time has a case, and each case goes the same way. First all stacks go to the log, with whom
the guilty thread serves. A second later its stack is looked at again, which tells a stuck handler from a slow one, and
its connection is shut down: that frees a thread which waits for the network. If the thread does not come free, the
master is asked for a replacement; this worker then drains, and leaves its stuck threads behind.

If the handler holds the interpreter, none of this runs, not even the beat: then the master sees to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefork.ipc.scoreboard import Request, WorkerRows
from prefork.system import stacks

if TYPE_CHECKING:
    from prefork.worker.services import Service

log = logging.getLogger("prefork.worker")

_SECOND_LOOK = 1.0  # seconds after the first
_TO_COME_FREE = 0.5  # seconds after its connection was cut


@dataclass(slots=True)
class _Case:
    request: Request
    progress: stacks.Progress  # of its thread at the first look
    next_look: float
    cut: bool = False
    given_up: bool = False


class Patience:
    """All cases of a worker; used by its main thread alone."""

    def __init__(
        self,
        timeout: float,
        rows: WorkerRows,
        services: Sequence[Service],
        listeners: Sequence[str],
        ask_for_replacement: Callable[[str], None],
    ) -> None:
        self._timeout = timeout
        self._rows = rows
        self._services = services
        self._listeners = listeners
        self._ask_for_replacement = ask_for_replacement
        self._cases: dict[int, _Case] = {}  # by row

    @property
    def given_up(self) -> int:
        """How many connections are not waited for any more."""
        return sum(case.given_up for case in self._cases.values())

    def look(self, now: float) -> None:
        """Open, follow and close cases."""
        if not self._timeout:
            return
        begun = self._rows.requests(begun_by=now - self._timeout)
        late = {one.row: one for one in begun if one.thread and now >= one.deadline(self._timeout)}
        for row, case in list(self._cases.items()):
            if row not in late or late[row].since != case.request.since:
                self._close(case, now)
            elif now >= case.next_look and not case.given_up:
                self._follow(case, now)
        for row, request in late.items():
            if row not in self._cases:
                self._open(request, now)

    def _open(self, request: Request, now: float) -> None:
        text = stacks.own_stacks(self._rows.labels(self._listeners, now), first=request.thread)
        problem = "handler overdue: %s; its connection is cut in %g s"
        log.warning(problem, self._about(request, now), _SECOND_LOOK, extra={"detail": text})
        self._cases[request.row] = _Case(request, stacks.progress_of(request.thread), now + _SECOND_LOOK)

    def _follow(self, case: _Case, now: float) -> None:
        if not case.cut:
            self._cut(case, now)
        else:
            case.given_up = True
            about = self._about(case.request, now)
            log.warning("handler not freed: %s; a replacement is asked for", about)
            self._ask_for_replacement(f"a handler does not end: {about}")

    def _cut(self, case: _Case, now: float) -> None:
        request, about = case.request, self._about(case.request, now)
        if stacks.progress_of(request.thread) == case.progress:
            log.warning("handler stuck: %s; it waits where it waited a second ago; its connection is cut", about)
        else:
            extra = {"detail": stacks.own_stack(request.thread)}
            log.warning("handler slow: %s; it is at work; its connection is cut", about, extra=extra)
        for service in self._services:
            service.cut_row(request.row, lambda: self._still(request))
        case.cut, case.next_look = True, now + _TO_COME_FREE

    def _still(self, request: Request) -> bool:
        """Say whether its thread still serves it, and nobody else. Asked with the pool's lock."""
        return any((one.row, one.since) == (request.row, request.since) for one in self._rows.requests())

    def _close(self, case: _Case, now: float) -> None:
        del self._cases[case.request.row]
        log.info(
            "handler not overdue any more: %s; its thread is free, or has more time", self._about(case.request, now)
        )

    def _about(self, request: Request, now: float) -> str:
        return f"it has served {request.in_words(self._listeners, now)} (handler_timeout {self._timeout:g} s)"
