"""Threads that take turns at accepting: a leader waits, takes one request and serves it, while a follower leads.

One thread carries a connection from accept to close, so nothing is handed over and no queue hides how busy we are: when
every thread carries one, nobody accepts. Threads are started when the leader finds no follower, up to `threads`, and
leave after `idle_time` without work; the most recent follower leads next, so that those who are not needed can leave.

The leader is the only one that waits or accepts. `_leader` is it, or None while every thread is busy, or a request was
left to the deputy, one of the followers (see promotion.py), or nobody is needed any more: then the first that becomes
free leads. Whoever changes `_leader` or `_deputy` holds the lock and calls the one it names. The pool stops accepting
exactly once: `_accepting` becomes false when what was being accepted has been counted, so that afterwards
`open_connections` only falls.

A connection with a message handler is *parked* between messages: the leader waits for it, too, and whoever leads when
it has something to say carries it from there. Its thread stays with it for the moment in which most clients send their
next message, if no other needs the thread.
"""

from __future__ import annotations

import logging
import threading

from prefork.serving.accepting import Intake, Intakes, OverLimit
from prefork.serving.activity import NoActivity
from prefork.serving.cutting import cut
from prefork.serving.interpreter import Interpreter
from prefork.serving.moving import ARRIVALS, Arrivals
from prefork.serving.parking import Parking
from prefork.serving.poolthread import PoolThread, log_escaped
from prefork.serving.promotion import TICK, Promotion
from prefork.serving.retry import Retry
from prefork.serving.shortage import ThreadShortage
from prefork.serving.spread import Spread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from prefork.serving.activity import Activity
    from prefork.serving.conversation import Conversation
    from prefork.serving.limits import Admission
    from prefork.serving.moving import Ferry

log = logging.getLogger("prefork.serving")

