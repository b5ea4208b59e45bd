"""The lives of the pretend molds and workers: how they load, boot, serve, drain and end, and what they say of it.

What they say is true and comes in the order in which each of them said it. Misfortune is drawn from the seed while
`storming`; afterwards nothing new goes wrong, but what hangs goes on hanging until somebody deals with it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from prefork.policy import actions, events
from prefork.policy.fleet import FleetSettings
from tests.simulation.processes import Mold, Process
from tests.simulation.timeline import Timeline


@dataclass(slots=True, kw_only=True)
class Odds:
    """How likely each misfortune is, from 0 to 1, for a worker or mold of sound code. Unsound code has its own."""

    boot_failure: float = 0.0
    boot_hang: float = 0.0
    early_crash: float = 0.0
    late_crash: float = 0.0
    hang: float = 0.0
    held: float = 0.0
    stuck: float = 0.0
    nonsense: float = 0.0
    leaves: float = 0.0
    slow_drain: float = 0.0
    survives_kill: float = 0.0
    fork_failure: float = 0.0
    mold_failure: float = 0.0
    mold_hang: float = 0.0
    mold_unsafe: float = 0.0
    mold_death: float = 0.0
    preparation_failure: float = 0.0
    new_worker_count: float = 0.0
    unsound_generation: float = 0.0
    successor_failure: float = 0.0
    successor_hang: float = 0.0
    leak: float = 0.0


class Kernel(Timeline):
    def __init__(self, rng: random.Random, settings: FleetSettings, odds: Odds) -> None:
        super().__init__(now=1000.0 * rng.random())
        self.rng = rng
        self.odds = odds
        self.storming = True
        self.settings = {1: settings}
        self.processes: dict[int, Process] = {}
        self.molds: dict[int, Mold] = {}
        self.successors = 0  # how many were started
        self.ended_successors: set[int] = set()
        self.busy = 0.4  # what the clients ask for: neither more nor fewer workers than there are
        self.queued = 0
        self.unsound: set[int] = {1} if self.happens(odds.unsound_generation / 2) else set()

    def obey_upgrade(self, order: actions.StartSuccessor | actions.EndSuccessor) -> None:
        if isinstance(order, actions.EndSuccessor):
            self.ended_successors.add(self.successors)
            self.at(self.rng.random() * 0.01, lambda: self.tell(events.SuccessorFailed("killed by SIGKILL")))
            return
        self.successors += 1
        number, delay = self.successors, self.rng.random() ** 2 * 3
        if self.happens(self.odds.successor_hang):
            return
        failed = events.SuccessorFailed("exit status 3")
        said = failed if self.happens(self.odds.successor_failure) else events.SuccessorReady()
        self.at(delay, lambda: self.tell(said) if number not in self.ended_successors else None)

    def happens(self, probability: float) -> bool:
        return self.storming and self.rng.random() < probability

    def in_storm(self, delay: float, misfortune: Callable[[], None]) -> None:
        """Plan a misfortune that is called off if the storm is over by then."""
        self.at(delay, lambda: misfortune() if self.storming else None)

    def tell(self, event: events.Event, process: Process | None = None) -> None:
        """Let the master hear it soon, but not before what the same process said earlier."""
        raise NotImplementedError

    def prepare(self, number: int) -> None:
        if self.happens(self.odds.preparation_failure):
            self.tell(events.GenerationFailed(number, "the configuration is broken"))
            return
        settings = self.settings[max(self.settings)]
        if self.happens(self.odds.new_worker_count):
            workers = self.rng.randint(1, 4)
            bounds = (min(workers, settings.least_workers), max(workers, settings.most_workers))
            settings = replace(settings, workers=workers)
            if settings.adaptive:
                settings = replace(settings, min_workers=bounds[0], max_workers=bounds[1])
        if self.happens(self.odds.unsound_generation):
            self.unsound.add(number)
        self.settings[number] = settings
        self.tell(events.GenerationPrepared(number, settings))

    def start_mold(self, number: int, preload: str) -> None:
        self.end_mold(number)
        mold = self.molds[number] = Mold(number, self.settings[number])
        unsound = number in self.unsound and self.happens(0.3)
        if self.happens(self.odds.mold_hang):
            return
        load_time = self.rng.random() ** 2 * 1.5
        if unsound or self.happens(self.odds.mold_failure):
            self.at(load_time, lambda: self._fail_mold(mold))
        elif preload == "auto" and self.happens(self.odds.mold_unsafe):
            self.at(load_time, lambda: self._find_unsafe(mold))
        else:
            self.at(load_time, lambda: self._finish_mold(mold))

    def _find_unsafe(self, mold: Mold) -> None:
        if mold.alive:
            self.tell(events.MoldUnsafe(mold.generation, "a thread is alive"))

    def _fail_mold(self, mold: Mold) -> None:
        if mold.alive and self.rng.random() < 0.5:
            self.tell(events.MoldFailed(mold.generation, "ImportError: no module named app", "Traceback"))
        self.kill_mold(mold)

    def _finish_mold(self, mold: Mold) -> None:
        if not mold.alive:
            return
        mold.loaded = True
        self.tell(events.MoldReady(mold.generation))
        if self.happens(self.odds.mold_death):
            self.in_storm(0.01 + self.rng.random() ** 2 * 10, lambda: self.kill_mold(mold))

    def kill_mold(self, mold: Mold) -> None:
        if mold.alive:
            mold.alive = False
            self.at(0.006, lambda: self.tell(events.MoldExited(mold.generation, "killed by SIGKILL")))

    def end_mold(self, number: int) -> None:
        if number in self.molds:
            self.molds.pop(number).alive = False

    def spawn(self, number: int, slot: int, generation: int) -> None:
        mold = self.molds.get(generation)
        process = self.processes[number] = Process(number, slot, generation, self.now)
        if mold is None or not mold.alive or self.happens(self.odds.fork_failure):
            process.alive = False
            self.tell(events.SpawnFailed(number, "cannot fork: resource temporarily unavailable"), process)
            return
        self._begin_boot(process, self.settings[generation])

    def _begin_boot(self, process: Process, settings: FleetSettings) -> None:
        unsound = process.generation in self.unsound and self.happens(0.7)
        trouble = self.rng.random() if unsound else 1.0
        boot_time = self.rng.random() ** 3 * settings.boot_timeout * 0.9
        if trouble < 0.3 or self.happens(self.odds.boot_failure):
            self.at(boot_time, lambda: self._fail_boot(process))
        elif trouble < 0.4 or self.happens(self.odds.boot_hang):
            process.hung = True
        else:
            crashes = 0.4 <= trouble < 0.8 or self.happens(self.odds.early_crash)
            hangs = 0.8 <= trouble < 1.0 or self.happens(self.odds.hang)
            self.at(boot_time, lambda: self._finish_boot(process, crashes, hangs))

    def read_loads(self) -> dict[int, events.WorkerLoad]:
        """What the scoreboard and /proc say of the living workers."""
        loads = {}
        for process in [each for each in self.processes.values() if each.alive]:
            process.served += int(self.busy * 40) if process.accepting else 0
            busy = min(1.0, self.busy * (0.8 + 0.4 * self.rng.random()))
            loads[process.number] = events.WorkerLoad(process.served, busy, rss=200 if process.leaks else 50)
        return loads

    def _fail_boot(self, process: Process) -> None:
        if process.alive and self.rng.random() < 0.5:
            self.tell(events.WorkerFailed(process.number, "ImportError: no module named app", "Traceback"), process)
        self.end(process, "exited with code 1")

    def _finish_boot(self, process: Process, crashes: bool, hangs: bool) -> None:
        if not process.alive or process.hung:
            return
        process.ready = True
        process.leaks = self.happens(self.odds.leak)
        process.beats_since = self.now
        self.tell(events.WorkerReady(process.number, takes_over=True), process)
        if process.drained_at < math.inf:
            self._begin_drain(process)
            return
        later, settings = self.rng.random, self.settings[process.generation]
        if crashes:
            self.in_storm(later() * 0.9, lambda: self.end(process, "killed by SIGSEGV"))
        elif hangs:
            self.in_storm(later() ** 2 * 5, lambda: self.hang(process))
        elif self.happens(self.odds.late_crash):
            self.in_storm(later() * 10, lambda: self.end(process, "exited with code 3"))
        elif self.happens(self.odds.nonsense):
            self.in_storm(later() ** 2 * 5, lambda: self.talk_nonsense(process))
        elif settings.handler_timeout and self.happens(self.odds.held):
            self.in_storm(later() ** 2 * 5, lambda: self.hold(process))
        elif settings.handler_timeout and self.happens(self.odds.stuck):
            self.in_storm(later() ** 2 * 5, lambda: self.get_stuck(process))
        elif self.happens(self.odds.leaves):
            self.in_storm(later() ** 2 * 5, lambda: self.leave(process))

    def hang(self, process: Process) -> None:
        if process.alive:
            process.hung = True
            process.stop_beating(self.now)

    def hold(self, process: Process) -> None:
        """Let a handler hold the interpreter for longer than it may."""
        if process.alive:
            process.late = True
            self.hang(process)

    def get_stuck(self, process: Process) -> None:
        if process.accepting and not process.hung and process.drained_at == math.inf:
            process.stuck = True
            self.tell(events.WorkerStuck(process.number, "a handler has served somebody for ever"), process)

    def talk_nonsense(self, process: Process) -> None:
        if process.alive:
            process.broken = True
            self.tell(events.WorkerBroke(process.number, "its message has no meaning"), process)

    def leave(self, process: Process) -> None:
        """Somebody sends a TERM to the worker itself."""
        if process.alive and process.drained_at == math.inf:
            self.obey_drain(process, self.settings[process.generation].drain_timeout)

    def obey_drain(self, process: Process, seconds: float) -> None:
        if not process.alive or process.hung:
            return
        process.drained_at = min(process.drained_at, self.now)
        process.drain_seconds = min(process.drain_seconds, seconds)
        if process.ready:
            self._begin_drain(process)

    def _begin_drain(self, process: Process) -> None:
        if not process.stopped_accepting:
            process.stopped_accepting = True
            self.tell(events.WorkerStoppedAccepting(process.number), process)
        if self.happens(self.odds.slow_drain):
            process.hung = True
            return
        length = min(process.drain_seconds, self.rng.random() ** 4 * 10)
        self.at(length + 0.001, lambda: self.end(process, "exited with code 0"))

    def dump(self, process: Process) -> None:
        process.dumped_at = self.now

    def kill(self, process: Process) -> None:
        if process.kill_sent or not process.alive:
            return
        process.kill_sent = True
        survives = self.happens(self.odds.survives_kill)
        delay = self.rng.random() * (4.0 if survives else 0.005)
        self.at(delay, lambda: self.end(process, "killed by SIGKILL"))

    def end(self, process: Process, how: str) -> None:
        if process.alive:
            process.alive = False
            self.tell(events.WorkerExited(process.number, how), process)
