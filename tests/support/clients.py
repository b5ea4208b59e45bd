"""Clients of the test application: one that talks line by line, and a steady crowd that counts what it got."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from prefork.testing import Address

TIME_LIMIT = 30.0


class LineClient:
    """A connection on which one asks line by line."""

    def __init__(self, address: Address, source: tuple[str, int] | None = None) -> None:
        self._begin(connect(address, source))

    @classmethod
    def over(cls, connection: socket.socket) -> Self:
        """Make a client of a connection that is there."""
        client = cls.__new__(cls)
        client._begin(connection)
        return client

    def _begin(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile("rb")

    def ask(self, line: str) -> str:
        """Send a line and return the answer; raise ConnectionError if the connection ends instead."""
        self.send(line)
        return self.read()

    def read(self) -> str:
        """Return the next answer; raise ConnectionError if the connection ends instead."""
        answer = self._file.readline()
        if not answer.endswith(b"\n"):
            raise ConnectionResetError("the connection ended instead of an answer")
        return answer.decode().rstrip("\n")

    def send(self, line: str) -> None:
        """Send a line."""
        self._socket.sendall(line.encode() + b"\n")

    def begin(self, text: str) -> None:
        """Send what is no whole line."""
        self._socket.sendall(text.encode())

    def wait_for_end(self) -> None:
        """Return when the server has closed the connection."""
        try:
            while self._file.read(4096):
                pass
        except ConnectionResetError:
            pass

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(address: Address, source: tuple[str, int] | None = None) -> socket.socket:
    """Open a stream connection to an address as the server harness gives it, from an address of one's own if given."""
    if isinstance(address, str):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(TIME_LIMIT)
        try:
            client.connect(address)
        except BaseException:
            client.close()
            raise
        return client
    return socket.create_connection(address, TIME_LIMIT, source)


def ask_once(address: Address, line: str) -> str:
    """Open a connection, ask one question, hang up."""
    with LineClient(address) as client:
        return client.ask(line)


def accepts(path: Path) -> bool:
    """Say whether somebody listens on a socket file: it is there a moment before that."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def eventually(reached: Callable[[], bool], seconds: float = TIME_LIMIT) -> None:
    """Ask until it is so: for what the server says to somebody who asks, and to nobody else.

    With a breath between two questions: who asks without one takes the processor from those who are to bring it about.
    """
    breath = threading.Event()
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it never came to that"
        breath.wait(0.005)


class Crowd:
    """Clients that open short connections, one after another, until told to stop."""

    def __init__(self, address: Address, question: str) -> None:
        self._address = address
        self._question = question
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.answers: Counter[str] = Counter()  # under the lock
        self.failures: list[str] = []  # under the lock
        self._forgotten = 0  # how often; under the lock
        self._enough = threading.Condition(self._lock)
        self.threads: list[threading.Thread] = []

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                forgotten = self._forgotten
            try:
                answer = ask_once(self._address, self._question)
            except OSError as error:
                with self._lock:
                    self.failures.append(repr(error))
                if isinstance(error, ConnectionRefusedError):
                    return  # nobody is there any more
                continue
            with self._lock:
                if forgotten == self._forgotten:  # else it was asked before
                    self.answers[answer] += 1
                    self._enough.notify_all()

    def wait_for_more(self, count: int = 50) -> None:
        """Return when so many more requests have been answered."""
        with self._lock:
            wanted = self.answers.total() + count
            assert self._enough.wait_for(lambda: self.answers.total() >= wanted, TIME_LIMIT), self.failures

    def wait_until_refused(self) -> None:
        """Return when every client has been refused."""
        for thread in self.threads:
            thread.join(TIME_LIMIT)
            assert not thread.is_alive(), self.failures

    def forget(self) -> None:
        """Count only what is asked from now on."""
        with self._lock:
            self._forgotten += 1
            self.answers.clear()


@contextmanager
def steady_load(address: Address, question: str = "version", clients: int = 8) -> Iterator[Crowd]:
    """Keep so many clients busy during the block; afterwards nobody is left."""
    crowd = Crowd(address, question)
    crowd.threads = [threading.Thread(target=crowd._run) for _ in range(clients)]
    for thread in crowd.threads:
        thread.start()
    try:
        yield crowd
    finally:
        crowd._stop.set()
        for thread in crowd.threads:
            thread.join(2 * TIME_LIMIT)
