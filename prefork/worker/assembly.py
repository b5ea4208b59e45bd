"""Servers put behind services: those with our pool together, each other one alone behind its gate."""

from __future__ import annotations

import logging
import socketserver
import threading

from prefork.serving.messages import may_be_handed_over
from prefork.serving.mixins import ForkingMixIn
from prefork.serving.pool import Pool
from prefork.serving.poolthread import note_refused
from prefork.serving.threadpool import ThreadPoolMixIn
from prefork.worker import reporting, waking
from prefork.worker.access import FORKED, Record, RecordingActivity, watch, watch_refusals
from prefork.worker.connections import Connections
from prefork.worker.gated import GatedDatagrams, GatedStream, count_datagrams
from prefork.worker.services import ForeignService, PooledService
from prefork.worker.shared import Shared, SharedDatagrams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from prefork.config.settings import Settings
    from prefork.ipc.ferry import Ferry
    from prefork.serving.activity import Activity
    from prefork.serving.limits import Admission
    from prefork.worker.adoption import Adoption
    from prefork.worker.gate import Gate
    from prefork.worker.moving import Movement
    from prefork.worker.services import Service


log = logging.getLogger("prefork.worker")

_UNLIMITED = (
    "limits not applied: %s accepts with its own code, which limit_connections, limit_per_peer and idle_timeout do not "
    "reach; serve its handler class to have them"
)
FORKING = (socketserver.ForkingMixIn, ForkingMixIn)


class Assembly:
    """Puts servers behind services: those with our pool together, each other one alone."""

    def __init__(
        self,
        settings: Settings,
        activity: Activity,
        admission: Admission | None = None,
        ferry: Ferry | None = None,
        slot: int = 0,
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._ferry = ferry
        self._slot = slot
        self._activity = activity
        self._foreign_row = settings.threads
        self._records_access = settings.access_log != "off"
        self._lock = threading.RLock()  # of the row that the foreign servers share

    def introduce(self, worker: object, server: Any) -> None:
        """Give the server what handlers may ask of it; never hide a name of its own."""
        offered = {"worker": worker, "settings": self._settings, "draining": False, "tag": self._tag}
        offered["extend_deadline"] = _extend_nothing
        for name, value in offered.items():
            if not hasattr(server, name):
                setattr(server, name, value)

    def assemble(self, adopted: Sequence[tuple[Any, Gate]], adoption: Adoption) -> list[Service]:
        pooled = [(server, gate) for server, gate in adopted if is_pooled(server)]
        foreign = [(server, gate) for server, gate in adopted if not is_pooled(server)]
        for server, gate in pooled:
            adoption.set_kind(server, gate, SharedDatagrams if gate.datagrams else Shared)
            watch_refusals(server, lambda request: note_refused())
        if foreign and (self._admission is not None or self._settings.idle_timeout):
            names = ", ".join(sorted({type(server).__qualname__ for server, _ in foreign}))
            log.warning(_UNLIMITED, names)
        connections = [self._connections_of(server, gate) for server, gate in foreign]
        for (server, gate), its_connections in zip(foreign, connections, strict=True):
            adoption.set_kind(server, gate, GatedDatagrams if gate.datagrams else GatedStream)
            watch_refusals(server, its_connections.note_refused)
            if gate.datagrams:
                count_datagrams(server, gate, its_connections)
        for _, gate in adopted:
            gate.prepare()
        reporter = reporting.Reporter(adopted)
        self._install(reporter, connections)
        services: list[Service] = [
            ForeignService(server, gate, its_connections)
            for (server, gate), its_connections in zip(foreign, connections, strict=True)
        ]
        return [PooledService(pooled, self._make_pool(pooled, reporter)), *services] if pooled else services

    def _make_pool(self, pooled: Sequence[tuple[Any, Gate]], reporter: reporting.Reporter) -> Pool:
        activity = self._activity
        if self._records_access:
            activity = recording = RecordingActivity(activity, {gate.index: gate.name for _, gate in pooled})
            for server, _ in pooled:
                watch(server, recording)
        return Pool(
            self._settings.threads,
            activity,
            idle_timeout=self._settings.idle_timeout,
            admission=self._admission,
            report=reporter.report,
            ferry=self._make_movement(pooled),
        )

    def _make_movement(self, pooled: Sequence[tuple[Any, Gate]]) -> Movement | None:
        """Let connections go from one worker to another, if the handlers of a server allow it."""
        servers = {gate.name: (server, gate.index) for server, gate in pooled}
        if self._ferry is None or not any(may_be_handed_over(server.RequestHandlerClass) for server, _ in pooled):
            return None
        from prefork.worker.moving import Movement  # nobody else needs it

        return Movement(self._ferry, self._slot, servers)

    def _connections_of(self, server: Any, gate: Gate) -> Connections:
        if not self._records_access:
            return Connections(self._activity, self._foreign_row, self._lock)
        outcome = FORKED if isinstance(server, FORKING) else ""
        return Connections(
            self._activity, self._foreign_row, self._lock, lambda address: Record(gate.name, address, outcome)
        )

    def _install(self, reporter: reporting.Reporter, connections: Sequence[Connections]) -> None:
        def note_failure(client_address: object, client_gone: bool) -> None:
            for its_connections in connections:
                its_connections.note_failure(client_address, client_gone)

        reporter.install(note_failure)
        if connections:
            waking.install()

    def _tag(self, text: str) -> None:
        with self._lock:
            self._activity.tagged(self._foreign_row, text)


def _extend_nothing(seconds: float) -> None:
    """Stand in for `extend_deadline`: the handlers of a foreign server have no deadline."""


def is_pooled(server: object) -> bool:
    """Say whether it has our pool and our loop, which then need not run."""
    return (
        isinstance(server, ThreadPoolMixIn)
        and type(server).serve_forever is ThreadPoolMixIn.serve_forever
        and "serve_forever" not in vars(server)
    )
