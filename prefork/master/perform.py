"""Carries out what the supervisor orders, and returns what came of it at once. Decides nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from prefork import logs
from prefork.config.load import Loaded
from prefork.errors import PreforkError
from prefork.ipc import messages
from prefork.ipc.channel import ChannelBroken
from prefork.master.generations import Generations
from prefork.master.workers import Processes
from prefork.policy import actions, events
from prefork.policy.actions import Action, WorkerAction
from prefork.policy.events import Event
from prefork.policy.supervisor import Supervisor
from prefork.system.proctitle import set_title

log = logging.getLogger("prefork.master")

# What is reported of a reload -> where it is counted.
_RELOADS: dict[str, str] = {
    "reload complete": "reloads",
    "reload failed": "reloads_failed",
    "reload refused": "reloads_refused",
    "reload superseded": "reloads_superseded",
}


class Performer:
    """The hands of the supervisor: forks, drains, kills, binds and closes.

    `tally` counts what happened; `settings` are those of the generation that serves.
    """

    def __init__(
        self,
        loaded: Loaded,
        supervisor: Supervisor,
        generations: Generations,
        processes: Processes,
        start_successor: Callable[[], Iterable[Event]],
        end_successor: Callable[[], None],
    ) -> None:
        self._loaded = loaded  # read again by each reload
        self._started_with = self.settings = loaded.settings
        self._supervisor = supervisor
        self._generations = generations
        self._processes = processes
        self._start_successor = start_successor
        self._end_successor = end_successor
        self.tally = dict.fromkeys(_RELOADS.values(), 0)

    def perform(self, action: Action) -> Iterable[Event]:
        """Do what is ordered; return what is known at once. The rest is heard later."""
        match action:
            case actions.PrepareGeneration(generation):
                return [self._prepare(generation)]
            case actions.StartMold(generation):
                return self._start_mold(action, generation)
            case actions.Spawn() | actions.Drain() | actions.Dump() | actions.Kill():
                return self._order_worker(action)
            case actions.ReleaseGeneration(generation):
                self._processes.end_molds(generation)
                self._generations.release(generation, final=self._supervisor.state == "stopping")
            case actions.StartSuccessor():
                return self._start_successor()
            case actions.EndSuccessor():
                self._end_successor()
            case actions.Report():
                self._note_report(action)
        return ()

    def _order_worker(self, action: WorkerAction) -> Iterable[Event]:
        match action:
            case actions.Spawn(_, slot, generation):
                return self._spawn(action, slot, generation)
            case actions.Drain():
                self._drain(action)
            case actions.Dump(number, reason):
                if (worker := self._processes.worker(number)) is not None:
                    self._processes.stacks.force(worker, reason)
            case actions.Kill(number, reason):
                return self._processes.kill_worker(number, reason)
        return ()

    def close_served_listeners(self) -> None:
        """Close the sealed listeners that no worker accepts from any more."""
        self._generations.close_sealed({one.generation for one in self._supervisor.workers() if one.accepting})

    def identity_of(self, action: Action) -> dict[str, int]:
        """Return the fields that say in a log line whom an action concerns."""
        match action:
            case actions.Spawn(_, slot, generation):
                return {"worker": slot, "gen": generation}
            case actions.StartMold(generation):
                return {"gen": generation}
            case (
                actions.Drain(number) | actions.Dump(number) | actions.Kill(number) | actions.Report(number=int(number))
            ):
                return self._identity_of_worker(number)
        return {}

    def _identity_of_worker(self, number: int) -> dict[str, int]:
        found = self._processes.worker(number)
        if found is not None:
            return found.identity
        # Its process has gone, which the supervisor does not know yet.
        believed = [one for one in self._supervisor.workers() if one.number == number]
        if believed:
            return {"worker": believed[0].slot, "gen": believed[0].generation}
        return self._processes.deaths.identity_of(number)

    def _prepare(self, number: int) -> Event:
        try:
            loaded = self._loaded.reload()
            prepared = self._generations.prepare(number, loaded)
        except PreforkError as error:
            return events.GenerationFailed(number, str(error), error.detail)
        except OSError as error:
            return events.GenerationFailed(number, f"cannot be prepared: {(error.strerror or str(error)).lower()}")
        self._loaded = loaded
        return events.GenerationPrepared(number, prepared.fleet_settings())

    def _start_mold(self, order: actions.StartMold, number: int) -> Iterable[Event]:
        try:
            self._processes.start_mold(order, self._generations.get(number))
        except OSError as error:
            return [events.MoldFailed(number, f"cannot fork: {(error.strerror or str(error)).lower()}")]
        return ()

    def _spawn(self, order: actions.Spawn, slot: int, number: int) -> Iterable[Event]:
        generation = self._generations.get(number)
        listeners = [str(listener.address) for listener in generation.listeners]
        try:
            return self._processes.order_worker(order, generation.board.worker(slot), listeners)
        except OSError as error:
            return [events.SpawnFailed(order.number, (error.strerror or str(error)).lower())]

    def _drain(self, order: actions.Drain) -> None:
        worker = self._processes.worker(order.number)
        if worker is None:
            return
        worker.leaving = True
        if order.final:
            self._processes.end_molds(worker.generation)  # it holds the listeners, and will fork nobody any more
        finish = self._queues_to_finish(worker.number, worker.generation, order.final) if order.seconds > 0 else []
        try:
            worker.channel.send(messages.Drain(order.seconds, finish, order.final, order.hand_over))
        except ChannelBroken as error:
            # Dead, and about to be reaped; or not reading, and killed when its time is over.
            log.debug("worker does not listen: %s", error, extra=worker.identity)

    def _queues_to_finish(self, number: int, leaving: int, final: bool) -> list[int]:
        """Return the listeners of a leaving worker whose queues nobody else will serve, sealing them."""
        heir = self._supervisor.candidate
        if heir is None or heir == leaving:
            heir = self._supervisor.generation
        others = {one.generation for one in self._supervisor.workers() if one.accepting and one.number != number}
        return self._generations.seal_unserved(leaving, {heir} | others, final)

    def _note_report(self, report: actions.Report) -> None:
        if report.subject in _RELOADS:
            self.tally[_RELOADS[report.subject]] += 1
        if report.subject == "reload complete":
            self._adopt_settings(report.generation)
            self._processes.end_molds_except(report.generation)

    def _adopt_settings(self, generation: int) -> None:
        """Let the master itself follow the settings that its workers have now."""
        self.settings = settings = self._generations.get(generation).settings
        logs.set_up(settings.log_level, settings.log_file, settings.log_format, settings.access_log)
        set_title("master", settings.name)
        if settings.pidfile != self._started_with.pidfile:
            log.warning(
                "pidfile not changed: it stays %s until the next start", self._started_with.pidfile or "unwritten"
            )
        if settings.reload != self._started_with.reload:
            stays = "on" if self._started_with.reload else "off"
            log.warning("reload not changed: it stays %s until the next start", stays)
        for name in ("control", "admin", "agent"):
            stays = getattr(self._started_with, name)
            if getattr(settings, name) != stays:
                log.warning("%s not changed: it stays %s until the next start", name, stays)
