"""The processes of the master: molds and workers, their pids, channels and deaths.

Only here do pids exist. A worker is ordered from a mold; its pid is believed when the mold says that it is adopted and
the kernel says that it is our child. Until it is reaped the pid can be nobody else's.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prefork.ipc import messages
from prefork.ipc.channel import Channel, ChannelBroken, make_pair
from prefork.ipc.commons import Commons
from prefork.ipc.scoreboard import WorkerRows
from prefork.ipc.tallies import Tallies, add_up
from prefork.logs import open_descriptors
from prefork.master.deaths import Deaths, detail_of
from prefork.master.generations import Generation
from prefork.master.pressure import Pressure
from prefork.master.sources import Sources
from prefork.master.stacks import Stacks
from prefork.policy import events
from prefork.policy.actions import Spawn, StartMold
from prefork.policy.events import Event
from prefork.system import processes
from prefork.system.stacks import Words
from prefork.worker import mold

log = logging.getLogger("prefork.master")


@dataclass(slots=True)
class MoldProcess:
    """A mold as the master knows it, and the source of what it says."""

    generation: int
    pid: int
    channel: Channel[messages.FromMold]
    processes: Processes
    certificates: list[messages.Certificate]  # of its generation
    unsafe: bool = False  # has said so, and ends; another one takes its place

    def fileno(self) -> int:
        """The master's end of the channel."""
        return self.channel.fileno()

    def events(self) -> Iterable[Event]:
        """Translate what the mold said."""
        return self.processes.hear_mold(self)

    def close(self) -> None:
        """Close the channel; the mold then leaves."""
        self.channel.close()


@dataclass(slots=True)
class WorkerProcess:
    """A worker as the master knows it, and the source of what it says."""

    number: int
    slot: int
    generation: int
    rows: WorkerRows
    channel: Channel[messages.FromWorker]
    processes: Processes
    words: Words  # its stacks, and its last words
    listeners: list[str]  # of its generation, as text
    ordered_at: float
    pid: int | None = None  # None until believed
    hello_pid: int | None = None  # said by itself, not yet believed
    leaving: bool = False  # told to drain, or has said that it does
    kill_reason: str = ""  # why we have killed it, if we have

    def fileno(self) -> int:
        """The master's end of the channel."""
        return self.channel.fileno()

    def events(self) -> Iterable[Event]:
        """Translate what the worker said."""
        return self.processes.hear_worker(self)

    def close(self) -> None:
        """Close the channel; the worker then leaves."""
        self.channel.close()
        self.words.close()

    @property
    def identity(self) -> dict[str, int]:
        """The fields that name it in a log line."""
        pid = {} if self.pid is None else {"pid": self.pid}
        return {"worker": self.slot, "gen": self.generation, **pid}


