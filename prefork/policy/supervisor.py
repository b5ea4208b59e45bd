"""The master's brain: events and the time in, actions out. It touches nothing else.

An event only changes what is believed. Then every rule looks at all the beliefs, whatever the event was, and orders
what is missing; it notes its order among the beliefs, so that a second look at the same moment orders nothing. Rules
stand in the order of their importance: after one has ordered something, all are asked again from the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from prefork.policy import events, health, recycling, rollout, scaling, staffing, stopping, upgrade
from prefork.policy.actions import Action, duration
from prefork.policy.announcement import Announcement, State, announce, state_of
from prefork.policy.events import Event
from prefork.policy.fleet import Fleet, FleetSettings, MoldState, ReloadOutcome, Worker, WorkerState, tell_news
from prefork.policy.notes import note_generation, note_scoreboard, note_worker
from prefork.policy.requests import note_request

BEAT_INTERVAL = 0.5
HANDLERS_INTERVAL = 1.0  # between two looks at handlers that may be over their time
MOST_ROUNDS = 1000
OVERSLEPT = 1.0  # later than this, a deadline was missed by us and not by others

Rule = Callable[[Fleet, float], Iterator[Action]]

RULES_OF_SERVING: tuple[Rule, ...] = (
    tell_news,
    health.kill_broken,
    health.kill_overdue,
    health.give_up_late_molds,
    upgrade.give_up_successor,
    upgrade.start_successor,
    rollout.give_up_candidate,
    rollout.begin_reload,
    rollout.start_molds,
    rollout.pass_trial,
    rollout.complete_reload,
    scaling.adapt_number,
    recycling.recycle_worn,
    staffing.drain_needless_starts,
    staffing.drain_surplus,
    staffing.hand_over_late,
    staffing.spawn_missing,
    staffing.spawn_canary,
    staffing.report_ready,
    recycling.report_recycled,
    staffing.report_shortage,
    rollout.release_generations,
)
RULES_OF_STOPPING: tuple[Rule, ...] = (
    tell_news,
    upgrade.give_up_successor,
    stopping.give_up_reload,
    stopping.give_up_recycling,
    stopping.kill_everyone,
    health.kill_broken,
    health.kill_overdue,
    stopping.drain_everyone,
    stopping.hurry_everyone,
    rollout.release_generations,
    stopping.leave,
)


class Supervisor:
    """`chance` draws the jitter of each worker, from 0 to 1; the default is no jitter."""

    def __init__(self, settings: FleetSettings, chance: Callable[[], float] = lambda: 0.0) -> None:
        self._fleet = Fleet(settings, chance)
        self._now = -math.inf
        self._asked = math.inf  # the deadline that was asked for last

    def handle(self, event: Event, now: float) -> list[Action]:
        """Note the event and return what has to be done about everything believed, in this order."""
        if self._fleet.exited:
            return []
        before, self._now = self._now, max(self._now, now)
        self._fleet.waited += self._fleet.waited_between(before, self._now)  # before anything changes the back-offs
        self._forgive_gap()
        self._note(event)
        actions = self._decide()
        self._asked = self.deadline()
        return actions

    def deadline(self) -> float:
        """Return the time at which TimePassed is due at the latest; infinite if nothing is waited for."""
        return min(self._dates(), default=math.inf)

    @property
    def state(self) -> State:
        return state_of(self._fleet)

    @property
    def ready(self) -> bool:
        """Whether new connections are welcome: the start is done, somebody serves, and we neither stop nor drain."""
        fleet = self._fleet
        return fleet.complete and fleet.stop is None and not fleet.draining and bool(fleet.of(WorkerState.SERVING))

    @property
    def draining(self) -> bool:
        """Whether an operator has the server announced as not ready."""
        return self._fleet.draining

    @property
    def load_due(self) -> float:
        """Return when LoadRead is due; infinite if no setting needs it."""
        return self._fleet.load_due if self._fleet.stop is None else math.inf

    @property
    def announcement(self) -> Announcement:
        """What the service manager should believe."""
        return announce(self._fleet)

    @property
    def generation(self) -> int:
        return self._fleet.current.number

    @property
    def candidate(self) -> int | None:
        return None if self._fleet.candidate is None else self._fleet.candidate.number

    @property
    def wanted(self) -> int:
        return self._fleet.wanted

    @property
    def last_reload(self) -> ReloadOutcome | None:
        return self._fleet.last_reload

    @property
    def losses(self) -> Mapping[str, int]:
        """How many workers ended, or had to be ended, by their own fault, by cause."""
        return self._fleet.losses

    @property
    def replaced(self) -> Mapping[str, int]:
        """How many workers were marked to be replaced while they served, for every cause there is."""
        return self._fleet.replaced

    def longest_wait(self, now: float) -> float:
        """Return for how long the back-off of some slot still lasts; 0 if none waits."""
        return max((until - now for until in self._fleet.target.waiting(now).values()), default=0.0)

    def total_wait(self, now: float) -> float:
        """Return for how long slots have stayed empty for a back-off since the start, all slots together."""
        return self._fleet.waited + self._fleet.waited_between(self._now, max(self._now, now))

    def workers(self) -> list[Worker]:
        """Return all living workers in the order of their numbers; to be read only."""
        return list(self._fleet.workers.values())

    def _note(self, event: Event) -> None:
        if isinstance(event, events.Request):
            note_request(self._fleet, event, self._now)
        elif isinstance(event, events.GenerationEvent):
            note_generation(self._fleet, event, self._now)
        elif isinstance(event, events.WorkerEvent):
            note_worker(self._fleet, event, self._now)
        elif isinstance(event, events.UpgradeEvent):
            upgrade.note_upgrade(self._fleet, event, self._now)
        elif isinstance(event, events.ScoreboardEvent):
            note_scoreboard(self._fleet, event, self._now)
        else:
            self._fleet.heard_until = self._now

    def _decide(self) -> list[Action]:
        actions: list[Action] = []
        for _ in range(MOST_ROUNDS):
            orders = self._most_important_orders()
            if not orders:
                return actions
            actions += orders
        raise AssertionError(f"the rules do not come to rest: {actions[-3:]}")

    def _most_important_orders(self) -> list[Action]:
        rules = RULES_OF_SERVING if self._fleet.stop is None else RULES_OF_STOPPING
        for rule in rules:
            if orders := list(rule(self._fleet, self._now)):
                return orders
        return []

    def _forgive_gap(self) -> None:
        """Move everybody's deadline if we were stopped or starved ourselves, and missed ours."""
        late = self._now - self._asked
        if late <= OVERSLEPT:
            return
        moved = late + OVERSLEPT  # who was frozen together with us needs a moment to be heard again
        for worker in self._fleet.workers.values():
            worker.deadline += moved
        for generation in self._fleet.rising():
            generation.deadline += moved
        if self._fleet.upgrade is not None:
            self._fleet.upgrade.deadline += moved
        self._fleet.beats_read_at = self._now  # the next look comes in its turn, and the gap is forgiven only once
        self._fleet.load_due += moved
        self._fleet.demand.forget()
        reason = f"the master did not run for {duration(late)}; nobody is blamed for that"
        self._fleet.report("deadlines moved", self._fleet.current.number, reason)

    def _dates(self) -> Iterator[float]:
        """Yield when the rules have to look again even if nothing happens."""
        fleet = self._fleet
        yield from (worker.deadline for worker in fleet.workers.values())
        if fleet.stop is not None:
            yield from [fleet.stop.drains_at] if fleet.of(WorkerState.SERVING) else []
            return
        for generation in fleet.rising():
            if generation.mold in (MoldState.UNPREPARED, MoldState.LOADING):
                yield generation.deadline
        if fleet.upgrade is not None:
            yield fleet.upgrade.deadline
        yield fleet.load_due
        yield from recycling.next_wear(fleet)
        yield from fleet.target.waiting(self._now).values()
        if fleet.current.mold is MoldState.GONE and fleet.candidate is None and fleet.upgrade is None:
            yield fleet.renewal.not_before
        yield from self._handlers_due()
        if fleet.on_trial is not None:
            yield from self._beats_due(fleet.on_trial.number, fleet.on_trial.settings.canary_time)

    def _handlers_due(self) -> Iterator[float]:
        """Yield when the handlers of the serving workers have to be looked at again."""
        for worker in self._fleet.of(WorkerState.SERVING):
            if self._fleet.generations[worker.generation].settings.handler_timeout and worker.ready_at is not None:
                yield max(worker.ready_at, self._fleet.beats_read_at) + HANDLERS_INTERVAL

    def _beats_due(self, generation: int, canary_time: float) -> Iterator[float]:
        for worker in self._fleet.of(WorkerState.SERVING):
            if worker.generation == generation and worker.ready_at is not None:
                yield max(worker.ready_at + canary_time, self._fleet.beats_read_at) + BEAT_INTERVAL
