"""A thread of a pool: it carries what it has taken, whatever the handler does, until that has ended or is parked."""

from __future__ import annotations

import itertools
import logging
import select
import threading

from prefork.serving.base import BaseServer
from prefork.serving.cutting import cut, discard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from prefork.serving.accepting import Intake
    from prefork.serving.conversation import Conversation
    from prefork.serving.pool import Pool

log = logging.getLogger("prefork.serving")

_numbers = itertools.count(1)


class PoolThread(threading.Thread):
    """A thread of a pool. Its row is the pool's smallest number that no other living thread of it has."""

    def __init__(self, pool: Pool, row: int) -> None:
        super().__init__(name=f"prefork-{next(_numbers)}", daemon=True)
        self.pool = pool
        self.row = row
        self._turn = threading.Lock()  # held but for the moment when this follower is called
        self._turn.acquire()
        # Written under the pool's lock:
        self.request: Any = None  # what it carries
        self.number = 0  # of that, if it was left to the deputy
        # Written by this thread:
        self.failed = False
        self.listener = 0  # of what it carries
        self.accepted: Any = None  # as it came from there; a stage may have wrapped it
        self.conversation: Conversation | None = None  # what it carries, if that can be parked
        self.messages = 0  # served of it in a row
        self._poll = select.poll()

    def run(self) -> None:
        self.pool._work(self)

    def call(self) -> None:
        """Wake this follower. With the pool's lock."""
        if self._turn.locked():
            self._turn.release()

    def await_call(self, seconds: float) -> bool:
        """Wait for a call; say whether there was one. Without the lock."""
        return self._turn.acquire(timeout=seconds)

    def forget_call(self) -> None:
        """Be ready for the next call, if there was another since this follower woke. With the lock."""
        self._turn.acquire(blocking=False)

    def exchange(self, request: Any) -> None:
        """Carry the connection as this object from now on (this thread only)."""
        with self.pool._lock:
            self.request = request
            aborted = self.pool._aborted
        if aborted:
            cut(request)

    def sees(self, descriptor: int, milliseconds: int) -> bool:
        """Wait, for so long, for something to read."""
        self._poll.register(descriptor, select.POLLIN)
        try:
            return bool(self._poll.poll(milliseconds))
        finally:
            self._poll.unregister(descriptor)

    def carry(self, intake: Intake, request: Any, client_address: Any) -> None:
        """Serve one connection, whatever its handler does."""
        self.failed = False
        self.listener = intake.index
        self.accepted = request
        try:
            self.pool.activity.opened(self.row, intake.index, client_address)
            if self.pool.idle_timeout and hasattr(request, "settimeout"):  # a datagram has none
                request.settimeout(self.pool.idle_timeout)
            error = BaseServer._serve_request(intake.server, request, client_address)
            if error is not None and not went_idle(error):  # whatever raised it: a handler, a stage, a method of theirs
                self.failed = True
        except BaseException as error:
            self.failed = True
            self._end_escaped(error, intake.server, request, client_address)
        finally:
            self._park_or_close(request)

    def refuse(self, intake: Intake, request: Any, client_address: Any) -> None:
        """Close a connection that is over a limit, as one that was accepted and not served."""
        activity, admission = self.pool.activity, self.pool.admission
        activity.opened(self.row, intake.index, client_address)
        activity.refused(self.row)
        discard(request)
        activity.closed(self.row, failed=False)
        if admission is not None:
            admission.ended(request)

    def carry_on(self, conversation: Conversation) -> None:
        """Serve what a parked connection has to say."""
        self.failed = False
        self.conversation = conversation
        self.accepted = conversation.accepted
        conversation.thread = self
        try:
            self._show(conversation)
            conversation.go_on()
        except BaseException as error:
            self.failed = True
            self._end_escaped(error, conversation.server, conversation.request, conversation.client_address)
        finally:
            self._park_or_close(conversation.accepted)

    def _show(self, conversation: Conversation) -> None:
        activity, listener, client_address = self.pool.activity, conversation.listener, conversation.client_address
        if conversation.arriving:
            conversation.arriving = False
            activity.taken_over(self.row, listener, client_address, conversation.opened_at)
        else:
            activity.resumed(self.row, listener, client_address, conversation.kept)

    def _park_or_close(self, accepted: Any) -> None:
        conversation, self.conversation, self.messages = self.conversation, None, 0
        self.accepted = None
        if conversation is None or not conversation.parked:
            if conversation is not None and conversation.moved:
                self.pool.activity.handed_over(self.row)
            else:
                self.pool.activity.closed(self.row, self.failed)
            if self.pool.admission is not None:
                self.pool.admission.ended(accepted)
            return
        conversation.kept = self.pool.activity.parked(self.row)
        if not self.pool.park(self, conversation):
            conversation.leaving = True
            self.carry_on(conversation)

    def _end_escaped(self, error: BaseException, server: Any, request: Any, client_address: Any) -> None:
        """Report what no hook of the server caught, and close its connection: in vain if the hook for that raised."""
        self.pool.report(error, client_address, server)
        try:
            server.shutdown_request(request)
        except BaseException as second:
            log.error("shutdown_request failed: %s: %s; the connection is cut", type(second).__name__, second)
            discard(request)


def current_pool_thread() -> PoolThread | None:
    """Return the calling thread if it is one of a pool."""
    thread = threading.current_thread()
    return thread if isinstance(thread, PoolThread) else None


def note_refused() -> None:
    """Tell that the connection of the calling thread is not served, if that is a thread of a pool."""
    if (thread := current_pool_thread()) is not None:
        thread.pool.activity.refused(thread.row)


def went_idle(error: BaseException | None) -> bool:
    """Say whether this ended the calling thread's connection because it was silent for as long as it may be."""
    thread = current_pool_thread()
    # As a socket raises it; what the system says about a connection of the handler's own has a number.
    timed_out = isinstance(error, TimeoutError) and error.errno is None
    return timed_out and thread is not None and thread.pool.idle_timeout > 0


def log_escaped(error: BaseException, client_address: object, server: object) -> None:
    """Log what came out of a server's hooks; the standard library's loop would have ended with it."""
    if isinstance(error, SystemExit):
        log.warning("handler called sys.exit(%r): only its connection ends", error.code)
    else:
        log.error("serving failed: %s: %s; connection closed", type(error).__name__, error, exc_info=error)
