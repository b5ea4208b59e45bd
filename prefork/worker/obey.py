"""The main thread of a worker: it beats, listens to the master, watches its servers, and never serves.

A drain is one path whoever asked for it: the servers stop accepting, the master is told when they have, open
connections go on until they end or the time is over, then their sockets are shut down.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefork.ipc import messages
from prefork.ipc.channel import Channel, ChannelBroken
from prefork.ipc.scoreboard import BEAT_INTERVAL, WorkerRows
from prefork.logs import take_reopened
from prefork.system.signals import Signals
from prefork.system.sockets import Listener
from prefork.system.stacks import own_stacks
from prefork.system.usage import own_proportional_bytes, own_resident_bytes
from prefork.worker.patience import Patience

if TYPE_CHECKING:
    from prefork.serving.limits import Admission
    from prefork.worker.services import Service
    from prefork.worker.shares import Shares

log = logging.getLogger("prefork.worker")

_PROPORTION_INTERVAL = 10.0  # seconds; the kernel walks through all of our memory for it
_ORPHAN_DRAIN = 0.5  # seconds that open connections get once the master is gone
_AFTER_ABORT = 1.0  # seconds for handlers to notice that their sockets were shut down


class Worker:
    """What runs in a worker, from the first beat to the last connection."""

    def __init__(
        self,
        rows: WorkerRows,
        channel: Channel[messages.ToWorker],
        signals: Signals,
        services: Sequence[Service],
        listeners: Sequence[Listener],
        drain_timeout: float,
        accept_after: float,
        handler_timeout: float,
        words: int,
        admission: Admission | None = None,
        measures_share: bool = False,
        shares: Shares | None = None,
    ) -> None:
        self._rows = rows
        self._channel = channel
        self._signals = signals
        self._services = services
        self._listeners = listeners
        self._drain_timeout = drain_timeout
        self._accept_at = time.monotonic() + accept_after
        self._admission = admission
        self._told_overloaded = False
        self._shares = shares
        self._left_to_others: frozenset[int] = frozenset()  # listeners, by index
        self._proportion_due = time.monotonic() if measures_share else math.inf
        self._started = False  # the services; a drain that comes first finds nothing to drain
        self._deadline = math.inf  # of the drain; infinite while serving
        self._quick = False
        self._told_stopped = False
        self._untold: deque[messages.FromWorker] = deque()  # messages that the master could not take yet
        self._aborted = False
        self._orphaned = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waiting = select.poll()
        self._addresses = [str(listener.address) for listener in listeners]
        self._words = words  # the file for our stacks
        self._patience = Patience(handler_timeout, rows, services, self._addresses, self._ask_for_replacement)

    def obey(self) -> int:
        """Serve until told to leave; return the exit status."""
        for descriptor in (self._channel.fileno(), self._signals.fileno(), self._wake):
            self._waiting.register(descriptor, select.POLLIN)
        self._start_if_due()
        self._beat()
        self._tell(messages.Ready(takes_over=any(service.takes_over for service in self._services)))
        while not self._finished():
            self._waiting.poll(1000 * self._longest_wait())
            self._beat()
            self._send_untold()
            self._take_orders()
            self._start_if_due()
            self._tend_services()
            self._look_at_shares()
            self._follow_services()
            if self._admission is not None:
                self._follow_admission(self._admission)
            self._patience.look(time.monotonic())
        return self._leave()

    def _beat(self) -> None:
        self._rows.beat()
        self._rows.show_memory(own_resident_bytes())
        now = time.monotonic()
        if now >= self._proportion_due:
            self._rows.show_proportional_memory(own_proportional_bytes())
            self._proportion_due = now + _PROPORTION_INTERVAL

    def _longest_wait(self) -> float:
        dates = [self._deadline] if self._started else [self._deadline, self._accept_at]
        if self._shares is not None:
            dates.append(self._shares.due)
        return max(0.0, min(BEAT_INTERVAL, *(date - time.monotonic() for date in dates)))

    def _start_if_due(self) -> None:
        if self._started or self._deadline < math.inf or time.monotonic() < self._accept_at:
            return
        self._started = True
        if self._shares is not None:
            self._waiting.register(self._shares, select.POLLIN)
            self._leave_to_others(self._shares.begin(time.monotonic()))
        for service in self._services:
            service.start(self._note_change)

    def _note_change(self) -> None:
        """Wake the main thread; called by any thread of any service."""
        os.eventfd_write(self._wake, 1)

    def _take_orders(self) -> None:
        if self._signals.take():
            self._drain("signalled", self._drain_timeout, ())
        for received in self._channel.receive_all():
            match received:
                case messages.Drain(seconds, finish, final, hand_over), _:
                    self._drain("ordered by the master", seconds, finish, final, hand_over)
                case messages.Dump(), _:
                    self._dump()
                case messages.LogReopened(file), [descriptor]:
                    take_reopened(file, descriptor)
                case messages.LogReopened(file), _:  # the kernel drops what there is no number for
                    problem = "cannot reopen the log %s: no descriptor is free; the old file is still written"
                    log.error(problem, os.fsdecode(file))
        if self._channel.closed_by_peer and not self._orphaned:
            # Nobody else will serve what is queued on our listeners, and nobody holds the workers together.
            self._orphaned = True
            self._waiting.unregister(self._channel)  # at its end it is readable for ever
            log.warning("draining: the master is gone; leaving in %s s at the latest", _ORPHAN_DRAIN)
            self._drain("orphaned", _ORPHAN_DRAIN, range(len(self._listeners)), final=True)

    def _dump(self) -> None:
        """Write the stacks where the master reads them, with more than faulthandler could tell about the threads."""
        text = own_stacks(self._rows.labels(self._addresses, time.monotonic()))
        with contextlib.suppress(OSError):  # it has room for so much only
            os.write(self._words, text.encode("utf-8", "backslashreplace"))
        self._tell(messages.Dumped())

    def _ask_for_replacement(self, reason: str) -> None:
        self._tell(messages.Stuck(reason))

    def _tell(self, message: messages.FromWorker) -> None:
        """Tell the master: later, if it takes nothing more because it is stopped; never, if it is gone."""
        self._untold.append(message)
        self._send_untold()

    def _send_untold(self) -> None:
        with contextlib.suppress(ChannelBroken):
            while self._untold:
                self._channel.send(self._untold[0])
                self._untold.popleft()

    def _drain(
        self, why: str, seconds: float, finish: Sequence[int], final: bool = False, hand_over: bool = False
    ) -> None:
        log.debug("draining: %s; connections get %s s", why, seconds)
        self._deadline = min(self._deadline, time.monotonic() + seconds)
        self._quick = seconds == 0
        for service in self._services if self._started else ():
            service.drain(frozenset(finish), hand_over)
            if final:
                service.part()

    def _look_at_shares(self) -> None:
        if self._shares is None or not self._started:
            return
        if self._deadline == math.inf:
            self._leave_to_others(self._shares.look(time.monotonic()))
            if self._shares.leaving and all(service.has_left() for service in self._services):
                self._shares.let_go()
        else:
            self._shares.hear()

    def _leave_to_others(self, listeners: frozenset[int]) -> None:
        if listeners == self._left_to_others:
            return
        self._left_to_others = listeners
        log.debug(
            "left to other workers: %s", ", ".join(self._addresses[index] for index in sorted(listeners)) or "none"
        )
        for service in self._services:
            service.leave_to_others(listeners)

    def _tend_services(self) -> None:
        for service in self._services if self._started else ():
            service.tend()

    def _follow_services(self) -> None:
        """Tell the master what changed in the servers, and cut the connections that outstay the drain."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass  # woken by something else
        if self._deadline == math.inf:
            return
        if not self._told_stopped and not (self._started and any(service.accepting for service in self._services)):
            self._told_stopped = True
            if self._shares is not None:
                self._shares.end()
            for listener in self._listeners:
                listener.close()
            self._tell(messages.StoppedAccepting())
        if not self._aborted and time.monotonic() >= self._deadline:
            self._abort()

    def _follow_admission(self, admission: Admission) -> None:
        """Tell the master, which says it once for all workers, that connections wait for room or were refused."""
        overloaded = admission.overloaded() and not self._told_stopped
        try:
            if overloaded != self._told_overloaded:
                self._channel.send(messages.Overloaded(overloaded))
                self._told_overloaded = overloaded
            while admission.refused_peers:
                self._channel.send(messages.PeerRefused(admission.refused_peers.popleft()))
        except ChannelBroken:
            pass  # the master is gone, which we shall read, or stopped, and told later

    def _abort(self) -> None:
        self._aborted = True
        self._deadline = time.monotonic() + _AFTER_ABORT
        open_connections = sum(service.open_connections for service in self._services)
        if open_connections and self._quick:
            log.info("cutting open connections (%d): the stop is a quick one", open_connections)
        elif open_connections:
            log.warning("cutting open connections (%d): they outstayed the drain", open_connections)
        for service in self._services:
            service.abort()

    def _finished(self) -> bool:
        failures = [service.failure for service in self._services if service.failure]
        if failures:
            raise failures[0]
        if self._deadline == math.inf:
            return False
        if self._aborted and time.monotonic() >= self._deadline:
            return True
        waited_for = sum(service.open_connections for service in self._services) - self._patience.given_up
        return self._told_stopped and waited_for <= 0

    def _leave(self) -> int:
        if handed_over := self._rows.total().handed_over:
            log.info("handed over parked connections (%d): other workers go on with them", handed_over)
        if self._patience.given_up:
            log.warning("leaving without waiting: handlers that do not end (%d)", self._patience.given_up)
        for service in self._services:
            service.close()
        return 0
