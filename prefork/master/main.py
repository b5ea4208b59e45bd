"""The master: binds the listeners, starts what the supervisor orders, and otherwise only listens.

It is a `BaseServer` whose requests are facts: `serve_forever()` is its one wait, a ready source is a request, and
`service_actions()`, which runs after every turn, reaps the dead and lets the supervisor look at the time. It has one
thread, reads no byte of any connection, and never imports the application.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import random
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from prefork import __version__, logs
from prefork.config.load import Loaded
from prefork.config.settings import Settings
from prefork.errors import UsageError
from prefork.ipc import messages
from prefork.ipc.channel import Channel, ChannelBroken
from prefork.ipc.commons import Commons
from prefork.master import status, wording
from prefork.master.announcer import Announcer
from prefork.master.desk import Desk
from prefork.master.generations import Generations
from prefork.master.helper import Helper
from prefork.master.load import LoadReader
from prefork.master.perform import Performer
from prefork.master.sources import SignalSource, Source, Sources
from prefork.master.turns import Turns
from prefork.master.upgrade import Predecessor, Successor
from prefork.master.watcher import Watcher
from prefork.master.workers import Processes
from prefork.policy import actions, events
from prefork.policy.actions import Action
from prefork.policy.events import Event
from prefork.policy.fleet import SLOTS
from prefork.policy.supervisor import Supervisor
from prefork.serving.base import BaseServer
from prefork.system import processes
from prefork.system.inherited import Inherited, take_inherited
from prefork.system.notify import ServiceManager, take_service_manager
from prefork.system.pidfile import Pidfile
from prefork.system.privileges import check_possible
from prefork.system.proctitle import set_title
from prefork.system.store import Store

if TYPE_CHECKING:
    from prefork.master.admin import Admin

log = logging.getLogger("prefork.master")

_OLDEST_KERNEL = (5, 10)  # pidfd, child subreaper, close_range


def run(loaded: Loaded, predecessor: Predecessor | None = None) -> int:
    """Serve until stopped; return the exit status. Raise PreforkError when it cannot begin."""
    _check_platform()
    settings = loaded.settings
    logs.set_up(settings.log_level, settings.log_file, settings.log_format, settings.access_log)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    try:
        manager = take_service_manager() if predecessor is None else predecessor.estate.manager
        inherited = take_inherited() if predecessor is None else predecessor.estate.inherited
    except ValueError as error:
        raise UsageError(f"cannot understand the service manager: {error}") from error
    passed = Store.passed(inherited)
    if passed and not any(address.kind == "systemd" for address in loaded.settings.bind):
        names = ", ".join(one.name for one in passed)
        log.warning(
            "passed sockets not served: the service manager passed %s; add --bind systemd: to serve them", names
        )
    check_possible(loaded.settings.user, loaded.settings.group)
    set_title("master", loaded.settings.name)
    processes.become_subreaper()
    with Master(loaded, inherited, manager, predecessor) as master:
        master.start()
        master.serve_forever()
        return master.exit_code


def _check_platform() -> None:
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2] if part.isdigit())
    if platform.system() != "Linux" or release < _OLDEST_KERNEL:
        found = f"{platform.system()} {platform.release()}"
        way_out = "prefork.socketserver works on any POSIX system"
        raise UsageError(f"prefork run needs Linux 5.10 or later, and this is {found} ({way_out})")


class Master(BaseServer):
    """Hears what happens, tells the supervisor, and has performed what it decides."""

    def __init__(
        self,
        loaded: Loaded,
        inherited: Sequence[Inherited],
        manager: ServiceManager,
        predecessor: Predecessor | None = None,
    ) -> None:
        super().__init__(loaded.settings.name, _no_handler)
        settings = loaded.settings
        self.exit_code = 1
        self._target = settings.target
        self._started = time.monotonic()
        self._events: deque[Event] = deque()
        self._sources = Sources()
        self._announcer = Announcer(manager, self._sources)
        shared = (predecessor.estate.ferry, predecessor.estate.claims) if predecessor else ()
        self._commons = Commons(SLOTS, *shared)
        self._generations = Generations(Store.passed(inherited), Store(inherited, manager.store_size))
        self._processes = Processes(self._sources, self._commons)
        self._load = LoadReader()
        self._predecessor = predecessor  # until it has been told how its upgrade ended
        self._pidfile: Pidfile | None = None
        self._successor = Successor(self._sources, self._processes, self._note_taken_over)
        self._decisions = status.Decisions()
        self._turns = Turns()
        self._helpers: list[Helper] = []
        self._admin: Admin | None = None  # one of the helpers
        try:
            first = self._generations.prepare(1, loaded, predecessor.estate.listeners if predecessor else ())
            if predecessor is None:
                self._write_pidfile(settings.pidfile)
                self._speak_for_the_service()
            self._supervisor = Supervisor(first.fleet_settings(), random.Random().random)
            self._performer = Performer(
                loaded,
                self._supervisor,
                self._generations,
                self._processes,
                self._start_successor,
                self._successor.end,
            )
            passed = predecessor.estate.control if predecessor else None
            self._make_helpers(settings)
            self._desk = Desk(
                settings.control,
                self._sources,
                self._describe,
                lambda: status.describe_health(self._supervisor),
                lambda: status.count_workers(self._supervisor),
                self._reopen_logs,
                self._processes,
                passed,
            )
            if predecessor is not None:
                predecessor.estate.close_listeners()
        except BaseException:
            self._close_owned()
            raise

    def _make_helpers(self, settings: Settings) -> None:
        if settings.reload:
            self._helpers.append(Watcher(settings, self._sources, self._processes))
        if settings.admin != "off" or settings.agent != "off":
            from prefork.master.admin import Admin  # a master without one stays small

            passed = self._predecessor.estate.helpers if self._predecessor else None
            self._admin = Admin(settings, self._sources, self._processes, self._describe, passed)
            self._helpers.append(self._admin)

    def start(self) -> None:
        """Take over the signals and order the first generation."""
        self._sources.add(SignalSource(self._reopen_logs))
        for helper in self._helpers:
            helper.start_if_due(time.monotonic())
        log.info("starting: prefork %s serves %s", __version__, self._target)
        self._tell_supervisor([events.StartRequested()])

    # The loop, in the words of BaseServer

    def fileno(self) -> int:
        """The one descriptor of the one wait."""
        return self._sources.fileno()

    def _select_timeout(self, poll_interval: float | None) -> float | None:
        self._turns.end()
        deadlines = (self._desk.deadline(), self._processes.stacks.deadline(), self._announcer.deadline())
        deadline = min(self._supervisor.deadline(), *deadlines, *(one.deadline() for one in self._helpers))
        return None if deadline == math.inf else max(0.0, deadline - time.monotonic())

    def get_request(self) -> tuple[Source, None]:
        """Return a source that has something to say."""
        self._turns.begin()
        source = self._sources.next_ready()
        if source is None:
            raise BlockingIOError  # it was removed since: no request after all
        return source, None

    def process_request(self, request: Source, client_address: object) -> None:
        """Let the supervisor decide about what a source says."""
        self._tell_supervisor(request.events())

    def handle_error(self, request: Source, client_address: object) -> None:
        """Log a mistake of ours and go on: the workers are worth more than a clean end."""
        error = sys.exception()
        log.error("internal error: while hearing %s; the master goes on", type(request).__name__, exc_info=error)

    def shutdown_request(self, request: Source) -> None:
        """Sources outlive what they say."""

    def service_actions(self) -> None:
        """Reap every dead child, then let the supervisor look at the time if it asked to."""
        self._turns.begin()
        self._tell_supervisor(self._processes.reap())
        now = time.monotonic()
        self._processes.stacks.take_late(now)
        if min(self._supervisor.deadline(), self._announcer.deadline()) <= now:
            self._hear_everybody()
            if self._supervisor.load_due <= now:
                self._tell_supervisor([self._read_load(now)])
            beats = events.HeartbeatsRead(self._processes.beats())
            overdue = events.OverdueRead(self._processes.overdue_handlers(self._generations.handler_timeouts(), now))
            self._tell_supervisor([beats, overdue, events.TimePassed()])
            self._announcer.give_sign(now)
        self._announcer.wait_if_pending()
        self._desk.drop_late(now)
        for helper in self._helpers:
            helper.start_if_due(now)

    def _read_load(self, now: float) -> Event:
        settings = self._generations.get(self._supervisor.generation).fleet_settings()
        return self._load.read(settings, self._processes.living(), self._generations.listeners(), now)

    def _hear_everybody(self) -> None:
        """Hear what has been said already: nobody is late whose word or beat only waits for us to read it."""
        for _ in range(2 * len(self._sources)):  # one that never falls silent is not waited for
            source = self._sources.next_ready()
            if source is None:
                return
            self._serve_request(source, None)

    def server_close(self) -> None:
        """Leave nothing behind: no process, no socket file."""
        self._desk.close()
        self._close_owned()

    def _close_owned(self) -> None:
        for helper in self._helpers:
            helper.close()
        self._successor.close()
        self._processes.end()
        self._generations.close()
        self._commons.close()
        self._announcer.close()
        self._sources.close()
        self._turns.close()
        if self._pidfile is not None:
            self._pidfile.close()

    # Supervision

    def _tell_supervisor(self, happened: Iterable[Event]) -> None:
        self._events.extend(happened)
        while self._events:
            event = self._events.popleft()
            now = time.monotonic()
            decided = self._supervisor.handle(event, now)
            # Before they are carried out: a reload that fails at once must have been announced, or it was none.
            self._announcer.announce(self._supervisor.announcement, now)
            for action in decided:
                self._carry_out(action)
            if isinstance(event, events.WorkerStoppedAccepting | events.WorkerExited):
                self._performer.close_served_listeners()
        accepting = sum(one.accepting for one in self._supervisor.workers())
        if self._supervisor.state in ("serving", "reloading") and accepting == self._supervisor.wanted:
            self._desk.note_scale(accepting)

    def _carry_out(self, action: Action) -> None:
        """Log an action, show the line to those who follow, and perform it."""
        headline = wording.headline_of(action)
        level, identity = wording.level_of(action), self._performer.identity_of(action)
        log.log(level, "%s: %s", headline, action.reason, extra={"detail": wording.detail_of(action), **identity})
        at = self._decisions.note(level, headline, action.reason, identity)
        self._desk.tell(f"{headline}: {action.reason}", at)
        self._events.extend(self._performer.perform(action))
        self._desk.note(action)
        if self._predecessor is not None:
            self._tell_predecessor(self._predecessor, action)
        if isinstance(action, actions.Exit):
            self.exit_code = action.code
            self.shutdown()

    # Succession: either end of it

    def _start_successor(self) -> Iterable[Event]:
        helpers = self._admin.passed() if self._admin is not None else []
        return self._successor.start(
            lambda channel: self._generations.make_estate(
                channel, self._desk.passed(), self._announcer.manager, helpers, self._commons
            )
        )

    def _note_taken_over(self, places: Sequence[str], has_control: bool) -> None:
        self._generations.hand_over(places)
        if self._admin is not None:
            self._admin.hand_over(places)
        self._desk.note_successor(self._successor.pid, has_control)
        if self._pidfile is not None:
            self._pidfile.hand_over()
            self._pidfile = None
        self._announcer.hand_over(self._successor.pid)

    def _note_handed_over(self, pidfile: str) -> None:
        self._speak_for_the_service()
        self._announcer.announce(self._supervisor.announcement, time.monotonic())
        try:
            self._write_pidfile(pidfile)
        except UsageError as error:
            log.error("%s; serving without it", error)

    def _speak_for_the_service(self) -> None:
        self._announcer.begin()
        self._generations.keep_listeners(self._announcer.notifier)

    def _write_pidfile(self, path: str) -> None:
        if path:
            self._pidfile = Pidfile(path)

    def _tell_predecessor(self, predecessor: Predecessor, action: Action) -> None:
        match action:
            case actions.Report("ready"):
                places = self._generations.take_over(predecessor.estate.listeners)
                if self._admin is not None:
                    places += self._admin.take_over()
                takes_over = any(worker.takes_over for worker in self._supervisor.workers())
                predecessor.tell_serving(places, self._desk.take_over(), takes_over)
                pidfile = self._generations.get(1).settings.pidfile
                predecessor.wait_for_hand_over(self._sources, lambda: self._note_handed_over(pidfile))
            case actions.Exit(code, reason, detail) if code:
                predecessor.tell_failure(reason, detail)
            case _:
                return
        self._predecessor = None

    def _reopen_logs(self) -> None:
        helpers = [channel for helper in self._helpers for channel in helper.channels()]
        channels: list[Channel[Any]] = [*self._processes.channels(), *helpers]
        for file, descriptor in logs.reopen().items():
            for channel in channels:
                try:
                    channel.send(messages.LogReopened(os.fsencode(file)), descriptor)
                except ChannelBroken:
                    pass  # it is dying, and will write no more lines

    def _describe(self) -> dict[str, object]:
        return {
            "longest_turn": self._turns.longest,
            **status.describe(
                self._supervisor,
                self._processes,
                self._generations,
                self._performer.settings,
                self._performer.tally,
                self._started,
            ),
            "decisions": self._decisions.describe(),
            **(self._admin.addresses if self._admin is not None else {}),
        }


def _no_handler(*_: object) -> None:
    raise AssertionError("the master's requests are handled by process_request")
