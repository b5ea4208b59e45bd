"""How long to wait before the next attempt, so that what fails at once is not tried in a storm."""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST = 0.5
LONGEST = 30.0


@dataclass(slots=True)
class Backoff:
    """Counts failures in a row. What lasted `proven_after` seconds was no failure and may be replaced at once."""

    proven_after: float
    failures: int = 0
    not_before: float = 0.0

    def ended(self, lasted: float, now: float) -> float:
        """Note an end after `lasted` seconds of service and return how long the next attempt waits."""
        if lasted < self.proven_after:
            return self.failed(now)
        self.failures = 0
        self.not_before = now
        return 0.0

    def failed(self, now: float) -> float:
        # The exponent is capped: 2.0 ** 1100 overflows, and failures may go on for weeks.
        delay = min(LONGEST, SHORTEST * 2.0 ** min(self.failures, 10))
        self.failures += 1
        self.not_before = now + delay
        return delay
