"""The storms can fail: a supervisor with a fault is caught, and by the law that the fault breaks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import pytest

from prefork.policy import health, notes, recycling, rollout, scaling, staffing, stopping, supervisor
from prefork.policy.actions import Action, ReleaseGeneration, Report
from prefork.policy.backoff import Backoff
from prefork.policy.fleet import Fleet, FleetSettings, Generation, MoldState, Worker, WorkerState
from prefork.policy.supervisor import Rule, Supervisor
from tests.simulation.record import Violation
from tests.simulation.storm import run_storm

STORMS = 600

Sabotage = Callable[[pytest.MonkeyPatch], None]


def replace_rule(patch: pytest.MonkeyPatch, rule: Rule, *replacements: Rule) -> None:
    for name in ("RULES_OF_SERVING", "RULES_OF_STOPPING"):
        rules: list[Rule] = []
        for each in getattr(supervisor, name):
            rules += replacements if each is rule else (each,)
        patch.setattr(supervisor, name, tuple(rules))


def promote_when_the_time_is_over(patch: pytest.MonkeyPatch) -> None:
    def pass_trial(fleet: Fleet, now: float) -> Iterator[Action]:
        candidate = fleet.on_trial
        for canary in fleet.of(WorkerState.SERVING) if candidate is not None else ():
            assert candidate is not None
            assert canary.ready_at is not None
            over = now >= canary.ready_at + candidate.settings.canary_time
            if canary.generation == candidate.number and over and not candidate.failure:
                candidate.passed = True
                yield Report("trial passed", candidate.number, "its time is over", number=canary.number)
                return

    replace_rule(patch, rollout.pass_trial, pass_trial)


def number_generations_from_the_current_one(patch: pytest.MonkeyPatch) -> None:
    original = Fleet.new_generation

    def new_generation(fleet: Fleet, now: float) -> Generation:
        fleet._last_generation = fleet.current.number
        return original(fleet, now)

    patch.setattr(Fleet, "new_generation", new_generation)


def believe_that_the_drained_do_not_accept(patch: pytest.MonkeyPatch) -> None:
    original = health.drain

    def drain(fleet: Fleet, worker: Worker, reason: str, now: float) -> Action:
        worker.stopped_accepting = True
        return original(fleet, worker, reason, now)

    patch.setattr("prefork.policy.staffing.drain", drain)


def never_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Backoff, "failed", lambda backoff, now: 0.0)


def wait_no_longer_each_time(patch: pytest.MonkeyPatch) -> None:
    def failed(backoff: Backoff, now: float) -> float:
        backoff.not_before = now + 0.5
        return 0.5

    patch.setattr(Backoff, "failed", failed)


def wait_for_ever_longer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Backoff, "ended", lambda backoff, lasted, now: backoff.failed(now))


def carry_on_after_a_failed_worker(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("prefork.policy.blame.PROVEN_AFTER", -1.0)


def take_another_slot_instead_of_waiting(patch: pytest.MonkeyPatch) -> None:
    original = Generation.waiting
    patch.setattr(Generation, "waiting", lambda generation, now: _Uncounted(original(generation, now)))


class _Uncounted(dict[int, float]):
    def __len__(self) -> int:
        return 0


def retire_before_replacing(patch: pytest.MonkeyPatch) -> None:
    def drain_superseded(fleet: Fleet, now: float) -> Iterator[Action]:
        for worker in fleet.serving():
            if worker.generation != fleet.target.number:
                yield health.drain(fleet, worker, "it is superseded", now)

    replace_rule(patch, staffing.drain_surplus, drain_superseded, staffing.drain_surplus)


def drain_the_newest_first(patch: pytest.MonkeyPatch) -> None:
    def drain_surplus(fleet: Fleet, now: float) -> Iterator[Action]:
        serving = sorted(fleet.serving(), key=lambda worker: -worker.number)
        for worker in serving[: max(0, len(serving) - fleet.wanted)]:
            yield health.drain(fleet, worker, "there are too many", now)

    replace_rule(patch, staffing.drain_surplus, drain_surplus)


def forget_who_boots(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Worker, "booting", property(lambda worker: worker.state is WorkerState.STARTING))


def ignore_the_surge(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fleet, "room", lambda fleet: 100)


def reuse_the_slots_of_the_draining(patch: pytest.MonkeyPatch) -> None:
    def free_slots(fleet: Fleet) -> Iterator[int]:
        taken = {worker.slot for worker in fleet.of(WorkerState.STARTING, WorkerState.SERVING)}
        return (slot for slot in range(1024) if slot not in taken)

    patch.setattr(Fleet, "free_slots", free_slots)


def blame_others_for_having_overslept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Supervisor, "_forgive_gap", lambda brain: None)


def judge_before_everything_is_heard(patch: pytest.MonkeyPatch) -> None:
    def kill_overdue(fleet: Fleet, now: float) -> Iterator[Action]:
        fleet.heard_until = now
        return health.kill_overdue(fleet, now)

    replace_rule(patch, health.kill_overdue, kill_overdue)


def kill_nobody(patch: pytest.MonkeyPatch) -> None:
    replace_rule(patch, health.kill_overdue)


def wait_for_molds_for_ever(patch: pytest.MonkeyPatch) -> None:
    replace_rule(patch, health.give_up_late_molds)


def live_without_a_mold(patch: pytest.MonkeyPatch) -> None:
    def lost_mold(fleet: Fleet, now: float) -> None:
        fleet.renewal.not_before = math.inf

    patch.setattr(rollout, "_lost_mold", lost_mold)


def replace_while_stopping(patch: pytest.MonkeyPatch) -> None:
    rules = (*supervisor.RULES_OF_STOPPING[:-2], staffing.spawn_missing, *supervisor.RULES_OF_STOPPING[-2:])
    patch.setattr(supervisor, "RULES_OF_STOPPING", rules)


def release_what_is_superseded_at_once(patch: pytest.MonkeyPatch) -> None:
    original = rollout.release_generations

    def release(fleet: Fleet, now: float) -> Iterator[Action]:
        if fleet.stop is not None:
            yield from original(fleet, now)
            return
        for generation in [each for each in fleet.generations.values() if each not in fleet.rising()]:
            if generation.mold is not MoldState.GONE:
                generation.mold = MoldState.GONE
                yield ReleaseGeneration(generation.number, "it is superseded")

    replace_rule(patch, rollout.release_generations, release)


def spawn_canaries_like_others(patch: pytest.MonkeyPatch) -> None:
    def spawn_canaries(fleet: Fleet, now: float) -> Iterator[Action]:
        candidate = fleet.on_trial
        if candidate is not None and candidate.mold is MoldState.READY and candidate.failure is None:
            yield from staffing._spawn(fleet, candidate, fleet.room(), "the trial begins", now)

    replace_rule(patch, staffing.spawn_canary, spawn_canaries)


def let_a_failed_canary_be_replaced(patch: pytest.MonkeyPatch) -> None:
    def lose_worker(fleet: Fleet, worker: Worker, cause: str, failure: object, now: float) -> float:
        return fleet.generations[worker.generation].backoff(worker.slot).ended(worker.served_for(now), now)

    patch.setattr("prefork.policy.notes.lose_worker", lose_worker)


def look_for_beats_all_the_time(patch: pytest.MonkeyPatch) -> None:
    def beats_due(brain: Supervisor, generation: int, canary_time: float) -> Iterator[float]:
        for worker in brain._fleet.of(WorkerState.SERVING):
            if worker.generation == generation and worker.ready_at is not None:
                yield worker.ready_at + canary_time

    patch.setattr(Supervisor, "_beats_due", beats_due)


def stop_slowly_when_asked_to_be_quick(patch: pytest.MonkeyPatch) -> None:
    def drain_everyone(fleet: Fleet, now: float) -> Iterator[Action]:
        for worker in fleet.of(WorkerState.STARTING, WorkerState.SERVING):
            yield health.drain(fleet, worker, "we are stopping", now, final=True)

    replace_rule(patch, stopping.drain_everyone, drain_everyone)


def stop_without_the_delay(patch: pytest.MonkeyPatch) -> None:
    def drain_everyone(fleet: Fleet, now: float) -> Iterator[Action]:
        assert fleet.stop is not None
        fleet.stop = dataclasses.replace(fleet.stop, drains_at=now)
        return stopping.drain_everyone(fleet, now)

    replace_rule(patch, stopping.drain_everyone, drain_everyone)


def leave_while_somebody_lives(patch: pytest.MonkeyPatch) -> None:
    def leave(fleet: Fleet, now: float) -> Iterator[Action]:
        fleet.workers = {}
        return stopping.leave(fleet, now)

    replace_rule(patch, stopping.leave, leave)


def kill_without_a_look(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(health, "_dump_then_kill", health._kill_faulty)


def kill_at_once_after_a_look(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(health, "DUMP_TIME", 0.1)


def judge_handlers_of_workers_that_beat(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(notes, "WEDGED_AFTER", 0.2)


def retire_the_stuck_at_once(patch: pytest.MonkeyPatch) -> None:
    def drain_stuck(fleet: Fleet, now: float) -> Iterator[Action]:
        for worker in fleet.serving():
            if worker.stuck:
                yield health.drain(fleet, worker, worker.stuck, now)

    replace_rule(patch, staffing.drain_surplus, drain_stuck, staffing.drain_surplus)


def keep_the_stuck(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(notes, "_note_stuck", lambda fleet, worker, reason, now: None)


def forgive_a_gap_again_and_again(patch: pytest.MonkeyPatch) -> None:
    original = Supervisor._forgive_gap

    def forgive_gap(brain: Supervisor) -> None:
        read_at = brain._fleet.beats_read_at
        original(brain)
        brain._fleet.beats_read_at = read_at

    patch.setattr(Supervisor, "_forgive_gap", forgive_gap)


def recycle_in_place(patch: pytest.MonkeyPatch) -> None:
    def drain_worn(fleet: Fleet, now: float) -> Iterator[Action]:
        for worker in fleet.serving():
            if fleet.retiring(worker):
                yield health.drain(fleet, worker, "it is worn", now)

    replace_rule(patch, staffing.drain_surplus, drain_worn, staffing.drain_surplus)


def recycle_without_measure(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("prefork.policy.fleet.LONGEST", -1.0)


def recycle_the_idle(patch: pytest.MonkeyPatch) -> None:
    def when_idle(fleet: Fleet, worker: Worker, now: float) -> tuple[str, str] | None:
        return ("max_age", "it was idle") if now > worker.spawned_at + 5 else None

    patch.setattr(recycling, "_wear", when_idle)


def recycle_during_a_rollout(patch: pytest.MonkeyPatch) -> None:
    def recycle_worn(fleet: Fleet, now: float) -> Iterator[Action]:
        for worker in fleet.of(WorkerState.SERVING):
            if not worker.worn and (worn := recycling._wear(fleet, worker, now)):
                worker.worn = worn[1]
                yield Report("recycling worker", worker.generation, worker.worn, number=worker.number)

    replace_rule(patch, recycling.recycle_worn, recycle_worn)


def announce_a_recycle_before_its_end(patch: pytest.MonkeyPatch) -> None:
    def report_recycled(fleet: Fleet, now: float) -> Iterator[Action]:
        if fleet.recycle_ordered:
            fleet.recycle_ordered = set()
            yield Report("recycle complete", fleet.current.number, "all are told")

    replace_rule(patch, recycling.report_recycled, report_recycled)


def read_the_load_for_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fleet, "read_load_from", lambda fleet, now: setattr(fleet, "load_due", now + 2.0))


def leave_the_bounds(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FleetSettings, "most_workers", property(lambda settings: settings.workers + 9))


def shrink_at_the_first_calm_reading(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scaling, "CALM_READINGS", 1)


def grow_while_somebody_starts(patch: pytest.MonkeyPatch) -> None:
    def reason_to_grow(fleet: Fleet, now: float) -> str:
        return "they are busy" if fleet.demand.busy > 0.5 else ""

    patch.setattr(scaling, "_reason_to_grow", reason_to_grow)


def adapt_during_a_rollout(patch: pytest.MonkeyPatch) -> None:
    def adapt_number(fleet: Fleet, now: float) -> Iterator[Action]:
        candidate, fleet.candidate = fleet.candidate, None
        yield from scaling.adapt_number(fleet, now)
        fleet.candidate = candidate

    replace_rule(patch, scaling.adapt_number, adapt_number)


def forget_the_drain_at_a_reload(patch: pytest.MonkeyPatch) -> None:
    def begin_reload(fleet: Fleet, now: float) -> Iterator[Action]:
        for order in rollout.begin_reload(fleet, now):
            fleet.draining = False
            yield order

    replace_rule(patch, rollout.begin_reload, begin_reload)


@pytest.mark.parametrize(
    ("sabotage", "law"),
    [
        (promote_when_the_time_is_over, "a canary beats until the end of its trial"),
        (number_generations_from_the_current_one, "a generation's number is never used twice"),
        (believe_that_the_drained_do_not_accept, "complete when no worker of another generation accepts"),
        (never_wait, "is left empty for a while"),
        (wait_no_longer_each_time, "waits longer each time"),
        (wait_for_ever_longer, "who has served is replaced at once"),
        (carry_on_after_a_failed_worker, "a failure ends a reload"),
        (take_another_slot_instead_of_waiting, "is left empty for a while"),
        (retire_before_replacing, "nobody is drained unless enough others are ready"),
        (drain_the_newest_first, "what is sound serves again in bounded time"),
        (forget_who_boots, "starting processes do not pile up"),
        (ignore_the_surge, "never more than wanted and surge"),
        (reuse_the_slots_of_the_draining, "a slot has one living"),
        (blame_others_for_having_overslept, "who beats is neither suspected nor killed"),
        (judge_before_everything_is_heard, "who beats is neither suspected nor killed"),
        (kill_nobody, "a deadline lies in the future"),
        (wait_for_molds_for_ever, "a deadline lies in the future"),
        (live_without_a_mold, "what is sound serves again in bounded time"),
        (replace_while_stopping, "nothing is started while we stop"),
        (release_what_is_superseded_at_once, "released when none of its workers is left"),
        (spawn_canaries_like_others, "there is one canary"),
        (let_a_failed_canary_be_replaced, "there is one canary"),
        (look_for_beats_all_the_time, "a deadline lies in the future"),
        (stop_slowly_when_asked_to_be_quick, "quick means quick"),
        (stop_without_the_delay, "the drain delay is served"),
        (leave_while_somebody_lives, "Exit comes when nobody is left"),
        (kill_without_a_look, "asked for its stacks before it is killed"),
        (kill_at_once_after_a_look, "has the time to show where"),
        (judge_handlers_of_workers_that_beat, "who beats is neither suspected nor killed"),
        (retire_the_stuck_at_once, "nobody is drained unless enough others are ready"),
        (keep_the_stuck, "what is sound serves again in bounded time"),
        (forgive_a_gap_again_and_again, "what is sound serves again in bounded time"),
        (recycle_in_place, "nobody is drained unless enough others are ready"),
        (recycle_without_measure, "are replaced ever more slowly"),
        (recycle_the_idle, "without having reached a limit"),
        (recycle_during_a_rollout, "nobody is worn during a rollout"),
        (announce_a_recycle_before_its_end, "a recycle"),
        (read_the_load_for_nothing, "the load is read only if a setting needs it"),
        (leave_the_bounds, "the adaptive number"),
        (shrink_at_the_first_calm_reading, "busy a moment ago does not shrink"),
        (grow_while_somebody_starts, "who is starting is waited for"),
        (forget_the_drain_at_a_reload, "who is drained is not ready"),
        (adapt_during_a_rollout, "does not adapt during a rollout"),
    ],
)
def test_a_fault_is_caught(sabotage: Sabotage, law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sabotage(monkeypatch)

    for seed in range(STORMS):
        try:
            run_storm(seed)
        except Violation as violation:
            if law in str(violation):  # else it was caught by another law first, and counts for nothing
                return
    pytest.fail(f"{STORMS} storms, and none of them breaks the law: {law}")
