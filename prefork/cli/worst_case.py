"""What a server can need of the machine when all its threads are busy: known before it is started."""

import math
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass

from prefork.config.settings import Settings

_OWN_DESCRIPTORS = 16  # of a worker, beside its listeners and connections: channel, log, wake-ups, what Python has
_CONNECTION_BYTES = 24 << 10  # a thread that has been at work, and a socket with a buffered file
_PARKED_BYTES = 6 << 10  # one that is idle
_OTHER_PROCESSES = 2  # the master and the mold


@dataclass(frozen=True, slots=True)
class WorstCase:
    """Of a server that is served by our pool, with a replacement for each that it may replace at a time (surge).

    What handlers open and keep for themselves comes on top.
    """

    connections: int | None
    """None where only the descriptors bound those that are parked."""
    descriptors: int
    """Of one worker; without those of parked connections where nothing bounds them."""
    descriptors_allowed: int
    """The hard RLIMIT_NOFILE of this process, which workers would inherit and make their own; -1 is no limit."""
    memory_bytes: int | None
    """None where /proc does not tell, or where nothing bounds the connections."""


def find_worst_case(settings: Settings, parked: bool) -> WorstCase:
    """Calculate it; `parked` says whether an idle connection holds no thread.

    The application has been imported by this process, so its memory is known.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = settings.limit_connections or math.inf
    busy = int(min(_most_workers(settings) * settings.threads, limit))
    connections = busy if not parked else settings.limit_connections or None
    # Those that are parked may all be with one worker.
    of_one = connections if parked and connections else min(settings.threads, busy)
    return WorstCase(
        connections=connections,
        # A worker has a copy of each listener beside the one that it inherits.
        descriptors=_OWN_DESCRIPTORS + 2 * len(settings.bind) + of_one,
        descriptors_allowed=-1 if hard == resource.RLIM_INFINITY else hard,
        memory_bytes=None if connections is None else _find_memory(settings, busy, connections - busy),
    )


def _find_memory(settings: Settings, busy: int, parked: int) -> int | None:
    from prefork.system.usage import resident_bytes

    resident = resident_bytes(os.getpid())
    if resident is None:
        return None
    has_pages = settings.admin != "off" or settings.agent != "off"
    processes = _most_workers(settings) + _OTHER_PROCESSES + has_pages + settings.reload
    # Forked processes share what none of them writes; in the worst case each has written everywhere.
    return resident * processes + busy * _CONNECTION_BYTES + parked * _PARKED_BYTES


def _most_workers(settings: Settings) -> int:
    """Return how many can serve at a time. Those that drain after a reload come on top, for as long as they do."""
    return max(settings.workers, settings.max_workers) + settings.surge


def find_shortages(worst: WorstCase) -> Iterator[str]:
    """Say what there is too little of."""
    if 0 <= worst.descriptors_allowed < worst.descriptors:
        yield (
            f"a worker may need {worst.descriptors} descriptors and may have {worst.descriptors_allowed}; "
            "raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE= of systemd), or lower threads or limit_connections"
        )


def render_worst_case(worst: WorstCase) -> Iterator[str]:
    """Write it as lines."""
    allowed = "any number" if worst.descriptors_allowed < 0 else str(worst.descriptors_allowed)
    if worst.connections is None:
        yield f"worst case: idle connections are parked, until a worker has no descriptor left; it may have {allowed}"
        yield "worst case: limit_connections would bound connections and memory"
        return
    yield f"worst case: {worst.connections} connections at a time"
    yield f"worst case: {worst.descriptors} descriptors in each worker, which may have {allowed}"
    if worst.memory_bytes is not None:
        yield f"worst case: {worst.memory_bytes / (1 << 20):.0f} MiB of memory, and what handlers keep"
