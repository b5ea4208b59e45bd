"""What a server can need of the machine when all its threads are busy: known before it is started."""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass

from prefork.config.settings import Settings

_OWN_DESCRIPTORS = 16  # of a worker, beside its listeners and connections: channel, log, wake-ups, what Python has
_CONNECTION_BYTES = 24 << 10  # a thread that has been at work, and a socket with a buffered file
_OTHER_PROCESSES = 2  # the master and the mold


@dataclass(frozen=True, slots=True)
class WorstCase:
    """Of a server that is served by our pool. What handlers open and keep for themselves comes on top."""

    connections: int
    descriptors: int
    """Of one worker."""
    descriptors_allowed: int
    """RLIMIT_NOFILE of this process, which workers started from here would inherit; -1 is no limit."""
    memory_bytes: int | None
    """None where /proc does not tell."""


def find_worst_case(settings: Settings) -> WorstCase:
    """Calculate it. The application has been imported by this process, so its memory is known."""
    from prefork.system.usage import resident_bytes

    connections = settings.workers * settings.threads
    if settings.limit_connections:
        connections = min(connections, settings.limit_connections)
    resident = resident_bytes(os.getpid())
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WorstCase(
        connections=connections,
        # A worker has a copy of each listener beside the one that it inherits.
        descriptors=_OWN_DESCRIPTORS + 2 * len(settings.bind) + min(settings.threads, connections),
        descriptors_allowed=-1 if soft == resource.RLIM_INFINITY else soft,
        # Forked processes share what none of them writes; in the worst case each has written everywhere.
        memory_bytes=None
        if resident is None
        else resident * (settings.workers + _OTHER_PROCESSES) + connections * _CONNECTION_BYTES,
    )


def find_shortages(worst: WorstCase) -> Iterator[str]:
    """Say what there is too little of."""
    if 0 <= worst.descriptors_allowed < worst.descriptors:
        yield (
            f"a worker may need {worst.descriptors} descriptors and may have {worst.descriptors_allowed}; "
            "raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE= of systemd), or lower threads"
        )


def render_worst_case(worst: WorstCase) -> Iterator[str]:
    """Write it as lines."""
    allowed = "any number" if worst.descriptors_allowed < 0 else str(worst.descriptors_allowed)
    yield f"worst case: {worst.connections} connections at a time"
    yield f"worst case: {worst.descriptors} descriptors in each worker, which may have {allowed}"
    if worst.memory_bytes is not None:
        yield f"worst case: {worst.memory_bytes / (1 << 20):.0f} MiB of memory, and what handlers keep"
