"""Applications built in this process on listeners of their own, and everything undone that building leaves behind."""

import os
import signal
import socket
import socketserver
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from prefork.address import parse_bind
from prefork.config.settings import Settings
from prefork.serving import base
from prefork.system.sockets import Listener
from prefork.worker import guards, services
from prefork.worker.application import Application, WorkerInfo, load
from prefork.worker.gate import Gate, gates
from prefork.worker.services import Service

PATIENCE = 30.0


class Notes:
    """An Activity that remembers, and lets a test wait for what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[object, ...]] = []
        self._condition = threading.Condition()

    def opened(self, row: int, listener: int, client_address: object) -> None:
        self._note("opened", row, listener)

    def closed(self, row: int, failed: bool, listener: int | None = None, since: float | None = None) -> None:
        self._note("closed", row, failed)

    def identified(self, row: int, client_address: object) -> None:
        self._note("identified", row, client_address)

    def refused(self, row: int, listener: int | None = None) -> None:
        self._note("refused", row)

    def parked(self, row: int) -> None:
        self._note("parked", row)

    def resumed(self, row: int, listener: int, client_address: object, kept: object) -> None:
        self._note("resumed", row, listener)

    def handed_over(self, row: int) -> None:
        self._note("handed over", row)

    def taken_over(self, row: int, listener: int, client_address: object, opened_at: float) -> None:
        self._note("taken over", row, listener)

    def message_ended(self, row: int, served: bool = True) -> None:
        pass

    def message_began(self, row: int) -> None:
        self._note("message", row)

    def load_changed(self, busy: int | None) -> None:
        pass

    def less_busy(self) -> float:
        return 0.0

    def tagged(self, row: int, text: str) -> None:
        self._note("tagged", row, text)

    def extended(self, row: int, seconds: float) -> None:
        self._note("extended", row, seconds)

    def _note(self, *line: object) -> None:
        with self._condition:
            self.lines.append(line)
            self._condition.notify_all()

    def count(self, what: str) -> int:
        return [line[0] for line in self.lines].count(what)

    def wait_until(self, so: Callable[[], bool]) -> bool:
        with self._condition:
            return self._condition.wait_for(so, PATIENCE)

    def wait_until_quiet(self) -> bool:
        """Wait until every connection that was noted has ended."""
        return self.wait_until(lambda: self.count("opened") == self.count("closed") > 0)

    def wait_for(self, *line: object) -> bool:
        return self.wait_until(lambda: line in self.lines)


class Running:
    """An application at work in this process, as a worker's main thread has it."""

    def __init__(self, application: Application, services: list[Service], notes: Notes) -> None:
        self.application = application
        self.services = services
        self.notes = notes
        self.changed = threading.Condition()

    def start(self) -> None:
        for service in self.services:
            service.start(self._note_change)

    def _note_change(self) -> None:
        with self.changed:
            self.changed.notify_all()

    @property
    def accepting(self) -> bool:
        return any(service.accepting for service in self.services)

    @property
    def open_connections(self) -> int:
        return sum(service.open_connections for service in self.services)

    def drain(self, *finish: int) -> None:
        for service in self.services:
            service.drain(frozenset(finish))

    def wait_until(self, so: Callable[[], bool]) -> bool:
        with self.changed:
            return self.changed.wait_for(so, PATIENCE)

    def wait_until_stopped(self) -> bool:
        return self.wait_until(lambda: not self.accepting)

    def wait_until_empty(self) -> bool:
        return self.wait_until(lambda: not self.accepting and not self.open_connections)

    def leave(self) -> None:
        """What a worker does at its end; fails if something is left."""
        self.drain()
        for service in self.services:
            service.abort()
        assert self.wait_until_empty()
        for service in self.services:
            service.close()


class Workshop:
    """Makes listeners, modules and applications; undoes them in the reverse order."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stack = ExitStack()
        self.listeners: list[Listener] = []
        self.notes = Notes()

    def module(self, source: str, name: str = "app") -> None:
        path = self.directory / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))

    def listen(self, *texts: str) -> list[Listener]:
        """Bind as the master does: port 0 is chosen here, and the listener's address says which."""
        for text in texts:
            self.listeners.append(self._listener(text))
        return self.listeners

    def _listener(self, text: str) -> Listener:
        address = parse_bind(text)
        family = socket.AF_UNIX if address.path else socket.AF_INET6 if ":" in address.host else socket.AF_INET
        datagrams = address.kind in ("udp", "unixgram")
        bound = socket.socket(family, socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM)
        self.stack.callback(bound.close)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place = "\0" + address.path[1:] if address.path.startswith("@") else address.path
        bound.bind(place or (address.host, address.port))
        if not datagrams:
            bound.listen(100)
        bound.setblocking(False)
        if not address.path:
            address = parse_bind(f"{text.rpartition(':')[0]}:{bound.getsockname()[1]}")
        return Listener(address, bound, index=len(self.listeners))

    def settings(self, target: str, **options: Any) -> Settings:
        options.setdefault("threads", 4)
        options.setdefault("pythonpath", (str(self.directory),))
        return Settings(target=target, **options)

    def load(self, target: str, **options: Any) -> Application:
        return load(self.settings(target, **options), self.listeners)

    def build(self, target: str, **options: Any) -> Running:
        settings = self.settings(target, **options)
        application = load(settings, self.listeners)
        services = application.build(self.listeners, settings, self.notes, WorkerInfo(3, 2, os.getpid()))
        return Running(application, services, self.notes)

    def run(self, target: str, **options: Any) -> Running:
        running = self.build(target, **options)
        running.start()
        self.stack.callback(running.leave)
        return running

    def connect(self, index: int = 0) -> socket.socket:
        bound = self.listeners[index].socket
        client = socket.socket(bound.family, bound.type)
        self.stack.callback(client.close)
        client.settimeout(PATIENCE)
        if bound.type == socket.SOCK_DGRAM and bound.family == socket.AF_UNIX:
            client.bind("")
        client.connect(bound.getsockname())
        return client

    def ask(self, text: bytes = b"x", index: int = 0) -> bytes:
        with self.connect(index) as client:
            client.sendall(text)
            return client.recv(65536)


@pytest.fixture(autouse=True)
def undo_what_a_worker_changes_for_good(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    modules = set(sys.modules)
    for owner, name in (
        (os, "unlink"),
        (os, "remove"),
        (signal, "signal"),
        (socketserver.BaseServer, "handle_error"),
        (base.BaseServer, "_log_error"),
        (socketserver, "_ServerSelector"),
        (base, "_ServerSelector"),
    ):
        monkeypatch.setattr(owner, name, vars(owner)[name])
    monkeypatch.setattr(services, "_LAST_WAIT", PATIENCE)
    prepared, prepare = [], Gate.prepare

    def note_prepared(gate: Gate) -> None:
        prepared.append(gate)
        prepare(gate)

    monkeypatch.setattr(Gate, "prepare", note_prepared)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    for gate in prepared:
        gate.release()
    guards._protected.clear()
    gates.clear()
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path)
    with workshop.stack:
        yield workshop
