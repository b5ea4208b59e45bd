"""What `prefork top` shows comes from here: threads that ask a server, follow it and give it orders until stopped."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prefork.cli.choice import Choice
from prefork.cli.client import Connection
from prefork.cli.discovery import ControlPlace
from prefork.cli.replies import StatusReply, read_status
from prefork.errors import NoSuchServer, PreforkError

INTERVAL = 1.0  # seconds between two readings
_FAREWELL = 1.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A status, and how many connections per second were accepted and failed since the one before."""

    status: StatusReply
    accepted_rate: float | None
    failed_rate: float | None
    rates: Mapping[int, float]
    """Of each worker, by its pid."""


class Stopped(Exception):
    """Nobody watches any more."""


class Feed:
    """Calls back from its threads: `on_reading` and `on_decision` as things happen, `on_lost` with the reason."""

    def __init__(
        self,
        place: ControlPlace,
        choice: Choice,
        on_reading: Callable[[Reading], object],
        on_decision: Callable[[str, float], object],
        on_lost: Callable[[str], object],
    ) -> None:
        self._place = place  # replaced by whichever thread finds that the server has another
        self._choice = choice
        self._on_reading = on_reading
        self._on_decision = on_decision
        self._on_lost = on_lost
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._previous: tuple[float, StatusReply] | None = None  # of the asking thread

    def start(self) -> None:
        self._run(self._keep_asking)
        self._run(self._keep_following)

    def stop(self) -> None:
        """End all threads; an order that is under way goes on without us, and who waits for a silent server with us."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(_FAREWELL)

    def order(
        self, request: Mapping[str, object], done: Callable[[Any], object], failed: Callable[[str], object]
    ) -> None:
        """Give an order, and call `done` with its result or `failed` with the reason."""
        self._run(lambda: self._carry_out(request, done, failed))

    # Follower, for connections that wait

    def hear(self, text: str, at: float, counts: Mapping[str, int]) -> None:
        self.wait()

    def wait(self) -> None:
        if self._stopped.is_set():
            raise Stopped

    def _run(self, work: Callable[[], None]) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=work, name="prefork top", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _keep_asking(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._connect() as connection:
                    status = read_status(connection.ask({"command": "status"}))
                self._on_reading(self._compare(status))
            except PreforkError as error:
                self._on_lost(str(error))
            self._stopped.wait(INTERVAL)

    def _keep_following(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._connect() as connection:
                    connection.ask({"command": "follow"}, _Decisions(self._on_decision, self))
            except PreforkError:
                pass  # the other thread says so
            except Stopped:
                return
            self._stopped.wait(INTERVAL)

    def _carry_out(
        self, request: Mapping[str, object], done: Callable[[Any], object], failed: Callable[[str], object]
    ) -> None:
        try:
            with self._connect() as connection:
                done(connection.ask(request, self))
        except PreforkError as error:
            failed(str(error))
        except Stopped:
            pass

    def _connect(self) -> Connection:
        """Connect to the server that was found, or to one that has taken its place."""
        try:
            return Connection(self._place)
        except NoSuchServer:
            connection = self._choice.connect()
            self._place = connection.place
            return connection

    def _compare(self, status: StatusReply) -> Reading:
        now, previous = time.monotonic(), self._previous
        self._previous = (now, status)
        if previous is None or previous[1].pid != status.pid:
            return Reading(status, None, None, {})
        passed, before = now - previous[0], previous[1]
        accepted = {worker.pid: worker.accepted for worker in before.workers}
        rates = {
            worker.pid: (worker.accepted - accepted[worker.pid]) / passed
            for worker in status.workers
            if worker.pid is not None and worker.pid in accepted
        }
        accepted_rate, failed_rate = (
            (status.totals.get(name, 0) - before.totals.get(name, 0)) / passed for name in ("accepted", "failed")
        )
        return Reading(status, accepted_rate, failed_rate, rates)


class _Decisions:
    """The follower of the follow command."""

    def __init__(self, on_decision: Callable[[str, float], object], feed: Feed) -> None:
        self._on_decision = on_decision
        self._feed = feed

    def hear(self, text: str, at: float, counts: Mapping[str, int]) -> None:
        self._on_decision(text, at)

    def wait(self) -> None:
        self._feed.wait()