class Processes:
    """Starts, hears, kills and reaps molds and workers."""

    def __init__(self, sources: Sources, commons: Commons) -> None:
        self._sources = sources
        self._commons = commons
        self._pressure = Pressure(commons.ledger)
        self._molds: dict[int, MoldProcess] = {}  # by pid: an unsafe one may overlap with the one that replaces it
        self._workers: dict[int, WorkerProcess] = {}  # by number
        self._unclaimed: dict[int, str] = {}  # died before their mold had said whose they were
        self._disowned: set[int] = set()  # numbers given up before their mold forked them
        self._helpers: dict[int, Callable[[str], Iterable[Event]]] = {}  # by pid: what their death means
        self.tallies_of_the_dead: Tallies = {}
        self.stacks = Stacks()
        self.deaths = Deaths()

    # Molds

    def start_mold(self, order: StartMold, generation: Generation) -> None:
        """Fork a mold. Raise OSError if the kernel refuses."""
        ours, theirs = make_pair()
        master_pid = os.getpid()
        try:
            pid = processes.fork(lambda: _be_mold(theirs, order, generation, self._commons, master_pid))
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        started = MoldProcess(order.generation, pid, Channel(ours, messages.from_mold), self, generation.certificates)
        generation.certificates.clear()  # an earlier mold of it may have told them
        self._molds[pid] = started
        self._sources.add(started)

    def mold_of(self, generation: int) -> MoldProcess | None:
        """Return the newest mold of a generation that has not been reaped."""
        found = [one for one in self._molds.values() if one.generation == generation]
        return found[-1] if found else None

    def end_molds(self, generation: int) -> None:
        """Kill what molds a generation has: they hold nothing that anybody needs."""
        for one in self._molds.values():
            if one.generation == generation:
                processes.kill_child(one.pid)

    def end_molds_except(self, generation: int) -> None:
        """Kill the molds of all other generations: they hold listeners, and are not needed any more."""
        for other in {one.generation for one in self._molds.values()} - {generation}:
            self.end_molds(other)

    def hear_mold(self, said_by: MoldProcess) -> Iterable[Event]:
        """Return what a mold said as events. The end of its channel is no event: its death is."""
        try:
            received = said_by.channel.receive()
        except ChannelBroken as error:
            log.error("killing mold: it %s", error, extra={"gen": said_by.generation, "pid": said_by.pid})
            processes.kill_child(said_by.pid)
            return
        for message in received:
            match message:
                case messages.Ready():
                    yield events.MoldReady(said_by.generation)
                case messages.Failed(reason, detail):
                    yield events.MoldFailed(said_by.generation, reason, detail)
                case messages.Certificate():
                    said_by.certificates.append(message)
                case messages.Unsafe(findings):
                    said_by.unsafe = True
                    yield events.MoldUnsafe(said_by.generation, findings)
                case messages.Forked(number, pid):
                    yield from self._claim(number, pid)
                case messages.ForkFailed(number, reason):
                    yield from self._spawn_failed(number, f"cannot fork: {reason}")
        if said_by.channel.closed_by_peer:
            self._sources.remove(said_by)

    # Workers

    def order_worker(self, order: Spawn, rows: WorkerRows, listeners: list[str]) -> Iterable[Event]:
        """Tell the mold of its generation to fork a worker."""
        rows.clear()
        self._commons.clear(order.slot)
        ours, theirs = make_pair()
        try:
            words = Words()
        except OSError:
            ours.close()
            theirs.close()
            raise
        ordered = WorkerProcess(
            order.number,
            order.slot,
            order.generation,
            rows,
            Channel(ours, messages.from_worker),
            self,
            words,
            listeners,
            time.monotonic(),
        )
        self._workers[order.number] = ordered
        self._sources.add(ordered)
        found = self.mold_of(order.generation)
        try:
            if found is None:
                return self._spawn_failed(order.number, "its generation has no mold")
            message = messages.ForkWorker(order.number, order.slot, order.accept_after)
            found.channel.send(message, theirs.fileno(), words.fileno())
        except ChannelBroken as error:
            return self._spawn_failed(order.number, f"the mold does not listen: {error}")
        finally:
            theirs.close()
        return ()

    def worker(self, number: int) -> WorkerProcess | None:
        """Return a worker that has been ordered and has not gone."""
        return self._workers.get(number)

    def living(self) -> list[WorkerProcess]:
        """Return all workers that have been ordered and have not gone."""
        return list(self._workers.values())

    def channels(self) -> list[Channel[messages.FromWorker] | Channel[messages.FromMold]]:
        """Return the channels of all workers and molds."""
        return [*(one.channel for one in self._workers.values()), *(one.channel for one in self._molds.values())]

    def beats(self) -> dict[int, float]:
        """Return the time of the last beat of every worker that has beaten."""
        read = {number: one.rows.last_beat() for number, one in self._workers.items()}
        return {number: beat for number, beat in read.items() if beat is not None}

    def overdue_handlers(self, timeouts: Mapping[int, float], now: float) -> dict[int, str]:
        """Return which handler of each worker is furthest over its time, given the time of each generation's."""
        found = {}
        for number, one in self._workers.items():
            timeout = timeouts.get(one.generation, 0.0)
            begun = one.rows.requests(begun_by=now - timeout) if timeout else []
            late = [request for request in begun if request.thread and now >= request.deadline(timeout)]
            if late:
                served = min(late, key=lambda request: request.deadline(timeout)).in_words(one.listeners, now)
                found[number] = f"a handler has served {served}"
        return found

    def kill_worker(self, number: int, reason: str) -> Iterable[Event]:
        """Kill a worker; one that its mold has not forked yet is given up instead, and so is the mold that hangs."""
        found = self._workers.get(number)
        if found is None:
            return ()
        if found.pid is None and found.hello_pid is not None and processes.is_child(found.hello_pid):
            found.pid = found.hello_pid
        if found.pid is not None:
            found.kill_reason = found.kill_reason or reason
            processes.kill_child(found.pid)
            return ()
        self._disowned.add(number)  # should it appear all the same, it is killed
        self.end_molds(found.generation)
        return self._spawn_failed(number, "given up before the mold had forked it")

    def hear_worker(self, said_by: WorkerProcess) -> Iterable[Event]:
        """Return what a worker said as events. The end of its channel is no event: its death is."""
        try:
            received = said_by.channel.receive()
        except ChannelBroken as error:
            self._sources.remove(said_by)
            yield events.WorkerBroke(said_by.number, f"it {error}")
            return
        for message in received:
            yield from self._take_word(said_by, message)
        if said_by.channel.closed_by_peer:
            self._sources.remove(said_by)

    def _take_word(self, said_by: WorkerProcess, message: messages.FromWorker) -> Iterable[Event]:
        match message:
            case messages.Hello(pid):
                said_by.hello_pid = pid
            case messages.Ready(takes_over):
                yield events.WorkerReady(said_by.number, takes_over)
            case messages.Stuck(reason):
                yield events.WorkerStuck(said_by.number, reason)
            case messages.Dumped():
                self.stacks.note_written(said_by)
            case messages.StoppedAccepting():
                said_by.leaving = True
                yield events.WorkerStoppedAccepting(said_by.number)
            case messages.Overloaded(waiting):
                self._pressure.note_overload(said_by.number, waiting)
            case messages.PeerRefused(peer):
                self._pressure.note_refused(peer, time.monotonic())
            case messages.Failed(reason, detail):
                yield events.WorkerFailed(said_by.number, reason, detail)

    def _claim(self, number: int, pid: int) -> Iterable[Event]:
        """Believe that `pid` is the worker `number`, if the kernel agrees or it has died meanwhile."""
        how = self._unclaimed.pop(pid, None)
        found = self._workers.get(number)
        if found is None:
            if number in self._disowned and how is None and processes.is_child(pid):
                processes.kill_child(pid)
            self._disowned.discard(number)
        elif how is not None:
            yield from self._worker_gone(found, how)
        elif processes.is_child(pid):
            found.pid = pid
        else:
            yield from self._spawn_failed(number, f"process {pid} is no child of the master")

    def _spawn_failed(self, number: int, reason: str) -> Iterable[Event]:
        found = self._workers.pop(number, None)
        if found is None:
            return ()
        self._sources.remove(found)
        self.stacks.note_gone(found)
        found.close()
        return (events.SpawnFailed(number, reason),)

    # Deaths

    def follow_helper(self, pid: int, gone: Callable[[str], Iterable[Event]]) -> None:
        """Have `gone` called with how it ended, once a child that is no part of the fleet has been reaped."""
        self._helpers[pid] = gone

    def forget_helper(self, pid: int) -> None:
        """Follow it no longer: it has been reaped, and its pid may become somebody else's."""
        self._helpers.pop(pid, None)

    def reap(self) -> Iterable[Event]:
        """Reap every child that has ended, ours or adopted, and return what that means."""
        for death in processes.reap():
            if death.pid in self._molds:
                yield from self._mold_gone(self._molds[death.pid], death.how)
            elif (found := self._worker_with(death.pid)) is not None:
                yield from self._worker_gone(found, death.how)
            elif (gone := self._helpers.pop(death.pid, None)) is not None:
                yield from gone(death.how)
            elif any(one.pid is None for one in self._workers.values()):
                self._unclaimed[death.pid] = death.how
            else:
                log.debug("reaped an orphan: %s", death.how, extra={"pid": death.pid})
        if self._unclaimed and all(one.pid is not None for one in self._workers.values()):
            self._unclaimed.clear()

    def _worker_with(self, pid: int) -> WorkerProcess | None:
        return next((one for one in self._workers.values() if one.pid == pid), None)

    def _worker_gone(self, gone: WorkerProcess, how: str) -> Iterable[Event]:
        """Forget a reaped worker, after its last words."""
        yield from self.hear_worker(gone)
        self._workers.pop(gone.number, None)
        self._sources.remove(gone)
        self.stacks.note_gone(gone)
        death = self.deaths.examine(gone, how)
        gone.close()
        buried = {listener: tally.bury() for listener, tally in gone.rows.tallies().items()}
        self.tallies_of_the_dead = add_up([self.tallies_of_the_dead, buried])
        self._commons.bury(gone.slot)
        self._pressure.note_overload(gone.number, False)
        gone.rows.load.clear()
        if death is None:
            yield events.WorkerExited(gone.number, how)
        else:
            yield events.WorkerExited(gone.number, death.how, detail_of(death))

    def _mold_gone(self, gone: MoldProcess, how: str) -> Iterable[Event]:
        """Forget a reaped mold, after its last words; workers that it had not delivered are looked for."""
        yield from self.hear_mold(gone)
        del self._molds[gone.pid]
        self._sources.remove(gone)
        gone.close()
        if not gone.unsafe:
            for one in [one for one in self._workers.values() if one.generation == gone.generation and one.pid is None]:
                yield from self._look_for(one)
            yield events.MoldExited(gone.generation, how)

    def _look_for(self, lost: WorkerProcess) -> Iterable[Event]:
        yield from self.hear_worker(lost)
        if lost.hello_pid is not None:
            yield from self._claim(lost.number, lost.hello_pid)
        elif lost.number in self._workers:
            yield from self._spawn_failed(lost.number, "its mold died before it was forked")

    def end(self) -> None:
        """Kill the remaining molds and wait for them, at the end of the master."""
        for one in list(self._molds.values()):
            processes.kill_child(one.pid)
            os.waitpid(one.pid, 0)


def _be_mold(end: socket.socket, order: StartMold, generation: Generation, commons: Commons, master_pid: int) -> int:
    """Become the mold; runs in the forked child."""
    listeners = {one.socket.fileno() for one in generation.listeners if not one.closed}
    processes.close_descriptors_except({end.fileno(), *listeners, *open_descriptors(), *commons.descriptors})
    return mold.run(
        mold.Mold(
            generation=generation.number,
            settings=generation.settings,
            preload=order.preload,
            listeners=generation.listeners,
            board=generation.board,
            commons=commons,
            channel=Channel(end, messages.to_mold),
            master_pid=master_pid,
        )
    )
