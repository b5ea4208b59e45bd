"""How much was served, and how fast, over the last minutes: what two counts a second apart tell."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

KEPT = 300  # samples, one a second


@dataclass(frozen=True, slots=True)
class Sample:
    """One second; rates are per second, latencies seconds, None if nothing ended."""

    rate: float
    failed: float
    median: float | None
    slow: float | None
    """95 of 100 were faster."""
    busy: int
    threads: int
    open: int


class History:
    """The samples of the last minutes, made from the status each time it is heard."""

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=KEPT)
        self._before: tuple[float, int, list[int]] | None = None

    def note(self, status: Mapping[str, Any], now: float) -> None:
        """Compare a status with the one before."""
        connections = status["connections"]
        failed = sum(one["failed"] + one["lost"] for one in connections)
        durations = [sum(column) for column in zip(*(one["durations"] for one in connections), strict=True)]
        if self._before is not None and len(self._before[2]) == len(durations):
            then, failed_then, durations_then = self._before
            ended = [late - early for late, early in zip(durations, durations_then, strict=True)]
            seconds = max(now - then, 0.001)
            workers = [worker for worker in status["workers"] if "threads" in worker]
            bounds = status["duration_bounds"]
            self.samples.append(
                Sample(
                    rate=max(0, sum(ended)) / seconds,
                    failed=max(0, failed - failed_then) / seconds,
                    median=quantile(0.5, ended, bounds),
                    slow=quantile(0.95, ended, bounds),
                    busy=sum(worker["threads_busy"] for worker in workers),
                    threads=sum(worker["threads"] for worker in workers if worker["state"] == "serving"),
                    open=sum(one["open"] for one in connections),
                )
            )
        self._before = now, failed, durations


def quantile(share: float, counts: Sequence[int], bounds: Sequence[float]) -> float | None:
    """Estimate a quantile from counts by class, as Prometheus does: within a class, evenly spread."""
    total = sum(counts)
    if total <= 0:
        return None
    wanted = share * total
    for index, (until, count) in enumerate(zip(accumulate(counts), counts, strict=True)):
        if until >= wanted and count > 0:
            if index >= len(bounds):
                break
            low = bounds[index - 1] if index else 0.0
            return low + (bounds[index] - low) * (wanted - (until - count)) / count
    return float(bounds[-1])
