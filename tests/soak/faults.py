"""What is done to the server of a soak. Each is a method of `Saboteur`, by name in a schedule that a seed decides."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from prefork.errors import PreforkError
from prefork.testing import Address
from tests.soak.history import Fault, History
from tests.soak.master import Master
from tests.support.application import write_application
from tests.support.clients import LineClient
from tests.support.processes import without_descriptors

# A handler for each kind of listener: datagrams are answered with what they say, so that a client knows its answer. On
# the Unix socket connections are parked between messages, and handed over when their worker leaves; what they remember
# is the last question, which must never come twice.
APPLICATION = """
from prefork.serving import MessageRequestHandler


class Datagram(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(self.request[0], self.client_address)


class StreamOrDatagram:
    def __new__(cls, request, client_address, server):
        kind = Datagram if isinstance(request, tuple) else Handler
        return kind(request, client_address, server)


class Messages(MessageRequestHandler):
    last = ""

    def handle_message(self):
        word, _, rest = self.rfile.readline().decode().strip().partition(" ")
        if word == "echo" and rest != self.last:
            self.last = rest
            self.wfile.write(f"{rest}\\n".encode())

    def hand_over(self):
        return self.last.encode()

    def take_over(self, state):
        self.last = state.decode()


def make(address):
    return Messages if isinstance(address, str) else StreamOrDatagram
"""
STOPPED = 3.0  # seconds; longer than the heartbeat_timeout of the server


class Saboteur:
    """Does one fault at a time, and notes when."""

    # May lose what is in flight in one worker, and that worker for a while.
    COSTLY = ("kill_worker", "stop_worker", "exit_in_handler", "crash_in_handler", "term_worker")
    # Tell workers to drain.
    DRAINING = ("term_worker", "reload", "reload_broken_code", "scale_down", "kill_mold", "upgrade")
    ASKING = ("scale_up",)
    FREE = (
        "kill_mold",
        "reload",
        "reload_broken_code",
        "upgrade",
        "upgrade_to_broken_code",
        "scale_up",
        "scale_down",
        "stop_master",
        "raise_in_handler",
        "take_descriptors",
        "flood",
        "hostile_control",
        "reopen_logs",
        "hang_up_in_the_middle",
        "reset",
        "half_close",
        "garbage_instead_of_tls",
    )

    def __init__(
        self, master: Master, streams: Address, tls: Address, project: Path, seed: int, history: History
    ) -> None:
        self._master = master
        self._address = streams
        self._tls = tls
        self._project = project
        self._random = random.Random(seed)
        self._history = history
        self._version = 1

    def do(self, number: int, kind: str) -> None:
        began = time.monotonic()
        act: Callable[[], None] = getattr(self, f"_{kind}")
        try:
            act()
        except (PreforkError, OSError, IndexError) as error:  # no worker serves, or the master does not answer
            self._history.note_wrong(f"fault {number}, {kind}, could not be done at {time.monotonic():.2f}: {error!r}")
        self._history.faults.append(
            Fault(
                number, kind, kind in self.COSTLY, kind in self.DRAINING, kind in self.ASKING, began, time.monotonic()
            )
        )

    def _a_worker(self) -> int:
        pid: int = self._random.choice(self._master.workers())["pid"]
        return pid

    def _kill_worker(self) -> None:
        os.kill(self._a_worker(), signal.SIGKILL)

    def _stop_worker(self) -> None:
        os.kill(self._a_worker(), signal.SIGSTOP)
        wait(STOPPED + 1)

    def _term_worker(self) -> None:
        os.kill(self._a_worker(), signal.SIGTERM)

    def _exit_in_handler(self) -> None:
        self._say("exit 3")

    def _crash_in_handler(self) -> None:
        self._say("abort")

    def _raise_in_handler(self) -> None:
        self._say("raise soaked")

    def _say(self, line: str) -> None:
        try:
            with LineClient(self._address) as client:
                client.send(line)
                client.wait_for_end()
        except OSError:
            pass  # it may be the very thing that was asked for

    def _kill_mold(self) -> None:
        if (mold := self._master.mold()) is not None:
            with suppress(ProcessLookupError):
                os.kill(mold, signal.SIGKILL)

    def _reload(self) -> None:
        self._try_with_new_code(self._master.reload)

    def _reload_broken_code(self) -> None:
        self._try_with_broken_code(self._master.reload)

    def _upgrade(self) -> None:
        self._try_with_new_code(self._master.upgrade)

    def _upgrade_to_broken_code(self) -> None:
        self._try_with_broken_code(self._master.upgrade)

    def _try_with_new_code(self, order: Callable[[], None]) -> None:
        self._version += 1
        write_code(self._project, self._version)
        self._try(order)

    def _try_with_broken_code(self, order: Callable[[], None]) -> None:
        write_code(self._project, self._version, "\n)\n")
        self._try(order)
        write_code(self._project, self._version)

    def _scale_up(self) -> None:
        if self._master.status()["wanted"] < 6:
            self._master.signal(signal.SIGTTIN)

    def _scale_down(self) -> None:
        if self._master.status()["wanted"] > 2:
            self._master.signal(signal.SIGTTOU)

    def _stop_master(self) -> None:
        self._master.signal(signal.SIGSTOP)
        wait(STOPPED)
        self._master.signal(signal.SIGCONT)

    def _take_descriptors(self) -> None:
        try:
            with without_descriptors(self._a_worker()), ExitStack() as connections:
                for _ in range(20):
                    connections.enter_context(socket.create_connection(self._address, 10))  # type: ignore[arg-type]  # streams are on TCP
                wait(1.0)
        except ProcessLookupError:
            pass  # it has left meanwhile

    def _flood(self) -> None:
        with ExitStack() as connections:
            for _ in range(100):
                connections.enter_context(socket.create_connection(self._address, 10))  # type: ignore[arg-type]  # as above

    def _hang_up_in_the_middle(self) -> None:
        with LineClient(self._address) as client:
            client.send("echo " + "x" * 100_000)

    def _reset(self) -> None:
        for _ in range(20):
            with socket.create_connection(self._address, 10) as client:  # type: ignore[arg-type]  # as above
                client.sendall(b"echo nobody waits for this\n")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _half_close(self) -> None:
        """Send half a question and the end of what there is to say."""
        for _ in range(20):
            with LineClient(self._address) as client:
                client._socket.sendall(b"echo half")
                client._socket.shutdown(socket.SHUT_WR)
                client.wait_for_end()

    def _garbage_instead_of_tls(self) -> None:
        for _ in range(20):
            with LineClient(self._tls) as client:
                client.send("GET / HTTP/1.0")
                client.wait_for_end()

    def _hostile_control(self) -> None:
        for data in (b'{"command": ', b"\xff\xfe\n", b"{}" * 50_000):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"\0prefork/{os.getuid()}/{self._master.pid}")
                try:
                    client.sendall(data)
                except OSError:
                    pass  # hung up on, as it should be

    def _reopen_logs(self) -> None:
        self._master.signal(signal.SIGUSR1)

    def _try(self, order: Callable[[], object]) -> None:
        try:
            order()
        except PreforkError:
            pass  # given up or superseded: the clients are the judges


def wait(seconds: float) -> None:
    """Let time pass: a soak, unlike a test, is made of it."""
    threading.Event().wait(seconds)


def write_code(project: Path, version: int, extra: str = "") -> None:
    """Write the application of the soak."""
    write_application(project, str(version), APPLICATION + extra)


def make_schedule(seed: int, count: int) -> list[str]:
    """Return the kinds of faults in the order in which the seed wants them."""
    chosen = random.Random(seed)
    return [chosen.choice((*Saboteur.COSTLY, *Saboteur.FREE)) for _ in range(count)]
