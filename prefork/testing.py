"""A real server for the length of a test:

    with prefork.testing.serve("app:Handler", workers=2) as server:
        with socket.create_connection(server.address) as client:
            ...

It is the command `prefork run` in a process of its own, with real workers, on a port that the kernel chose.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from prefork.address import BindAddress, parse_bind
from prefork.cli.client import Connection
from prefork.errors import PreforkError
from prefork.launch import command_line

Address = tuple[str, int] | str

_FURTHER = re.compile(r"(tcp|udp)://.*#\d+")  # another socket of a place that has several


class ServerFailed(PreforkError):
    """The server did not do what the test waited for; the message ends with its log."""


class Server:
    """A running server. `process` is its master."""

    def __init__(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        cwd: str | None,
        time_limit: float,
        pass_descriptors: Sequence[int],
    ) -> None:
        self._time_limit = time_limit
        self._news = threading.Condition()
        self._lines: list[str] = []  # this and the next two under _news
        self._begun = b""  # a line whose end has not come yet
        self._ended = False
        self.process = subprocess.Popen(
            words,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=pass_descriptors,
        )
        assert self.process.stderr is not None
        self._pipe = self.process.stderr.fileno()
        os.set_blocking(self._pipe, False)
        self._reader = threading.Thread(target=self._read_log, name="prefork log", daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        waiting = select.poll()
        waiting.register(self._pipe, select.POLLIN)
        while not self._ended:
            waiting.poll()
            with self._news:
                self._read_what_is_there()

    def _read_what_is_there(self) -> None:
        """Take all that the server has written by now. Called under _news."""
        while not self._ended:
            try:
                data = os.read(self._pipe, 65536)
            except BlockingIOError:
                return
            *lines, self._begun = (self._begun + data).split(b"\n")
            if not data:
                self._ended = True
                lines += [self._begun] if self._begun else []
            self._lines += [line.decode(errors="replace") + "\n" for line in lines]
            self._news.notify_all()

    @property
    def pid(self) -> int:
        """The pid of the master."""
        return self.process.pid

    @property
    def log(self) -> str:
        """The lines that the server has written to standard error so far."""
        with self._news:
            self._read_what_is_there()
            return "".join(self._lines)

    @property
    def address(self) -> Address:
        """Where the first listener can be reached: (host, port), or the path of a Unix socket."""
        return self.addresses[0]

    @property
    def addresses(self) -> list[Address]:
        """Where each listener can be reached, in the order of `bind`. An abstract name starts with a NUL."""
        told = [listener["address"] for listener in self.status()["listeners"]]
        return [_reachable(parse_bind(text)) for text in told if not _FURTHER.fullmatch(text)]

    def status(self) -> dict[str, Any]:
        """Return what `prefork status --json` prints."""
        status: dict[str, Any] = self._ask({"command": "status"})
        return status

    def workers(self, state: str = "serving") -> list[dict[str, Any]]:
        """Return the workers in a state, as in the status."""
        return [worker for worker in self.status()["workers"] if worker["state"] == state]

    def reload(self) -> dict[str, Any]:
        """Do what `prefork reload` does, and return when the new code serves. Raise NotDone with the reason if not."""
        verdict: dict[str, Any] = self._ask({"command": "reload"})
        return verdict

    def scale(self, workers: int) -> None:
        """Do what `prefork scale` does, and return when as many workers serve."""
        self._ask({"command": "scale", "workers": workers})

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the master."""
        self.process.send_signal(number)

    def _ask(self, request: dict[str, Any]) -> Any:
        with Connection.to_pid(self.pid, self._time_limit) as connection:
            return connection.ask(request)

    def wait_for_log(self, text: str, count: int = 1) -> str:
        """Wait until `count` lines of the log contain `text`; return the last of them."""
        with self._news:
            self._wait(lambda: self._ended or len(self._with(text)) >= count, f"{text!r} in the log")
            found = self._with(text)
        if len(found) < count:
            raise ServerFailed(f"the server ended without logging {text!r}; its log:\n{self.log}")
        return found[count - 1]

    def _with(self, text: str) -> list[str]:
        return [line for line in self._lines if text in line]

    def _wait(self, reached: Callable[[], bool], what: str) -> None:
        if not self._news.wait_for(reached, self._time_limit):
            log = "".join(self._lines)
            raise ServerFailed(f"no {what} within {self._time_limit:g} s; the log of the server:\n{log}")

    def wait(self) -> int:
        """Wait until the master has ended; return its exit status."""
        try:
            code = self.process.wait(self._time_limit)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"the server goes on; its log:\n{self.log}") from None
        self._reader.join(self._time_limit)
        return code

    def stop(self, quick: bool = False) -> int:
        """Stop the server as SIGTERM (or SIGINT) does; return its exit status."""
        if self.process.poll() is None:
            self.signal(signal.SIGINT if quick else signal.SIGTERM)
        return self.wait()


@contextmanager
def serve(
    target: object,
    *,
    bind: Sequence[str] = ("tcp://127.0.0.1:0",),
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    time_limit: float = 30.0,
    wait_until_ready: bool = True,
    pass_descriptors: Sequence[int] = (),
    **options: object,
) -> Iterator[Server]:
    """Run a server around a block; when the block is entered, it is ready.

    `options` are those of `prefork run` with underscores (`workers=2`, `drain_timeout=1`); workers default to 2. `env`
    adds to the environment of the server, `pass_descriptors` stay open in it (for `fd://N`), `time_limit` bounds every
    wait. Raise ServerFailed if the server does not get ready.
    """
    words = command_line(target, {"workers": 2, "bind": list(bind), **options})
    server = Server(words, {**os.environ, **(env or {})}, cwd, time_limit, pass_descriptors)
    try:
        if wait_until_ready:
            server.wait_for_log(" ready: ")
        yield server
    finally:
        _end(server)


def _end(server: Server) -> None:
    """Leave no process behind, even when the test has broken the server."""
    if server.process.poll() is None:
        server.signal(signal.SIGINT)
        try:
            server.process.wait(server._time_limit)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()
    server._reader.join(server._time_limit)
    if server.process.stderr is not None and not server._reader.is_alive():
        server.process.stderr.close()


def _reachable(address: BindAddress) -> Address:
    if address.path:
        return "\0" + address.path[1:] if address.path.startswith("@") else address.path
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return host, address.port
