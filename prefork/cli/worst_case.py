"""What a server can need of the machine when all its threads are busy: known before it is started."""

import math
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass

from prefork.config.settings import Settings

_OWN_DESCRIPTORS = 16  # of a worker, beside its listeners and connections: channel, log, wake-ups, what Python has
_CONNECTION_BYTES = 28 << 10  # a thread that has been at work, and a socket with a buffered file
_PARKED_BYTES = 6 << 10  # one that is idle
# What TLS adds to each, measured with OpenSSL 3: its state, and buffers that an idle connection gives back.
_TLS_BYTES = 48 << 10
_PARKED_TLS_BYTES = 16 << 10
_OTHER_PROCESSES = 2  # the master and the mold


@dataclass(frozen=True, slots=True)
class WorstCase:
    """Of all workers, with a replacement for each that they may replace at a time (surge).

    What handlers open and keep for themselves comes on top.
    """

    connections: int | None
    """None where only the descriptors bound them."""
    descriptors: int
    """Of one worker; without those of the connections that nothing bounds."""
    descriptors_allowed: int
    """The hard RLIMIT_NOFILE of this process, which workers would inherit and make their own; -1 is no limit."""
    memory_bytes: int | None
    """None where /proc does not tell, or where nothing bounds the connections."""
    unbounded: str = ""
    """Why nothing but the descriptors bounds the connections, if so."""
    advice: str = ""
    """What would bound them."""


@dataclass(frozen=True, slots=True)
class OwnLoop:
    """How a server that is not served by our pool takes connections."""

    at_a_time: int | None
    """None if that many as come, or as its own code likes."""
    forks: bool = False
    why: str = ""
    """Why there is no number."""


def find_worst_case(settings: Settings, parked: bool) -> WorstCase:
    """Calculate it for our pool; `parked` says whether an idle connection holds no thread.

    The application has been imported by this process, so its memory is known.
    """
    limit = settings.limit_connections or math.inf
    busy = int(min(_most_workers(settings) * settings.threads, limit))
    connections = busy if not parked else settings.limit_connections or None
    # Those that are parked may all be with one worker.
    of_one = connections if parked and connections else min(settings.threads, busy)
    return WorstCase(
        connections=connections,
        descriptors=_find_descriptors(settings, of_one),
        descriptors_allowed=_find_descriptors_allowed(),
        memory_bytes=None if connections is None else _find_memory(settings, busy, connections - busy),
        unbounded="idle connections are parked" if connections is None else "",
        advice="limit_connections would bound connections and memory" if connections is None else "",
    )


def find_worst_case_of_own_loop(settings: Settings, loop: OwnLoop, servers: int) -> WorstCase:
    """Calculate it for so many servers in each worker that take connections as they like; none of our limits holds."""
    if loop.at_a_time is None:
        allowed, needed = _find_descriptors_allowed(), _find_descriptors(settings, 0)
        return WorstCase(None, needed, allowed, None, loop.why, "no limit of prefork bounds connections and memory")
    of_one = servers * loop.at_a_time
    busy = _most_workers(settings) * of_one
    return WorstCase(
        connections=busy,
        descriptors=_find_descriptors(settings, of_one),
        descriptors_allowed=_find_descriptors_allowed(),
        memory_bytes=_find_memory(settings, busy, 0, children=busy if loop.forks else 0),
    )


def find_own_loop(found: object) -> OwnLoop:
    """Find out, from the methods of a server or its class, how many connections it takes at a time."""
    import socketserver

    from prefork.serving import base, mixins

    of_class = found if isinstance(found, type) else type(found)
    loop, process = (getattr(of_class, name, None) for name in ("serve_forever", "process_request"))
    bases = (socketserver.BaseServer, base.BaseServer)
    if loop in [one.serve_forever for one in bases]:
        if process in [one.process_request for one in bases]:
            return OwnLoop(1)
        if process in [one.process_request for one in (socketserver.ThreadingMixIn, mixins.ThreadingMixIn)]:
            return OwnLoop(None, why="each connection has a thread of its own")
        if process in [one.process_request for one in (socketserver.ForkingMixIn, mixins.ForkingMixIn)]:
            return OwnLoop(found.max_children, forks=True)  # type: ignore[attr-defined]  # the mix-in has it
    return OwnLoop(None, why="its own code decides how many connections it takes")


def _find_descriptors(settings: Settings, connections: int) -> int:
    # A worker has a copy of each listener beside the one that it inherits.
    return _OWN_DESCRIPTORS + 2 * sum(len(address.members()) for address in settings.bind) + connections


def _find_descriptors_allowed() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return -1 if hard == resource.RLIM_INFINITY else hard


def _find_memory(settings: Settings, busy: int, parked: int, children: int = 0) -> int | None:
    from prefork.system.usage import resident_bytes

    resident = resident_bytes(os.getpid())
    if resident is None:
        return None
    has_pages = settings.admin != "off" or settings.agent != "off"
    processes = _most_workers(settings) + children + _OTHER_PROCESSES + has_pages + settings.reload
    # Forked processes share what none of them writes; in the worst case each has written everywhere.
    return resident * processes + _find_bytes_of_connections(settings, busy, parked)


def _find_bytes_of_connections(settings: Settings, busy: int, parked: int) -> int:
    streams = (address for address in settings.bind if address.kind not in ("udp", "unixgram"))
    encrypted = any(settings.speaks_tls(address) for address in streams)
    of_busy = _CONNECTION_BYTES + (_TLS_BYTES if encrypted else 0)
    of_parked = _PARKED_BYTES + (_PARKED_TLS_BYTES if encrypted else 0)
    return busy * of_busy + parked * of_parked


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
        yield f"worst case: {worst.unbounded}, until a worker has no descriptor left; it may have {allowed}"
        yield f"worst case: {worst.advice}"
        return
    yield f"worst case: {worst.connections} connections at a time"
    yield f"worst case: {worst.descriptors} descriptors in each worker, which may have {allowed}"
    if worst.memory_bytes is not None:
        yield f"worst case: {worst.memory_bytes / (1 << 20):.0f} MiB of memory, and what handlers keep"
