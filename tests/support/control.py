"""A control server that says what a test tells it to say: for the client's side of the protocol."""

import json
import os
import socket
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from prefork.cli.discovery import ControlPlace

TIME_LIMIT = 30.0


@dataclass(frozen=True)
class AfterRequest:
    """Say nothing more until somebody has asked this."""

    command: str


HANG_UP = b""
SILENCE = AfterRequest("the end of the test")
Answer = Mapping[str, Any] | bytes | AfterRequest


class FakeControlServer:
    """Listens like the master of this very process, and plays the answers to each command.

    An answer is a message, raw bytes, HANG_UP or AfterRequest; after the last one it hangs up.
    """

    def __init__(self, answers: Mapping[str, Iterable[Answer]], place: ControlPlace | None = None) -> None:
        self.place = place or ControlPlace(uid=os.geteuid(), pid=os.getpid())
        self.requests: list[dict[str, Any]] = []  # appended by the threads under _asked
        self._answers = {command: list(answer) for command, answer in answers.items()}
        self._asked = threading.Condition()
        self._over = False  # under _asked
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.place.address)
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._asked:
            self._over = True
            self._asked.notify_all()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            if not (line := lines.readline()):
                return
            request = json.loads(line)
            with self._asked:
                self.requests.append(request)
                self._asked.notify_all()
            for answer in self._answers.get(request["command"], []):
                if isinstance(answer, AfterRequest):
                    self._wait_for(answer.command)
                else:
                    connection.sendall(answer if isinstance(answer, bytes) else json.dumps(answer).encode() + b"\n")

    def _wait_for(self, command: str) -> None:
        with self._asked:
            self._asked.wait_for(lambda: self._over or command in [one["command"] for one in self.requests], TIME_LIMIT)
