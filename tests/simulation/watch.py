"""Looks at everything that is said and ordered, and holds it to the laws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefork.policy import actions, events
from prefork.policy.fleet import WorkerState
from tests.simulation import generation_laws, upgrade_laws, worker_laws
from tests.simulation.record import Record, require

if TYPE_CHECKING:
    from tests.simulation.world import World


class Watch:
    def __init__(self, world: World) -> None:
        self.world = world
        self.record = Record()
        self.log: list[tuple[float, object]] = []
        self.exited = False
        self.orders = 0  # without the confessions of having overslept
        self._second = 0
        self._promptings = 0

    def heard(self, event: events.Event) -> None:
        self.log.append((self.world.now, event))
        self.record.hear(event, self.world.now)

    def ordered(self, action: actions.Action) -> None:
        self.log.append((self.world.now, action))
        self.orders += not (isinstance(action, actions.Report) and action.subject == "deadlines moved")
        require(not self.exited, "nothing is ordered after Exit")
        require(len(action.reason) > 3, "every action has its reason")
        match action:
            case actions.PrepareGeneration():
                generation_laws.check_prepare(self.record, action)
            case actions.StartMold():
                generation_laws.check_start_mold(self.record, action)
            case actions.Spawn() | actions.Drain() | actions.Dump() | actions.Kill():
                worker_laws.check(self.world, self.record, action)
            case actions.ReleaseGeneration():
                generation_laws.check_release(self.record, action)
            case actions.StartSuccessor() | actions.EndSuccessor():
                upgrade_laws.check_successor(self.record, action)
            case actions.Report():
                generation_laws.check_report(self.world, self.record, action)
            case actions.Exit():
                generation_laws.check_exit(self.record, action)
        self.exited = isinstance(action, actions.Exit)

    def handled(self, event: events.Event, orders: Sequence[actions.Action]) -> None:
        """Check what must hold after each event, once everything ordered because of it is known."""
        supervisor = self.world.supervisor
        require(not supervisor._decide(), "a second look at the same moment orders nothing")
        if self.exited:
            return
        if isinstance(event, events.TimePassed):
            require(not supervisor.handle(event, self.world.now), "time that did not pass changes nothing")
            require(supervisor.deadline() > self.world.now, "a deadline lies in the future")
            self._check_rest(orders)
        if isinstance(event, events.WorkerExited):
            self._check_replacement(event.number, orders)
        self._check_beliefs()
        self._check_readings()
        self.record.wanted = supervisor.wanted

    def _check_rest(self, orders: Sequence[actions.Action]) -> None:
        """The clock alone may prompt the supervisor now and then, not over and over."""
        if int(self.world.now) != self._second:
            self._second, self._promptings = int(self.world.now), 0
        if not orders:
            self._promptings += 1
            require(self._promptings <= 10 + 4 * len(self.record.workers), "the clock does not run hot")

    def _check_replacement(self, number: int, orders: Sequence[actions.Action]) -> None:
        """In an otherwise sound fleet, the first successor of a worker that has served does not wait."""
        record, now = self.record, self.world.now
        lost, current = record.workers.get(number), record.generations[record.current]
        undisturbed = all(each.gone or each.ready for each in record.workers.values())
        undisturbed &= all(each.outcome != "" for each in record.generations.values())
        undisturbed &= not any(current.failed_starts.values()) and current.mold_ready and not record.stopping
        if lost is None or lost.generation != record.current or now - lost.ready_at < 1.0 or not undisturbed:
            return
        ready = record.ready_workers()
        spawned = any(isinstance(order, actions.Spawn) for order in orders)
        require(spawned or ready >= self.world.supervisor.wanted, "who has served is replaced at once")

    def _check_readings(self) -> None:
        record, supervisor = self.record, self.world.supervisor
        needed = not record.stopping and self.world.settings[record.current].needs_load
        require(needed or supervisor.load_due == math.inf, "the load is read only if a setting needs it")

    def _check_beliefs(self) -> None:
        supervisor, record = self.world.supervisor, self.record
        require(not (record.drained and supervisor.ready), "who is drained is not ready")
        require(supervisor.generation == record.current, "the current generation changes with its report")
        believed = supervisor._fleet.upgrade is not None
        require(
            believed == (record.successor == "starting"), "a successor is waited for until it serves or is given up"
        )
        for generation in record.generations.values():
            require(not generation.doomed or generation.outcome != "" or record.stopping, "a failure ends a reload")
        for worker in supervisor.workers():
            known = record.workers[worker.number]
            require(not known.gone, "who is gone is forgotten")
            require(worker.state is not WorkerState.SERVING or known.ready, "who is believed to serve has said so")
