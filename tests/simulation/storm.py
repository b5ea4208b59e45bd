"""A storm: a server's life under random misfortune and impatient operators, then a calm, then a stop."""

from __future__ import annotations

import random
from dataclasses import fields

from prefork.policy import events
from prefork.policy.fleet import FleetSettings
from tests.simulation.kernel import Odds
from tests.simulation.record import Violation, require
from tests.simulation.world import World

RECOVERY = 150.0  # two longest back-offs after each other, with everything that may have to be waited for between
QUIET = 3.0


def run_storm(seed: int) -> World:
    """Run the storm of this seed. A Violation has the seed and the whole log in its text."""
    storm = Storm(seed)
    try:
        storm.run()
    except Exception as problem:
        lines = [f"{time:10.3f}  {what!r}" for time, what in storm.world.watch.log]
        text = "\n".join([*lines, f"storm {seed} at {storm.world.now:.3f}: {type(problem).__name__}: {problem}"])
        raise Violation(f"{text}\nreplay it with: pytest tests/simulation --storm-seed {seed}") from problem
    return storm.world


class Storm:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World(self.rng, self._draw_settings(), self._draw_odds())
        self.length = self.rng.choice((5.0, 15.0, 40.0, 90.0))

    def run(self) -> None:
        self.world.tell(events.StartRequested())
        self.world.storming = self.rng.random() < 0.25
        if not self.world.storming:
            require(self.world.run(self._recovered, RECOVERY), "what is sound starts")
        self.world.storming = True
        self._plan()
        self.world.run(self._ended, self.length)
        self._end_of_storm()
        if not self._ended() and not self.world.watch.record.stopping:
            require(self.world.run(self._recovered, RECOVERY), "what is sound serves again in bounded time")
            self._expect_quiet()
        self._stop()
        require(not any(each.alive for each in self.world.processes.values()), "nobody outlives the master")

    def _draw_settings(self) -> FleetSettings:
        pick = self.rng.choice
        workers = pick((1, 1, 2, 2, 3, 4, 6))
        adaptive = self.rng.random() < 0.3
        return FleetSettings(
            workers=workers,
            surge=pick((1, 1, 1, 2, 3)),
            boot_timeout=pick((2.0, 5.0)),
            heartbeat_timeout=pick((2.0, 5.0)),
            handler_timeout=pick((0.0, 0.0, 3.0)),
            drain_delay=pick((0.0, 0.0, 1.0)),
            drain_timeout=pick((0.0, 1.0, 3.0)),
            kill_timeout=pick((0.5, 1.0)),
            canary_time=pick((0.0, 0.5, 1.0, 3.0)),
            preload=pick(("auto", "always", "never")),
            max_requests=pick((0, 0, 0, 20, 300)),
            max_requests_jitter=pick((0, 100)),
            max_rss=pick((0, 0, 0, 100)),
            max_age=pick((0.0, 0.0, 0.0, 4.0)),
            min_workers=max(1, workers - pick((0, 1, 3))) if adaptive else 0,
            max_workers=workers + pick((0, 1, 2)) if adaptive else 0,
        )

    def _draw_odds(self) -> Odds:
        """Most misfortunes do not happen at all in most storms, so that each is seen alone and with each other."""
        odds = Odds()
        wildness = self.rng.choice((0.1, 0.3, 0.6))
        for field in fields(odds):
            if self.rng.random() < wildness:
                setattr(odds, field.name, self.rng.choice((0.05, 0.2, 0.6)))
        return odds

    def _plan(self) -> None:
        rng = self.rng
        for plan, most in (
            (self._plan_reloads, 4),
            (self._plan_scaling, 3),
            (self._plan_accidents, 4),
            (self._plan_sleep, 2),
            (self._plan_stale_facts, 2),
            (self._plan_demand, 5),
            (self._plan_recycling, 2),
            (self._plan_drains, 2),
        ):
            for _ in range(rng.randint(0, most) if rng.random() < 0.7 else 0):
                plan(rng.random() * self.length)
        if rng.random() < 0.3:
            self._plan_stops(rng.random() * self.length)
        if rng.random() < 0.3:
            self._plan_upgrades(rng.random() * self.length)

    def _plan_reloads(self, start: float) -> None:
        for _ in range(self.rng.choice((1, 1, 1, 2, 5, 12))):
            self.world.in_storm(start, lambda: self.world.tell(events.ReloadRequested("SIGHUP")))
            start += self.rng.random() ** 2 * self.rng.choice((0.01, 0.5, 3.0))

    def _plan_scaling(self, start: float) -> None:
        by = self.rng.choice((-2, -1, 1, 2))
        workers = self.rng.choice((0, 1, 2, 3, 5, 4000))
        request = self.rng.choice((events.ScaleChanged(by, "SIGTTIN"), events.ScaleRequested(workers, "uid 0")))
        self.world.in_storm(start, lambda: self.world.tell(request))

    def _plan_demand(self, start: float) -> None:
        busy, queued = self.rng.choice((0.05, 0.4, 0.9)), self.rng.choice((0, 0, 1, 20, 300))
        self.world.in_storm(start, lambda: self._change_demand(busy, queued))

    def _plan_recycling(self, start: float) -> None:
        slot = self.rng.choice((None, None, 0, 1, 9))
        self.world.in_storm(start, lambda: self.world.tell(events.RecycleRequested(slot, "uid 0")))

    def _plan_drains(self, start: float) -> None:
        self.world.in_storm(start, lambda: self.world.tell(events.DrainRequested("uid 0")))
        end = start + self.rng.random() * 5
        self.world.in_storm(end, lambda: self.world.tell(events.UndrainRequested("uid 0")))

    def _plan_accidents(self, start: float) -> None:
        accident = self.rng.choice((self._kill_someone, self._hang_someone, self._term_someone, self._kill_a_mold))
        for _ in range(self.rng.choice((1, 1, 3))):
            self.world.in_storm(start, accident)

    def _plan_sleep(self, start: float) -> None:
        length = self.rng.choice((0.5, 3.0, 20.0))
        if self.rng.random() < 0.5:
            self.world.in_storm(start, lambda: self.world.freeze(length))
        else:
            self.world.in_storm(start, lambda: self._put_the_master_to_sleep(length))

    def _plan_stale_facts(self, start: float) -> None:
        self.world.in_storm(start, self._say_something_stale)

    def _plan_stops(self, start: float) -> None:
        for _ in range(self.rng.choice((1, 1, 2, 3))):
            request = events.StopRequested(self.rng.random() < 0.3, "a signal")
            self.world.in_storm(start, lambda request=request: self.world.tell(request))  # type: ignore[misc]
            start += self.rng.random() ** 2 * 3

    def _plan_upgrades(self, start: float) -> None:
        for _ in range(self.rng.choice((1, 1, 2))):
            self.world.in_storm(start, lambda: self.world.tell(events.UpgradeRequested("SIGUSR2")))
            start += self.rng.random() ** 2 * 3

    def _change_demand(self, busy: float, queued: int) -> None:
        self.world.busy, self.world.queued = busy, queued

    def _kill_someone(self) -> None:
        if alive := [each for each in self.world.processes.values() if each.alive]:
            self.world.end(self.rng.choice(alive), "killed by SIGKILL")

    def _hang_someone(self) -> None:
        if alive := [each for each in self.world.processes.values() if each.alive and not each.hung]:
            self.world.hang(self.rng.choice(alive))

    def _term_someone(self) -> None:
        if ready := [each for each in self.world.processes.values() if each.accepting]:
            self.world.leave(self.rng.choice(ready))

    def _kill_a_mold(self) -> None:
        if molds := [each for each in self.world.molds.values() if each.alive]:
            self.world.kill_mold(self.rng.choice(molds))

    def _say_something_stale(self) -> None:
        """Say something true about a worker or a generation that is long gone, or was never heard of."""
        gone = [number for number, each in self.world.watch.record.workers.items() if each.gone]
        released = [number for number, each in self.world.watch.record.generations.items() if each.released]
        number = self.rng.choice([*gone, 9_999_999])
        generation = self.rng.choice([*released, 9_999_999])
        stale: list[events.Event] = [
            events.WorkerReady(number),
            events.WorkerStoppedAccepting(number),
            events.WorkerStuck(number, "a handler does not end"),
            events.WorkerFailed(number, "it could not boot"),
            events.WorkerExited(number, "exited with code 0"),
            events.WorkerBroke(number, "its message has no meaning"),
            events.SpawnFailed(number, "cannot fork"),
            events.GenerationPrepared(generation, self.world.settings[1]),
            events.GenerationFailed(generation, "the configuration is broken"),
            events.MoldReady(generation),
            events.MoldFailed(generation, "ImportError"),
            events.MoldUnsafe(generation, "a thread is alive"),
            events.MoldExited(generation, "exited with code 1"),
            events.StartRequested(),
            *([] if self.world.watch.record.successor else [events.SuccessorFailed("exit status 1")]),
        ]
        self.world.tell(self.rng.choice(stale))

    def _put_the_master_to_sleep(self, length: float) -> None:
        self.world.asleep_until = max(self.world.asleep_until, self.world.now + length)

    def _ended(self) -> bool:
        return self.world.exit_code is not None

    def _end_of_storm(self) -> None:
        self.world.storming = False
        self._change_demand(busy=0.4, queued=0)
        self.world.unsound.clear()
        # A drain may be on its way still, or wait until the master is awake: what ends it must be heard after it.
        heard = self.world.run(lambda: self._ended() or self.world.unheard == 0, RECOVERY)
        require(heard, "the master hears everything in bounded time")
        self.world.tell(events.UndrainRequested("uid 0"))

    def _recovered(self) -> bool:
        """The right number of healthy workers of the current generation serves, and nobody else is left."""
        if self._ended():
            return True
        supervisor = self.world.supervisor
        alive = [each for each in self.world.processes.values() if each.alive]
        mold = self.world.molds.get(supervisor.generation)
        return (
            self.world.unheard == 0
            and self.world.watch.record.successor == ""
            and supervisor.state == "serving"
            and supervisor.ready
            and len(alive) == len(supervisor.workers()) == supervisor.wanted
            and all(each.state == "serving" and not each.worn for each in supervisor.workers())
            and all(each.healthy and each.generation == supervisor.generation for each in alive)
            and mold is not None
            and mold.alive
        )

    def _expect_quiet(self) -> None:
        settings = self.world.settings[self.world.supervisor.generation]
        if settings.max_age or settings.max_requests or settings.max_rss:
            return  # somebody may wear out at any moment
        said = self.world.watch.orders
        self.world.run(self._ended, QUIET)
        require(said == self.world.watch.orders, "a sound fleet is left alone")

    def _stop(self) -> None:
        world = self.world
        settings = world.settings[max(world.settings)]
        if not self._ended() and not world.watch.record.stopping:
            world.tell(events.StopRequested(self.rng.random() < 0.3, "SIGTERM"))
        patience = settings.drain_delay + settings.drain_timeout + 2 + settings.boot_timeout + settings.kill_timeout
        asleep = max(0.0, world.asleep_until - world.now)
        require(world.run(self._ended, asleep + patience + 5.0), "a stop ends in bounded time")
