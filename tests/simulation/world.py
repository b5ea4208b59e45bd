"""A small pretend machine in virtual time, with the real supervisor as its master.

The master hears what is said a little later, or much later if it sleeps; it performs the supervisor's orders honestly.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from prefork.policy import actions, events
from prefork.policy.fleet import FleetSettings
from prefork.policy.supervisor import Supervisor
from tests.simulation.kernel import Kernel, Odds
from tests.simulation.processes import Process
from tests.simulation.record import require
from tests.simulation.watch import Watch

TOO_MANY_HANDLINGS = 20_000


class World(Kernel):
    def __init__(self, rng: random.Random, settings: FleetSettings, odds: Odds) -> None:
        super().__init__(rng, settings, odds)
        self.supervisor = Supervisor(settings, rng.random)
        self.watch = Watch(self)
        self.asleep_until = -math.inf
        self.exit_code: int | None = None
        self.unheard = 0  # what was said and has not reached the master
        self._end = math.inf
        self._handlings = 0

    def tell(self, event: events.Event, process: Process | None = None) -> None:
        """Let the master hear it soon, but not before what the same process said earlier."""
        arrival = self.now + self.rng.random() * 0.005
        if process is not None:
            arrival = process.told_until = max(arrival, process.told_until)
        self.unheard += 1
        self.plan(arrival, lambda: self._deliver(event))

    def freeze(self, length: float) -> None:
        """Nobody runs for a while, neither the master nor anybody else; only the clock does."""
        self.asleep_until += length
        for process in self.processes.values():
            process.told_until += length
            if process.beats_since <= self.now:
                process.stop_beating(self.now, again_at=self.now + length + self.rng.random() * 0.4)
            else:
                process.beats_since += length
        self._end += length
        self.postpone_everything(length)

    def run(self, until: Callable[[], bool], limit: float) -> bool:
        """Let things happen for at most `limit` seconds; return whether `until` came true."""
        self._end = self.now + limit
        while not until():
            if self.exit_code is not None:
                return until()
            timer = max(self.supervisor.deadline(), self.asleep_until) + self.rng.random() * 0.002
            if min(timer, self.next_due) > self._end:
                self.now = self._end
                return until()
            if self.next_due <= timer:
                self.do_next()
            else:
                self.now = max(self.now, timer)
                if self.supervisor.load_due <= self.now:
                    self._deliver(events.LoadRead(self.read_loads(), self.queued))
                beats = {each.number: each.last_beat(self.now) for each in self.processes.values() if each.alive}
                late = {
                    each.number: "a handler is late" for each in self.processes.values() if each.alive and each.late
                }
                self._deliver(events.HeartbeatsRead(beats))
                self._deliver(events.OverdueRead(late))
                self._deliver(events.TimePassed())
        return True

    def _deliver(self, event: events.Event) -> None:
        if self.now < self.asleep_until:
            self.plan(self.asleep_until, lambda: self._deliver(event))
            return
        if self.exit_code is not None:
            return
        read = events.HeartbeatsRead | events.OverdueRead | events.LoadRead | events.TimePassed
        self.unheard -= not isinstance(event, read)
        self._handlings += 1
        require(self._handlings <= TOO_MANY_HANDLINGS, "the master comes to rest")
        orders = self.supervisor.handle(event, self.now)
        self.watch.heard(event)
        for action in orders:
            self.watch.ordered(action)
            self._perform(action)
        self.watch.handled(event, orders)

    def _perform(self, action: actions.Action) -> None:
        match action:
            case actions.PrepareGeneration(number):
                self.prepare(number)
            case actions.StartMold(number, preload):
                self.start_mold(number, preload)
            case actions.Spawn() | actions.Drain() | actions.Dump() | actions.Kill():
                self._order_worker(action)
            case actions.ReleaseGeneration(number):
                self.end_mold(number)
            case actions.StartSuccessor() | actions.EndSuccessor():
                self.obey_upgrade(action)
            case actions.Exit(code):
                self.exit_code = code

    def _order_worker(self, action: actions.WorkerAction) -> None:
        match action:
            case actions.Spawn(number, slot, generation):
                self.spawn(number, slot, generation)
            case actions.Drain(number, seconds):
                process = self.processes.get(number)
                if process is not None and process.alive:
                    self.at(self.rng.random() * 0.003, lambda: self.obey_drain(process, seconds))
            case actions.Dump(number):
                self.dump(self.processes[number])
            case actions.Kill(number):
                self.kill(self.processes[number])
