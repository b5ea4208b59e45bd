"""How busy the workers are, as far as decisions depend on it: read at intervals, and only what a setting needs.

A worker is as busy as the scarcer of its two means: its threads (how many serve), or its interpreter (which share of
one processor it used since the last reading; more than one is rarely to be had, because of the GIL).
"""

from __future__ import annotations

from collections.abc import Iterable

from prefork.master.workers import WorkerProcess
from prefork.policy.events import LoadRead, WorkerLoad
from prefork.policy.fleet import FleetSettings
from prefork.system.sockets import Listener
from prefork.system.usage import cpu_seconds, resident_bytes


class LoadReader:
    """Reads the load; remembers the processor times of the last reading by the workers' numbers."""

    def __init__(self) -> None:
        self._used: dict[int, float] = {}
        self._read_at = 0.0

    def read(
        self, settings: FleetSettings, workers: Iterable[WorkerProcess], listeners: Iterable[Listener], now: float
    ) -> LoadRead:
        """Return the load of the workers that live, as far as these settings need it."""
        before, passed = self._used, now - self._read_at
        self._used, self._read_at = {}, now
        loads = {}
        for worker in workers:
            busy = self._busy(worker, before, passed) if settings.adaptive else 0.0
            rss = resident_bytes(worker.pid) if settings.max_rss and worker.pid is not None else None
            total = worker.rows.total()
            loads[worker.number] = WorkerLoad(total.served + total.failed, busy, rss)
        return LoadRead(loads, sum(one.queued() for one in listeners) if settings.adaptive else 0)

    def _busy(self, worker: WorkerProcess, before: dict[int, float], passed: float) -> float:
        threads = worker.rows.count_busy() / worker.rows.threads
        used = cpu_seconds(worker.pid) if worker.pid is not None else None
        if used is None:
            return threads
        self._used[worker.number] = used
        processor = (used - before[worker.number]) / passed if worker.number in before and passed > 0 else 0.0
        return max(threads, processor)
