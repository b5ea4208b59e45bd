"""Answers the control clients: at once, or when what they asked for has happened; until then they follow."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable

from prefork.errors import ListenerError
from prefork.master.control import MOST_FOLLOWERS, Client, ControlServer, Request
from prefork.master.sources import Sources
from prefork.master.workers import Processes, WorkerProcess
from prefork.policy import actions, events
from prefork.policy.actions import Action
from prefork.policy.events import Event
from prefork.system.succession import PassedListener

log = logging.getLogger("prefork.control")

_ANSWERED_AT_ONCE = ("status", "health", "reopen")
_MOST_STACKS = 1 << 19  # characters of one answer; the log has all of them


class Desk:
    """The clients of the control socket and what each of them waits for. Without a socket, nobody comes."""

    def __init__(
        self,
        where: str,
        sources: Sources,
        describe: Callable[[], dict[str, object]],
        describe_health: Callable[[], dict[str, object]],
        count_workers: Callable[[], dict[str, int]],
        reopen_logs: Callable[[], None],
        processes: Processes,
        passed: PassedListener | None = None,
    ) -> None:
        self._count_workers = count_workers
        self._describe = describe
        self._describe_health = describe_health
        self._reopen_logs = reopen_logs
        self._processes = processes
        self._control = self._open_control(where, sources, passed) if where != "off" else None

    def _open_control(self, where: str, sources: Sources, passed: PassedListener | None) -> ControlServer | None:
        """Listen for clients. Without an address of its own the server serves all the same."""
        try:
            return ControlServer(where, sources, self, passed)
        except ListenerError as error:
            if where != "auto":
                raise
            # Its name is made of our pid, which a process in another pid namespace of this network may have, too.
            log.warning("no control socket: %s; give --control PATH to have one", error)
            return None

    def take_request(self, client: Client, request: Request) -> Iterable[Event]:
        """Answer a client, or let it wait for what it asked for; return what that means to the supervisor."""
        origin = f"prefork {request.command}" + (f" by uid {client.uid}" if client.uid != os.getuid() else "")
        if request.command not in _ANSWERED_AT_ONCE and len(self._followers()) >= MOST_FOLLOWERS:
            client.fail(f"{MOST_FOLLOWERS} clients follow the server already; end a `prefork top`, or try again later")
            return ()
        match request:
            case Request("status"):
                client.answer(self._describe())
            case Request("reopen"):
                self._reopen_logs()
                client.answer()
            case Request("dump", slot=slot):
                self._dump(client, slot, origin)
            case Request("follow"):
                client.following = "follow"
            case Request("health"):
                client.answer(self._describe_health())
            case _:
                return self._take_order(client, request, origin)
        return ()

    def _take_order(self, client: Client, request: Request, origin: str) -> Iterable[Event]:
        match request:
            case Request("reload"):
                client.following = "reload"
                return [events.ReloadRequested(origin)]
            case Request("stop", quick=quick):
                client.following = "stop"
                return [events.StopRequested(quick, origin)]
            case Request("upgrade"):
                client.following = "upgrade"
                return [events.UpgradeRequested(origin)]
            case Request("drain"):
                client.following = "drain"
                return [events.DrainRequested(origin)]
            case Request("undrain"):
                client.following = "undrain"
                return [events.UndrainRequested(origin)]
            case Request("recycle", slot=slot):
                client.following = "recycle"
                return [events.RecycleRequested(slot, origin)]
            case Request("scale", workers=int(workers)):
                client.following = "scale"
                return [events.ScaleRequested(workers, origin)]
            case Request("scale", change=int(change)):
                client.following = "scale"
                return [events.ScaleChanged(change, origin)]
            case _:
                client.fail(f"unknown or incomplete command {request.command!r}")
        return ()

    def _dump(self, client: Client, slot: int | None, origin: str) -> None:
        """Ask workers for their stacks, and answer when all have written them, or not."""
        workers = [one for one in self._processes.living() if one.pid is not None and slot in (None, one.slot)]
        if not workers:
            client.fail("no worker is running" if slot is None else f"no worker is running in slot {slot}")
            return
        client.following = "dump"
        answer: list[dict[str, object]] = []

        def take(worker: WorkerProcess, text: str) -> None:
            shortened = text[: _MOST_STACKS // len(workers)]
            answer.append(
                {"slot": worker.slot, "generation": worker.generation, "pid": worker.pid, "stacks": shortened}
            )
            if len(answer) == len(workers):
                client.answer({"workers": answer})

        for worker in workers:
            self._processes.stacks.ask(worker, f"{origin} asked for them", take)

    def tell(self, text: str, at: float) -> None:
        """Show a line of the log to everybody who follows, with its time and the numbers of the moment."""
        if followers := self._followers():
            workers = self._count_workers()
            for client in followers:
                client.tell(text, at, workers)

    def note(self, action: Action) -> None:
        """Answer those who waited for what this action says. A superseded reload gets the verdict on its successor."""
        match action:
            case actions.Report("reload complete", generation):
                self._answer("reload", {"generation": generation})
            case actions.Report("reload failed" | "reload refused", reason=reason, detail=detail):
                self._fail("reload", reason, detail)
            case actions.Report("scaling refused", reason=reason):
                self._fail("scale", reason)
            case actions.Report("upgrade failed" | "upgrade refused", reason=reason, detail=detail):
                self._fail("upgrade", reason, detail)
            case actions.Report("drain announced"):
                self._answer("drain", self._describe_health())
            case actions.Report("drain ended"):
                self._answer("undrain", self._describe_health())
            case actions.Report("recycle complete", reason=reason):
                self._answer("recycle", {"reason": reason})
            case actions.Report("recycle refused", reason=reason):
                self._fail("recycle", reason)
            case actions.Exit():
                self._answer("stop")

    def note_successor(self, pid: int | None, has_control: bool) -> None:
        """Answer those who waited for the successor: it serves."""
        self._answer("upgrade", {"pid": pid})
        if self._control is not None and has_control:
            self._control.hand_over()

    def note_scale(self, workers: int) -> None:
        """Answer those who waited for the wanted number of workers: as many serve now, and no others."""
        self._answer("scale", {"workers": workers})

    def _followers(self) -> list[Client]:
        return self._control.followers() if self._control is not None else []

    def _answer(self, command: str, result: object = None) -> None:
        for client in self._followers():
            if client.following == command:
                client.answer(result)

    def _fail(self, command: str, reason: str, detail: str = "") -> None:
        for client in self._followers():
            if client.following == command:
                client.fail(reason, detail)

    def passed(self) -> PassedListener | None:
        """Return the socket file that a successor is to have, if there is one."""
        return self._control.passed() if self._control is not None else None

    def take_over(self) -> bool:
        """Accept clients where our predecessor did; return whether that was so."""
        return self._control is not None and self._control.take_over()

    def deadline(self) -> float:
        """Return when `drop_late` has something to do."""
        return self._control.deadline() if self._control is not None else math.inf

    def drop_late(self, now: float) -> None:
        """Hang up on clients that are late with their request, or with reading the answer."""
        if self._control is not None:
            self._control.drop_late(now)

    def close(self) -> None:
        """Hang up on everybody."""
        if self._control is not None:
            self._control.close()
