"""Nobody who asks, scrapes or reads the log holds the master up, however slow or hostile they are.

What the master does itself may take longer on a machine that is busy, so each claim has several attempts.
"""

import fcntl
import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.process.test_control import connect_to, control, prefork
from tests.support.admin import address_of, fetch
from tests.support.clients import accepts, ask_once, eventually, steady_load

pytestmark = pytest.mark.timeout(600)

LIMIT = 0.05
ATTEMPTS = 5
Hostile = Callable[[Server, ExitStack], None]
ANYWHERE = "tcp://127.0.0.1:0"


def ask_half(server: Server, stack: ExitStack) -> None:
    """Send half a line of JSON, from as many clients as may be connected."""
    for _ in range(40):
        stack.enter_context(connect_to(server)).sendall(b'{"command": "sta')


def ask_without_end(server: Server, stack: ExitStack) -> None:
    """Send a gigabyte in one line, as far as it is taken."""
    for _ in range(10):
        client = stack.enter_context(connect_to(server))
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                client.sendall(b"x" * 1_000_000)


def say_nothing(server: Server, stack: ExitStack) -> None:
    for _ in range(1000):
        stack.enter_context(connect_to(server))


def ask_all_at_once(server: Server, stack: ExitStack) -> None:
    """Ask for the status with as many clients as may be connected, and do not read it."""
    for _ in range(3):
        clients = [stack.enter_context(connect_to(server)) for _ in range(40)]
        for client in clients:
            client.sendall(b'{"command": "status"}\n')
        for client in clients:
            client.close()


def scrape_slowly(server: Server, stack: ExitStack) -> None:
    """Read the metrics byte by byte, more clients than the helper has threads."""
    clients = []
    for _ in range(40):
        client = stack.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.settimeout(30)
        client.connect(address_of(server))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        clients.append(client)
    for _ in range(3):
        told = fetch_uptime(server)
        for client in clients:
            assert client.recv(1)
        eventually(lambda told=told: fetch_uptime(server) > told + 1)  # type: ignore[misc]  # a byte a second


def fetch_uptime(server: Server) -> float:
    text = fetch(address_of(server), "/metrics")[1]
    return float(text.partition("\nprefork_uptime_seconds ")[2].partition("\n")[0])


@pytest.mark.parametrize("hostile", [ask_half, ask_without_end, say_nothing, ask_all_at_once, scrape_slowly])
def test_who_asks_does_not_hold_the_master_up(serve: Serve, hostile: Hostile) -> None:
    assert any(longest_turn_beside(serve, hostile) < LIMIT for _ in range(ATTEMPTS))


def longest_turn_beside(serve: Serve, hostile: Hostile) -> float:
    with serve(workers=4, admin=ANYWHERE) as server, steady_load(server.address) as crowd, ExitStack() as stack:
        hostile(server, stack)
        crowd.wait_for_more()
        longest: float = server.status()["longest_turn"]
    assert crowd.failures == []
    return longest


@contextmanager
def unread_pipe(path: Path) -> Iterator[None]:
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    yield
    os.close(reader)


def test_who_does_not_read_the_log_does_not_hold_the_master_up(serve: Serve, project: Path) -> None:
    assert any(longest_turn_unread(serve, project / f"log{number}") < LIMIT for number in range(ATTEMPTS))


def longest_turn_unread(serve: Serve, log: Path) -> float:
    with unread_pipe(log), serve(workers=2, log_file=str(log), canary_time=0, wait_until_ready=False) as server:
        eventually(lambda: control(server, "health").returncode == 0)
        for _ in range(30):
            assert control(server, "drain").returncode == 0
            assert control(server, "undrain").returncode == 0
        longest: float = server.status()["longest_turn"]
    return longest


@contextmanager
def unread_terminal() -> Iterator[int]:
    """A terminal on which somebody has pressed Ctrl-S."""
    reader, terminal = pty.openpty()
    yield terminal
    os.close(terminal)
    os.close(reader)


def test_a_terminal_that_shows_nothing_holds_nobody_up(project: Path) -> None:
    command = [sys.executable, "-m", "prefork", "run", "app:Handler", "-w", "2", "--access-log", "-"]
    with unread_terminal() as terminal:
        process = subprocess.Popen([*command, "-b", f"unix:{project}/socket"], stderr=terminal, cwd=project)
        try:
            eventually(lambda: accepts(project / "socket"))
            for _ in range(500):
                assert ask_once(f"{project}/socket", "version") == "1"
            status = json.loads(prefork("status", "--json", "--pid", str(process.pid)).stdout)
        finally:
            process.terminate()
            assert process.wait(30) == 0
    assert status["totals"]["log_lines_lost"] > 0
