"""A supervisor, its clock, and the shorthand in which the tests of the policy tell their stories."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TypeVar

from prefork.policy import actions, events
from prefork.policy.actions import Action
from prefork.policy.events import Event, WorkerLoad
from prefork.policy.fleet import FleetSettings, Worker
from prefork.policy.supervisor import Supervisor

BEAT_INTERVAL = 0.5

Kind = TypeVar("Kind", bound=Action)


class Story:
    """Workers beat unless they are named as silent; nothing else happens by itself."""

    def __init__(self, settings: FleetSettings) -> None:
        self.settings = settings
        self.supervisor = Supervisor(settings, lambda: 0.5)
        self.load = WorkerLoad(busy=0.4)  # of each worker, when it is read
        self.loads: dict[int, WorkerLoad] = {}  # of those that have another one
        self.queued = 0
        self.now = 100.0
        self.takes_over = False  # whether the first workers go on with connections of others
        self.actions: list[Action] = []

    def tell(self, *happened: Event) -> list[Action]:
        """Say what happened at this moment, and return what is ordered because of it."""
        ordered = [action for event in happened for action in self.supervisor.handle(event, self.now)]
        self.actions += ordered
        return ordered

    def wait(self, seconds: float, silent: Collection[int] = ()) -> list[Action]:
        """Let the time pass as the shell does: beats are read and time is told whenever it is due."""
        end, ordered = self.now + seconds, list[Action]()
        while (due := self.supervisor.deadline()) <= end:
            self.now = max(self.now, due)
            ordered += self.look_at_the_clock(silent)
        self.now = end
        return ordered

    def look_at_the_clock(self, silent: Collection[int] = ()) -> list[Action]:
        beats = {worker.number: self.now for worker in self.supervisor.workers() if worker.number not in silent}
        loads = {worker.number: self.loads.get(worker.number, self.load) for worker in self.supervisor.workers()}
        reading = [events.LoadRead(loads, self.queued)] if self.supervisor.load_due <= self.now else []
        return self.tell(*reading, events.HeartbeatsRead(beats), events.TimePassed())

    def read_load(self) -> list[Action]:
        """Wait for the next reading of the load, and return what is ordered because of it."""
        return self.wait(self.supervisor.load_due - self.now)

    def start(self) -> None:
        """Bring generation 1 up, with workers 1, 2, 3, …, and let all of them serve for a while."""
        self.tell(events.StartRequested(), events.MoldReady(1))
        for worker in self.supervisor.workers():
            self.tell(events.WorkerReady(worker.number, self.takes_over))
        self.wait(5.0)

    def try_generation(self, generation: int, settings: FleetSettings | None = None) -> list[Action]:
        """Ask for a reload, and bring it to the moment when its canary has been spawned."""
        prepared = events.GenerationPrepared(generation, settings or self.settings)
        return self.tell(events.ReloadRequested("SIGHUP"), prepared, events.MoldReady(generation))

    def finish_rollout(self) -> None:
        """Let every worker that starts be ready, and every drained one stop accepting and leave."""
        while self.supervisor.candidate is not None:
            for worker in self.supervisor.workers():
                if worker.state == "starting":
                    self.tell(events.WorkerReady(worker.number))
                elif worker.state == "draining":
                    self.tell(events.WorkerStoppedAccepting(worker.number))
                    self.tell(events.WorkerExited(worker.number, "exited with code 0"))
            self.wait(BEAT_INTERVAL)

    def worker(self, number: int) -> Worker:
        return next(worker for worker in self.supervisor.workers() if worker.number == number)

    def numbers(self, generation: int | None = None) -> list[int]:
        workers = self.supervisor.workers()
        return [worker.number for worker in workers if generation in (None, worker.generation)]


def a_serving_fleet(workers: int = 2, **settings: float) -> Story:
    story = Story(make_settings(workers, **settings))
    story.start()
    return story


def a_fleet_that_hands_over(workers: int) -> Story:
    """Its workers go on with the connections of others."""
    story = Story(make_settings(workers))
    story.takes_over = True
    story.start()
    return story


def make_settings(workers: int = 2, **settings: float) -> FleetSettings:
    return replace(FleetSettings(workers=workers), **settings)  # type: ignore[arg-type]


def only(kind: type[Kind], ordered: list[Action]) -> list[Kind]:
    return [action for action in ordered if isinstance(action, kind)]


def subjects(ordered: list[Action]) -> list[str]:
    return [report.subject for report in only(actions.Report, ordered)]


def orders(ordered: list[Action]) -> list[Action]:
    return [action for action in ordered if not isinstance(action, actions.Report)]