IDLE_TIME = 30.0
_STAY = 10  # milliseconds for which a thread stays with a connection that may soon say more
_CROWDED = 16_384  # messages after which it is tried again whether every client that talks can have a thread
_RUN = 16  # messages of one connection that may be served in a row while nobody looks after the others


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
        ferry: Ferry | None = None,
    ) -> None:
        self.activity = activity or NoActivity()
        self.idle_time = idle_time
        self.idle_timeout = idle_timeout  # seconds that a connection may be silent; 0 is for ever
        self.admission = admission
        self.ferry = ferry  # to and from other processes, for parked connections
        self.on_change: Callable[[], object] = lambda: None
        """Called by any thread: when `has_left()`, when accepting has stopped, when the last connection has ended."""
        self.stopped = threading.Event()  # accepting has stopped
        self.ended = threading.Event()  # and the last connection has ended
        self.aborted = False  # connections that were open have been cut
        self.report = report or log_escaped
        self._intakes: list[Intake] = []
        self._left_to_others: frozenset[int] = frozenset()  # listeners, by index
        self._moved = True  # the wait does not know yet; under the lock
        self._wait: Intakes | None = None  # while it accepts, or a connection may be parked
        self._ready: list[Intake | Conversation] = []  # what the last wait found; the leader's
        self._spread = Spread(self.activity)
        self._interpreter = Interpreter()
        self._lock = threading.Lock()  # of everything below
        self._shortage = ThreadShortage()
        self._accepting = False
        self._draining = False  # read by the leader without the lock
        self._aborted = False
        self._parting = False  # with connections that wait for their client; read without the lock
        self._parking = Parking(idle_timeout)  # open as long as `_wait`
        self._in_turn: list[Conversation] = []  # parked, and waiting for a thread only
        self._leader: PoolThread | None = None
        self._deputy: PoolThread | None = None
        self._promotion = Promotion()
        self._retry = Retry()
        self._followers: list[PoolThread] = []
        self._busy: set[PoolThread] = set()
        self._crowded = 0  # messages for which threads are taken to be short, because lately none was free
        self._free_rows = list(range(threads - 1, -1, -1))

    def add(self, server: Any, listener: int = 0, *, shared: bool = True) -> None:
        """Let the pool serve this server's requests; its listener should not block.

        `shared`: other processes take from it at the same time.
        """
        make_intake = Intake if self.admission is None else self.admission.intake
        intake = make_intake(server, listener)
        intake.may_be_left = intake.may_be_left and shared
        server._limits_peers = self.admission is not None
        self._intakes.append(intake)

    def start(self) -> None:
        """Begin to accept."""
        if self.ferry is not None:
            self._intakes.append(Arrivals(self.ferry, self._parking, self.admission))
        self._parking.open()
        self._wait = Intakes(self._parking, self.admission)
        with self._lock:
            self._serve_ours()
            self._accepting = True
            self.activity.load_changed(0)
            self._show_parked()
            first = self._choose_leader()
        assert first is not None
        first.start()

    def leave_to_others(self, listeners: frozenset[int]) -> None:
        """Serve all listeners but these from now on; a drain finishes them all the same. Does not wait."""
        with self._lock:
            self._left_to_others, self._moved = listeners, True
            if self._wait is not None:
                self._wait.wake()

    def has_left(self) -> bool:
        """Say whether nothing more will be taken from the listeners that are left to others; soon it is so."""
        with self._lock:
            if self._leader is None:
                self._serve_ours()
            return not self._moved

    def _serve_ours(self) -> bool:
        """Forget what is left to others, if that is due. Called with the lock, by the leader or while nobody leads."""
        if not self._moved or self._draining or self._wait is None:
            return False
        ours = [intake for intake in self._intakes if intake.index not in self._left_to_others]
        self._wait.serve(ours)
        self._ready = [source for source in self._ready if source in ours or not isinstance(source, Intake)]
        self._retry.forget()
        self._moved = False
        return True

    @property
    def accepting(self) -> bool:
        """Whether a connection may still be accepted; false for good once it is false after a drain."""
        return self._accepting

    @property
    def open_connections(self) -> int:
        """The number of connections (or datagrams) being carried, or parked."""
        with self._lock:
            return len(self._busy) + len(self._parking)

    def drain(self, finish: Collection[int] = ()) -> None:
        """Stop accepting: at once, or for the listeners in `finish` when their queue is empty. Does not wait.

        Repeated, it can only hurry.
        """
        with self._lock:
            if not self._accepting:
                return
            if self._leader is not None:
                finish = {*finish, ARRIVALS}  # who is on the way to us is taken over first: perhaps nobody else would
            for intake in self._intakes:
                intake.begin_drain(intake.index in finish and (intake.finishing or not self._draining))
            self._draining = True
            # With a leader, it is the leader that may be in the middle of accepting.
            stopped = self._leader is None and not self._unfinished()
            if stopped:
                self._stop_accepting()
            elif self._wait is not None:
                self._wait.wake()
        if stopped:
            self._tell_change()

    def hand_over(self, staying: Collection[int] = ()) -> None:
        """Let others take over what is parked, now and later, but not of the listeners `staying`. Does not wait."""
        with self._lock:
            if self.ferry is None or self._wait is None:
                return
            self._parking.begin_to_move(staying)
            self._wait.wake()

    def part(self) -> None:
        """End the connections that wait for their client's next message, now and later. Does not wait."""
        with self._lock:
            self._parting = True
            if self._wait is not None:
                self._wait.wake()

    def abort(self) -> None:
        """Stop accepting, and end every open connection under its handler's hands."""
        self.drain()
        self.aborted = True
        with self._lock:
            self._aborted = True  # for connections that are just being exchanged for another object
            requests = [*(thread.request for thread in self._busy), *self._parking.requests()]
        for request in requests:
            cut(request)

    def cut_row(self, row: int, still: Callable[[], bool]) -> None:
        """End the connection that the thread of this row carries, if it is `still` the one that is meant."""
        with self._lock:
            requests = [thread.request for thread in self._busy if thread.row == row and still()]
        for request in requests:
            cut(request)

    def tend(self) -> None:
        """Start the leader that the system had no thread for, if it has one now. To be called now and then."""
        if not self._shortage.lasts:
            return
        with self._lock:
            self._shortage.settle()
            missing = self._leader is None and self._is_needed()
            fresh = self._choose_leader() if missing else None
        if fresh is not None:
            self._start_thread(fresh)

    def await_message(self, me: PoolThread, conversation: Conversation) -> bool:
        """Say whether the connection has something to read; if not, it is to be parked, or is over."""
        if me.messages:
            self.activity.message_ended(me.row)
        conversation.descriptor = conversation.request.fileno()
        if conversation.descriptor < 0:
            return False  # its handler has closed it
        if conversation.due:
            conversation.due = False
        elif conversation.unread:
            conversation.parked = me.messages >= _RUN and self._leader is None
        elif self._parting:
            if not me.sees(conversation.descriptor, 0):
                conversation.parked = self._parking.is_to_move(conversation)
                return False
        else:
            conversation.parked = not (self._has_thread_to_spare() and me.sees(conversation.descriptor, _STAY))
        if conversation.parked:
            return False
        me.messages += 1
        conversation.spoken = True
        self.activity.message_began(me.row)
        return True

    def _has_thread_to_spare(self) -> bool:
        """Say whether others are looked after, and not by the last thread. Without the lock: it may be wrong now."""
        free = len(self._followers) + len(self._free_rows)
        return self._leader is not None and free > (len(self._busy) if self._crowded else 0)

    def _work(self, me: PoolThread) -> None:
        """The life of a thread: it begins as the leader."""
        try:
            while True:
                taken = self._lead(me)
                if taken is None:
                    return
                if isinstance(taken, tuple):
                    me.carry(*taken)
                else:
                    me.carry_on(taken)
                if not self._wait_for_turn(me):
                    return
        finally:
            self._leave(me)

    def _lead(self, me: PoolThread) -> tuple[Intake, Any, Any] | Conversation | None:
        """Take one request or message and see that another thread leads; None: nobody has to lead any more."""
        while True:
            source = self._next_source()
            if source is None:
                if not self._lead_without_listeners():
                    return None
            elif isinstance(source, Arrivals):
                arrived = source.arrive()
                if arrived is not None:
                    self._hand_over(me, arrived.request, arrived)
                    return arrived
                self._let_rest_if_exhausted(source)
            elif isinstance(source, Intake):
                if self._is_left_waiting(source):
                    continue
                try:
                    taken = source.take()
                except OverLimit as surplus:
                    me.refuse(source, *surplus.args)
                    continue
                if taken is not None:
                    self._hand_over(me, taken[0], source)
                    return source, *taken
                self._retry.note_in_vain(source)
                self._let_rest_if_exhausted(source)
            else:
                self._hand_over(me, source.request, source)
                return source

    def _let_rest_if_exhausted(self, intake: Intake) -> None:
        if self._wait is not None and intake.exhausted:
            self._wait.let_rest(intake)

    def _is_left_waiting(self, intake: Intake) -> bool:
        """Say whether what waits is better left in its queue, for a less busy worker or until nobody here computes.

        Of a queue that nobody else serves nothing is left, and a datagram has been served before one could have asked.
        """
        if intake is self._retry.tried or not intake.may_be_left or self._draining or self._wait is None:
            return False
        if self._interpreter.holds_back(intake, self._wait, self._busy, bool(self._ready)):
            return True
        return self._spread.leaves(intake, self._wait)

    def _next_source(self) -> Intake | Conversation | None:
        """Wait for a listener that may have a request, or a parked connection; None: no listener is left to serve."""
        while True:
            while self._ready:
                source = self._ready.pop()
                if not (self._draining and isinstance(source, Intake)):
                    return source  # but what came to a listener together with a drain stays in its queue
            if self._draining and self._accepting:
                assert self._wait is not None
                unfinished = self._unfinished()
                self._wait.only(unfinished)
                for intake in unfinished:
                    if not self._wait.rests(intake):
                        return intake  # only a failed accept tells that a queue is empty, so nothing is waited for
                if not unfinished:
                    return None
            self._look_around()

    def _look_around(self) -> None:
        """Wait until something is ready to be served, or expect it at once. What is put first is served last."""
        assert self._wait is not None
        with self._lock:
            in_turn, self._in_turn = self._in_turn, []
            over = self._parking.part_with_all() if self._parting else self._parking.expired()
            moving = self._parking.to_move() if self._may_hand_over() else []
            moved = self._moved and self._serve_ours()
            again = self._retry.choose(self._leader)
        if moved:
            self.on_change()
        self._ready = [*over, *moving, *in_turn]
        if again is not None:
            self._ready.append(again)
            return
        self._ready += self._wait.wait(at_once=bool(self._ready))

    def _may_hand_over(self) -> bool:
        """Say whether a parked connection can be handed over now. Called with the lock.

        Not while we take some over ourselves: they would come back to us.
        """
        if self._accepting or not self._parking.has_some_to_move:
            return False
        assert self._wait is not None
        assert self.ferry is not None
        return self._wait.sees_room(self.ferry.sending_end())

    def _lead_without_listeners(self) -> bool:
        """Stop accepting, and say whether parked connections still need a leader."""
        with self._lock:
            self._stop_accepting()
            needed = bool(self._parking)
        self._tell_change()
        return needed

    def _unfinished(self) -> list[Intake]:
        return [intake for intake in self._intakes if intake.finishing and not intake.empty]

    def _hand_over(self, me: PoolThread, request: Any, source: Intake | Conversation) -> None:
        """Count the request and promote another thread or leave that to the deputy, before a byte of it is read."""
        resumed = None if isinstance(source, Intake) else source
        with self._lock:
            me.request = request
            self._busy.add(me)
            self._show_load()
            if resumed is not None:
                self._parking.remove(resumed)
                self._show_parked()
            stopped = self._accepting and self._draining and not self._unfinished()
            if stopped:
                self._stop_accepting()
            fresh = None
            if not self._is_needed():
                self._dismiss()
            elif self._may_leave(resumed) and self._has_deputy():
                self._leader = None
                me.number = self._promotion.leave()
                self._retry.expect(source, me)
            else:
                self._retry.forget()
                fresh = self._choose_leader()
                if self._leader is None:
                    self._crowded = _CROWDED
        if fresh is not None:
            self._start_thread(fresh)
        if stopped:
            self._tell_change()

    def _may_leave(self, resumed: Conversation | None) -> bool:
        """Say whether the request may be left to the deputy. Called with the lock.

        A client that sends another message may soon send the next; its thread is to stay with it for that, unless there
        are more such clients than threads: then one of them serves one message after the other, whosever they are.
        """
        if self._promotion.is_due():
            return False
        if resumed is None or not resumed.spoken or resumed.hung_up or resumed.leaving or resumed.moving:
            return True
        self._crowded = max(0, self._crowded - 1)
        return self._crowded > 0

    def _has_deputy(self) -> bool:
        """Say whether a follower looks after a request that is left to it; appoint one if need be. With the lock."""
        if self._deputy is None and self._followers:
            self._deputy = self._followers[-1]
            self._promotion.appoint()
            for thread in self._busy:
                thread.number = 0  # left to another deputy, which has led since
            self._deputy.call()
        return self._deputy is not None

    def _show_load(self) -> None:
        if self._accepting:
            self.activity.load_changed(len(self._busy))

    def _show_parked(self) -> None:
        if self.ferry is not None and self._accepting:
            self.ferry.show(len(self._parking))

    def _choose_leader(self) -> PoolThread | None:
        """Promote a follower, or return a new thread to be started as the leader. Called with the lock."""
        if self._followers:
            self._leader = self._followers.pop()
            if self._leader is self._deputy:
                self._deputy = None
            self._leader.call()
            return None
        self._leader = PoolThread(self, self._free_rows.pop()) if self._free_rows else None
        return self._leader

    def _start_thread(self, fresh: PoolThread) -> None:
        try:
            fresh.start()
        except (RuntimeError, MemoryError) as error:
            self._do_without(fresh, error)
        else:
            if self._shortage.lasts:
                with self._lock:
                    self._shortage.succeeded()

    def _do_without(self, fresh: PoolThread, error: RuntimeError | MemoryError) -> None:
        """The system has no thread for us: those that there are go on."""
        with self._lock:
            self._shortage.failed(error, len(self._busy))
            self._free_rows.append(fresh.row)
            self._leader = None
            stopped = self._accepting and self._draining and not self._unfinished()
            if stopped:
                self._stop_accepting()
            elif self._followers:
                self._choose_leader()
        if stopped:
            self._tell_change()

    def park(self, me: PoolThread, conversation: Conversation) -> bool:
        """Let the connection wait for its client without this thread; False: it cannot, and is to be closed."""
        with self._lock:
            try:
                tell = self._parking.add(conversation)
            except OSError as error:
                log.warning("cannot park a connection: %s; it is closed", error.strerror)
                return False
            self._finish(me)
            self._show_parked()
            self._retry.forget()
            if conversation.unread:
                self._in_turn.append(conversation)
            if tell and self._leader is not None and self._wait is not None:
                self._wait.wake()
        return True

    def _wait_for_turn(self, me: PoolThread) -> bool:
        """Become the leader, sooner or later; False: not needed any more."""
        with self._lock:
            self._finish(me)
            self._show_load()
            needed = self._is_needed()
            if needed and self._leader is None:
                self._leader = me
                return True
            if needed:
                self._followers.append(me)
                self._tell_end()
            ended = not needed and self._is_over()
        if ended:
            self._tell_change()
        return needed and self._follow(me)

    def _tell_end(self) -> None:
        """Wake the leader if it waits for the end of somebody who computes. Called with the lock."""
        if self._interpreter.awaited and self._wait is not None:
            self._interpreter.awaited = False
            self._wait.wake()

    def _is_needed(self) -> bool:
        """Say whether there is something that a leader has to wait for. Called with the lock."""
        return self._accepting or len(self._parking) > 0

    def _finish(self, me: PoolThread) -> None:
        """Note that the thread carries nothing any more. Called with the lock."""
        me.request = None
        me.number = 0
        self._busy.discard(me)

    def _follow(self, me: PoolThread) -> bool:
        """Wait to be called, as the deputy or not; say whether to lead, or to leave."""
        patience = self.idle_time
        while True:
            called = me.await_call(patience)
            with self._lock:
                me.forget_call()  # the state tells what for
                if self._leader is me:
                    return True
                if me not in self._followers:
                    return False
                if self._deputy is me and self._must_take_over(me):
                    return True
                if self._deputy is me:
                    patience = TICK
                elif called or patience == TICK:
                    patience = self.idle_time
                else:
                    self._followers.remove(me)
                    return False

    def _must_take_over(self, me: PoolThread) -> bool:
        """What the deputy does every tick: lead, if nobody else will in time. Called with the lock."""
        left = [thread.number for thread in self._busy if thread.number]
        slow = self._promotion.is_overdue(left)
        quiet = self._promotion.is_quiet()
        if slow:
            self._promotion.begin_run()
        if self._leader is None and (slow or not left):
            self._followers.remove(me)
            self._deputy, self._leader = None, me
        elif self._leader is not None and (slow or quiet):
            self._deputy = None
        return self._leader is me

    def _leave(self, me: PoolThread) -> None:
        """Give everything back, however the thread came to its end: an asynchronous exception may come anywhere."""
        with self._lock:
            ended = me in self._busy and not self._accepting and len(self._busy) == 1
            self._finish(me)
            self._show_load()
            if me in self._followers:
                self._followers.remove(me)
            if self._deputy is me:
                self._deputy = None
            self._free_rows.append(me.row)
            self._free_rows.sort(reverse=True)
            missing = self._leader is me or (self._leader is None and self._is_needed())
            fresh = self._choose_leader() if missing else None
            ended = ended and self._is_over()
        if fresh is not None:
            self._start_thread(fresh)
        if ended:
            self._tell_change()

    def _stop_accepting(self) -> None:
        """Leave the listeners; who waits for his turn without need may leave. Called with the lock."""
        self._accepting = False
        self.activity.load_changed(None)
        if self.ferry is not None:
            self.ferry.show(None)
        if self._wait is not None:
            self._wait.only(())
        if not self._parking:
            self._dismiss()

    def _dismiss(self) -> None:
        """Let everybody leave who waits for a turn: there is nothing to wait for. Called with the lock."""
        self._leader = self._deputy = None
        for follower in self._followers:
            follower.call()
        self._followers.clear()
        self._is_over()

    def _is_over(self) -> bool:
        """Say whether the last connection has ended after the stop, and close the wait then. Called with the lock."""
        if self._accepting or self._busy or self._parking:
            return False
        if self._wait is not None:
            self._wait.close()
            self._parking.close()
            self._wait = None
        return True

    def _tell_change(self) -> None:
        self.stopped.set()
        if not self.open_connections:
            self.ended.set()
        self.on_change()
