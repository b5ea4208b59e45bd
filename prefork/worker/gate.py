"""The gate between one listener and the servers that adopted it: it counts who is accepting, and closes for good.

A foreign server accepts with its own code in its own thread, so it cannot be told to stop in the middle. What it can be
is refused: every attempt to take something from the listener passes the gate. When the gate has closed and the last
attempt is over, nothing more will come from this listener, whatever the server's loop does.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import select
import socket
import threading

from prefork.serving.accepting import Rest
from prefork.serving.pause import EXHAUSTED
from prefork.serving.poolthread import current_pool_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from prefork.worker.connections import Connections

    T = TypeVar("T")


class State(enum.Enum):
    OPEN = "open"
    FINISHING = "finishing"  # until the queue is empty; the master lets nothing new in
    LEFT = "left"


class Gate:
    """Used by the threads of one listener's servers and by the worker's main thread."""

    def __init__(self, index: int, descriptor: int, datagrams: bool, name: str = "", shared: bool = True) -> None:
        self.index = index
        self.name = name
        self.descriptor = descriptor  # of the adopted socket, or of the copy that the server waits for
        self.datagrams = datagrams
        self.shared = shared  # with other workers at the same time
        found = os.fstat(descriptor)
        self.inode = found.st_dev, found.st_ino
        self.timeout: float | None = None  # what the server believes its socket has
        self.rest = Rest()  # when the process had no descriptor or memory left for a connection
        self.waiting_threads: set[int] = set()  # those whose loop waits for us, so that no attempt may block
        self.connections: Connections | None = None  # of the foreign server behind it
        self.on_left: Callable[[], object] = lambda: None
        """Called once, by any thread, when the gate has closed."""
        self.on_change: Callable[[], object] = lambda: None
        """Called when the last attempt is over after that."""
        self.dismissed = threading.Event()  # the server has been told to end its loop
        self._lock = threading.Lock()  # of the state, the attempts and the use of the descriptor
        self._state = State.OPEN
        self._attempts = 0
        self._wakeup = -1
        self._silence: socket.socket | None = None

    def prepare(self) -> None:
        """Open what must not be shared with other workers: called after the fork."""
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Never readable, and never a connection: stands in for the listener once this process has left it.
        self._silence = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    @property
    def state(self) -> State:
        return self._state

    @property
    def accepting(self) -> bool:
        """Whether something may still be taken from the listener."""
        return self._state is not State.LEFT or self._attempts > 0

    @property
    def wakeup(self) -> int:
        """A descriptor that is readable once the gate is not open any more."""
        return self._wakeup

    def finish(self) -> None:
        """Let the servers take what is queued, then close."""
        with self._lock:
            if self._state is not State.OPEN:
                return
            self._state = State.FINISHING
        self._wake()
        self._leave_if_empty()

    def leave(self) -> None:
        """Close: nothing more is taken."""
        with self._lock:
            if self._state is State.LEFT:
                return
            self._state = State.LEFT
            if not self.datagrams:  # the handlers of datagrams answer through their listener
                self._silence_descriptors()
        self.on_left()
        self._wake()  # after that: a loop looks only once whether it is to end

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Surround the taking of a request: until it is over and its request counted, the listener counts as used."""
        with self._lock:
            self._attempts += 1
        try:
            yield
        finally:
            with self._lock:
                self._attempts -= 1
                over = self._state is State.LEFT and not self._attempts
            if over:
                self.on_change()

    def take(self, once: Callable[[], T]) -> T:
        """Take something from the queue, as a socket with the server's time-out would.

        In a loop that waits before it takes the time-out does not count: a lost race must not block it.
        """
        never_blocks = self._is_expected_not_to_block()
        while not self._has_left():
            try:
                return self._take_once(once)
            except BlockingIOError:
                if never_blocks:
                    raise
            except OSError:
                if not self._has_left():
                    raise
                break  # the descriptor was silenced meanwhile
            self._wait()
        number = errno.EAGAIN if never_blocks else errno.EINVAL  # the latter as from a listener that was shut down
        raise OSError(number, os.strerror(number))

    def _take_once(self, once: Callable[[], T]) -> T:
        """Make one attempt, and learn from it."""
        finishing = self._state is State.FINISHING
        try:
            taken = once()
        except BlockingIOError:
            if finishing:
                self.leave()
            raise
        except OSError as error:
            if error.errno in EXHAUSTED:
                self.rest.begin(error, self.name)
            raise
        if self.rest.until:
            self.rest.note_success(self.name)
        if finishing:
            self._leave_if_empty()
        return taken

    def close(self, descriptor: int, close_socket: Callable[[], object]) -> None:
        """Close an adopted socket, whose number may then belong to somebody else."""
        with self._lock:
            gates.pop(descriptor, None)
            if descriptor == self.descriptor:
                self.descriptor = next(iter(self._descriptors()), -1)
            close_socket()

    def release(self) -> None:
        """Give back what `prepare` opened; the servers' loops have ended."""
        with self._lock:
            if self._silence is not None:
                self._silence.close()
                os.close(self._wakeup)
                self._silence = None

    def _has_left(self) -> bool:
        return self._state is State.LEFT

    def _is_expected_not_to_block(self) -> bool:
        waits_itself = threading.get_ident() in self.waiting_threads
        return self.timeout == 0 or waits_itself or current_pool_thread() is not None

    def _leave_if_empty(self) -> None:
        """Close if there is nothing to take. A sealed Unix listener is readable for ever: there, only trying tells."""
        with self._lock:
            if self.descriptor < 0:
                return
            poll = select.poll()
            poll.register(self.descriptor, select.POLLIN)
            empty = not poll.poll(0)
        if empty:
            self.leave()

    def _wait(self) -> None:
        if self.descriptor < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        if not poll.poll(None if self.timeout is None else 1000 * self.timeout):
            raise TimeoutError("timed out")

    def _wake(self) -> None:
        with self._lock:
            if self._silence is not None:
                os.eventfd_write(self._wakeup, 1)

    def _silence_descriptors(self) -> None:
        for descriptor in self._descriptors():
            if self._silence is not None:
                os.dup2(self._silence.fileno(), descriptor, inheritable=False)

    def _descriptors(self) -> list[int]:
        """Return every descriptor of the listener: a server may have made copies."""
        return [descriptor for descriptor, gate in list(gates.items()) if gate is self]


gates: dict[int, Gate] = {}
"""By the descriptor of an adopted socket: what object holds it may change (TLS wraps it), its number stays."""
