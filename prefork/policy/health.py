"""Workers that broke the promise of their state: each state has one deadline, and passing it has one answer.

A deadline is judged only when everything has been heard that was said before it: the beat or the word that keeps a
promise may stand behind the event that is being handled.
"""

from __future__ import annotations

from collections.abc import Iterator

from prefork.policy.actions import Action, Drain, Dump, Kill, Report, duration
from prefork.policy.blame import blame_generation, count_loss, lose_worker
from prefork.policy.fleet import Failure, Fleet, MoldState, Worker, WorkerState, tell_news

DUMP_TIME = 1.0  # for writing the stacks, and for us to read them


def give_up_late_molds(fleet: Fleet, now: float) -> Iterator[Action]:
    for generation in fleet.rising():
        unloaded = generation.mold in (MoldState.UNPREPARED, MoldState.LOADING)
        if unloaded and fleet.heard_until >= generation.deadline and generation.failure is None:
            timeout = duration(generation.settings.boot_timeout)
            failure = Failure(f"its application was not loaded within {timeout} (boot_timeout)")
            blame_generation(fleet, generation.number, failure, now)
    yield from tell_news(fleet, now)


def kill_broken(fleet: Fleet, now: float) -> Iterator[Action]:
    for worker in list(fleet.workers.values()):
        if worker.broken and worker.state is not WorkerState.KILLED:
            yield _kill_faulty(fleet, worker, "broken channel", worker.broken, now)


def kill_overdue(fleet: Fleet, now: float) -> Iterator[Action]:
    for worker in list(fleet.workers.values()):
        if fleet.heard_until < worker.deadline:
            continue
        settings = fleet.generations[worker.generation].settings
        match worker.state:
            case WorkerState.STARTING:
                time = duration(settings.boot_timeout)
                yield _dump_then_kill(fleet, worker, "boot timeout", f"not ready within {time} (boot_timeout)", now)
            case WorkerState.SERVING:
                silence = f"no beat for {duration(settings.heartbeat_timeout)} (heartbeat_timeout)"
                cause = "wedged" if worker.wedged else "heartbeat timeout"
                yield _dump_then_kill(fleet, worker, cause, worker.wedged or silence, now)
            case WorkerState.DRAINING:
                if not worker.booting:
                    count_loss(fleet, worker, "drain timeout")
                yield kill(fleet, worker, "still there after the time it had to drain", now)
            case WorkerState.KILLED:
                timeout = duration(settings.kill_timeout)
                reason = f"still there {timeout} after SIGKILL; killed again"
                yield Report("worker survived kill", worker.generation, reason, number=worker.number)
                yield kill(fleet, worker, f"still there {timeout} after it was killed", now)


def kill(fleet: Fleet, worker: Worker, reason: str, now: float) -> Kill:
    worker.state = WorkerState.KILLED
    worker.deadline = now + fleet.generations[worker.generation].settings.kill_timeout
    return Kill(worker.number, reason)


def drain(fleet: Fleet, worker: Worker, reason: str, now: float, *, final: bool = False, quick: bool = False) -> Drain:
    settings = fleet.generations[worker.generation].settings
    worker.state = WorkerState.DRAINING
    worker.drain_seconds = 0.0 if quick else settings.drain_timeout
    # One that is still booting has nothing to lose unless it says so, and must not hold a place for long.
    patience = settings.kill_timeout if quick or worker.booting else worker.patience()
    worker.deadline = now + patience
    worker.hands_over = not quick and fleet.has_heir(worker)
    return Drain(worker.number, worker.drain_seconds, final, reason, worker.hands_over)


def _dump_then_kill(fleet: Fleet, worker: Worker, cause: str, reason: str, now: float) -> Dump | Kill:
    """Let it show where it hangs, and give it a moment for that. A beat meanwhile saves it."""
    if worker.dumped:
        return _kill_faulty(fleet, worker, cause, reason, now)
    worker.dumped = True
    worker.deadline = now + DUMP_TIME
    return Dump(worker.number, f"{reason}; killed in {duration(DUMP_TIME)}")


def _kill_faulty(fleet: Fleet, worker: Worker, cause: str, reason: str, now: float) -> Kill:
    if worker.state in (WorkerState.STARTING, WorkerState.SERVING):
        lose_worker(fleet, worker, cause, Failure(reason), now)
    elif worker.state is WorkerState.DRAINING:
        count_loss(fleet, worker, cause)
    return kill(fleet, worker, reason, now)
