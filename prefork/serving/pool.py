"""Threads that take turns at accepting: a leader waits, takes one request, and promotes a follower before it serves.

One thread carries a connection from accept to close, so nothing is handed over and no queue hides how busy we are: when
every thread carries one, nobody accepts. Threads are started when the leader finds no follower, up to `threads`, and
leave after `idle_time` without work; the most recent follower leads next, so that those who are not needed can leave.

The leader is the only one that waits or accepts. `_leader` is it, or None while every thread is busy (or the pool has
stopped): then the first that becomes free leads. Whoever changes `_leader` holds the lock and makes sure that the one
it names knows. The pool stops accepting exactly once: `_accepting` becomes false when what was being accepted has been
counted, so that afterwards `open_connections` only falls.
"""

from __future__ import annotations

import itertools
import logging
import threading

from prefork.serving.accepting import Intake, Intakes
from prefork.serving.activity import NoActivity
from prefork.serving.base import BaseServer
from prefork.serving.cutting import cut, discard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from prefork.serving.activity import Activity
    from prefork.serving.limits import Admission

log = logging.getLogger("prefork.serving")

IDLE_TIME = 30.0
_numbers = itertools.count(1)


class PoolThread(threading.Thread):
    """A thread of a pool. Its row is the pool's smallest number that no other living thread of it has."""

    def __init__(self, pool: Pool, row: int) -> None:
        super().__init__(name=f"prefork-{next(_numbers)}", daemon=True)
        self.pool = pool
        self.row = row
        self.turn = threading.Lock()  # held but for the moment when this follower is called
        self.turn.acquire()
        self.request: Any = None  # what it carries; written under the pool's lock
        self.failed = False  # written by this thread

    def run(self) -> None:
        self.pool._work(self)

    def exchange(self, request: Any) -> None:
        """Carry the connection as this object from now on (this thread only)."""
        with self.pool._lock:
            self.request = request
            aborted = self.pool._aborted
        if aborted:
            cut(request)


class Pool:
    """The threads of one process, shared by all servers that are added before it starts."""

    def __init__(
        self,
        threads: int,
        activity: Activity | None = None,
        *,
        idle_time: float = IDLE_TIME,
        idle_timeout: float = 0.0,
        admission: Admission | None = None,
        report: Callable[[BaseException, Any, Any], object] | None = None,
    ) -> None:
        self.activity = activity or NoActivity()
        self.idle_time = idle_time
        self.idle_timeout = idle_timeout  # seconds that a connection may be silent; 0 is for ever
        self.admission = admission
        self.on_change: Callable[[], object] = lambda: None
        """Called, by any thread, when accepting has stopped and when after that the last connection has ended."""
        self.stopped = threading.Event()  # accepting has stopped
        self.ended = threading.Event()  # and the last connection has ended
        self.aborted = False  # connections that were open have been cut
        self._report = report or log_escaped
        self._intakes: list[Intake] = []
        self._wait: Intakes | None = None  # while it accepts
        self._ready: list[Intake] = []  # what the last wait found; the leader's
        self._short_of_threads = False  # said once an episode; the leader's
        self._lock = threading.Lock()  # of everything below
        self._accepting = False
        self._draining = False  # read by the leader without the lock
        self._aborted = False
        self._leader: PoolThread | None = None
        self._followers: list[PoolThread] = []
        self._busy: set[PoolThread] = set()
        self._free_rows = list(range(threads - 1, -1, -1))

    def add(self, server: Any, listener: int = 0) -> None:
        """Let the pool serve this server's requests; its listener should not block."""
        make_intake = Intake if self.admission is None else self.admission.intake
        self._intakes.append(make_intake(server, listener))

    def start(self) -> None:
        """Begin to accept."""
        self._wait = Intakes(self.admission)
        for intake in self._intakes:
            self._wait.add(intake)
        with self._lock:
            self._accepting = True
            first = self._choose_leader()
        assert first is not None
        first.start()

    @property
    def accepting(self) -> bool:
        """Whether a connection may still be accepted; false for good once it is false after a drain."""
        return self._accepting

    @property
    def open_connections(self) -> int:
        """The number of connections (or datagrams) being carried."""
        return len(self._busy)

    def drain(self, finish: Collection[int] = ()) -> None:
        """Stop accepting: at once, or for the listeners in `finish` when their queue is empty. Does not wait.

        Repeated, it can only hurry.
        """
        with self._lock:
            if not self._accepting:
                return
            for intake in self._intakes:
                intake.begin_drain(intake.index in finish and (intake.finishing or not self._draining))
            self._draining = True
            # With a leader, it is the leader that may be in the middle of accepting. Without, each thread is busy.
            stopped = self._leader is None and not self._unfinished()
            if stopped:
                self._stop()
            elif self._wait is not None:
                self._wait.wake()
        if stopped:
            self._tell_change()

    def abort(self) -> None:
        """Stop accepting, and end every open connection under its handler's hands."""
        self.drain()
        self.aborted = True
        with self._lock:
            self._aborted = True  # for connections that are just being exchanged for another object
            requests = [thread.request for thread in self._busy]
        for request in requests:
            cut(request)

    def cut_row(self, row: int, still: Callable[[], bool]) -> None:
        """End the connection that the thread of this row carries, if it is `still` the one that is meant."""
        with self._lock:
            requests = [thread.request for thread in self._busy if thread.row == row and still()]
        for request in requests:
            cut(request)

    def _work(self, me: PoolThread) -> None:
        """The life of a thread: it begins as the leader."""
        try:
            while True:
                taken = self._lead(me)
                if taken is None:
                    return
                self._carry(me, *taken)
                if not self._wait_for_turn(me):
                    return
        finally:
            self._leave(me)

    def _lead(self, me: PoolThread) -> tuple[Intake, Any, Any] | None:
        """Take one request and let another thread lead; None: the pool has stopped accepting."""
        while True:
            intake = self._next_intake()
            if intake is None:
                break
            taken = intake.take()
            if taken is not None:
                self._hand_over(me, taken[0])
                return intake, *taken
            if self._wait is not None and intake.exhausted:
                self._wait.let_rest(intake)
        with self._lock:
            self._stop()
        self._tell_change()
        return None

    def _next_intake(self) -> Intake | None:
        """Wait until a listener may have a request. What came together with a drain stays in its queue."""
        while not self._draining:
            if self._ready:
                return self._ready.pop()
            assert self._wait is not None
            self._ready = self._wait.wait()
        return self._next_unfinished()

    def _next_unfinished(self) -> Intake | None:
        """Return a listener whose queue may not be empty yet: only a failed accept tells, so nothing is waited for."""
        assert self._wait is not None
        while unfinished := self._unfinished():
            self._wait.only(unfinished)
            for intake in unfinished:
                if not self._wait.rests(intake):
                    return intake
            self._wait.wait()
        return None

    def _unfinished(self) -> list[Intake]:
        return [intake for intake in self._intakes if intake.finishing and not intake.empty]

    def _hand_over(self, me: PoolThread, request: Any) -> None:
        """Count the request and promote another thread, before a byte of it is read."""
        with self._lock:
            me.request = request
            self._busy.add(me)
            stopped = self._draining and not self._unfinished()
            if stopped:
                self._stop()
            fresh = None if stopped else self._choose_leader()
        self._start_thread(fresh)
        if stopped:
            self._tell_change()

    def _choose_leader(self) -> PoolThread | None:
        """Promote a follower, or return a new thread to be started as the leader. Called with the lock."""
        if self._followers:
            self._leader = self._followers.pop()
            self._leader.turn.release()
            return None
        self._leader = PoolThread(self, self._free_rows.pop()) if self._free_rows else None
        return self._leader

    def _start_thread(self, fresh: PoolThread | None) -> None:
        if fresh is None:
            return
        try:
            fresh.start()
        except RuntimeError as error:
            self._do_without(fresh, error)
        else:
            self._short_of_threads = False

    def _do_without(self, fresh: PoolThread, error: RuntimeError) -> None:
        """The system has no thread for us: those that there are go on."""
        if not self._short_of_threads:
            log.warning("cannot start a thread: %s; serving with the %d there are", error, len(self._busy))
        self._short_of_threads = True
        with self._lock:
            self._free_rows.append(fresh.row)
            self._leader = None
            stopped = self._draining and not self._unfinished()
            if stopped:
                self._stop()
            elif self._followers:
                self._choose_leader()
        if stopped:
            self._tell_change()

    def _carry(self, me: PoolThread, intake: Intake, request: Any, client_address: Any) -> None:
        """Serve one connection, whatever its handler does."""
        me.failed = False
        try:
            self.activity.opened(me.row, intake.index, client_address)
            if self.idle_timeout and hasattr(request, "settimeout"):  # a datagram has none
                request.settimeout(self.idle_timeout)
            BaseServer._serve_request(intake.server, request, client_address)
        except BaseException as error:
            me.failed = True
            self._end_escaped(error, intake.server, request, client_address)
        finally:
            self.activity.closed(me.row, me.failed)
            if self.admission is not None:
                self.admission.ended(request)

    def _end_escaped(self, error: BaseException, server: Any, request: Any, client_address: Any) -> None:
        """Report what no hook of the server caught, and close its connection: in vain if the hook for that raised."""
        self._report(error, client_address, server)
        try:
            server.shutdown_request(request)
        except BaseException as second:
            log.error("shutdown_request failed: %s: %s; the connection is cut", type(second).__name__, second)
            discard(request)

    def _wait_for_turn(self, me: PoolThread) -> bool:
        """Become the leader, sooner or later; False: not needed any more."""
        with self._lock:
            me.request = None
            self._busy.discard(me)
            ended = not self._accepting and not self._busy
            if self._accepting and self._leader is None:
                self._leader = me
                return True
            if self._accepting:
                self._followers.append(me)
        if ended:
            self._tell_change()
        return self._accepting and self._follow(me)

    def _follow(self, me: PoolThread) -> bool:
        if not me.turn.acquire(timeout=self.idle_time):
            with self._lock:
                if me in self._followers:
                    self._followers.remove(me)
                    return False
            me.turn.acquire()  # called at this very moment
        return self._accepting

    def _leave(self, me: PoolThread) -> None:
        """Give everything back, however the thread came to its end: an asynchronous exception may come anywhere."""
        with self._lock:
            me.request = None
            ended = me in self._busy and not self._accepting and len(self._busy) == 1
            self._busy.discard(me)
            if me in self._followers:
                self._followers.remove(me)
            self._free_rows.append(me.row)
            self._free_rows.sort(reverse=True)
            fresh = self._choose_leader() if self._leader is me else None
        self._start_thread(fresh)
        if ended:
            self._tell_change()

    def _stop(self) -> None:
        """Accept nothing more; who waits for its turn may leave. Called with the lock."""
        self._accepting = False
        self._leader = None
        for follower in self._followers:
            follower.turn.release()
        self._followers.clear()
        if self._wait is not None:
            self._wait.close()
            self._wait = None

    def _tell_change(self) -> None:
        self.stopped.set()
        if not self._busy:
            self.ended.set()
        self.on_change()


def went_idle(error: BaseException | None) -> bool:
    """Say whether this ended the calling thread's connection because it was silent for as long as it may be."""
    thread = threading.current_thread()
    # As a socket raises it; what the system says about a connection of the handler's own has a number.
    timed_out = isinstance(error, TimeoutError) and error.errno is None
    return timed_out and isinstance(thread, PoolThread) and thread.pool.idle_timeout > 0


def log_escaped(error: BaseException, client_address: object, server: object) -> None:
    """Log what came out of a server's hooks; the standard library's loop would have ended with it."""
    if isinstance(error, SystemExit):
        log.warning("handler called sys.exit(%r): only its connection ends", error.code)
    else:
        log.error("serving failed: %s: %s; connection closed", type(error).__name__, error, exc_info=error)
