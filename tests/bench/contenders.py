"""The servers that are compared, each started and ended in the same way, with all of their processes known."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from prefork import testing
from tests.support.addresses import host_and_port

ROOT = Path(__file__).resolve().parent.parent.parent
PEERS = Path(__file__).resolve().parent / "peers"
WORKERS = 2


@dataclass(frozen=True)
class Running:
    """A server under test: its port, and the process whose family it is."""

    port: int
    pid: int

    def processes(self) -> list[psutil.Process]:
        root = psutil.Process(self.pid)
        return [root, *root.children(recursive=True)]

    def cpu(self) -> float:
        """Return seconds of CPU, user and system, of all processes, the ended children of each included."""
        return sum(_of_living(one, lambda one: sum(one.cpu_times()[:4])) for one in self.processes())

    def memory(self) -> int:
        """Return the proportional set size of all processes, in bytes."""
        return int(sum(_of_living(one, lambda one: one.memory_full_info().pss) for one in self.processes()))


def own_cpu(process: psutil.Process) -> float:
    """Return seconds of CPU, user and system, without the process's children."""
    return sum(process.cpu_times()[:2])


def _of_living(process: psutil.Process, read: Callable[[psutil.Process], float]) -> float:
    try:
        return read(process)
    except psutil.NoSuchProcess:
        return 0.0  # a child for one connection, and its time is its parent's by now


@dataclass(frozen=True)
class Contender:
    name: str
    start: Callable[[], AbstractContextManager[Running]]
    needs: str = ""  # a program without which it cannot take part


def prefork_contender(name: str, handler: str, kind: str = "tcp") -> Contender:
    @contextmanager
    def start() -> Iterator[Running]:
        with testing.serve(handler, workers=WORKERS, bind=[f"{kind}://127.0.0.1:0"]) as server:
            yield Running(host_and_port(server)[1], server.pid)

    return Contender(f"prefork, {name}", start)


def peer_in_python(name: str) -> Contender:
    return Contender(name, lambda: _started([sys.executable, "-m", "tests.bench.peers.python", name]))


def peer_waiting(way: str, threads: int) -> Contender:
    command = [sys.executable, "-m", "tests.bench.peers.waiting", way, str(threads)]
    return Contender(f"{way}, {threads} threads", lambda: _started(command))


def peer_compiled(name: str, source: str, compiler: str, *arguments: str) -> Contender:
    @contextmanager
    def start() -> Iterator[Running]:
        with tempfile.TemporaryDirectory() as directory:
            program = Path(directory) / "pong"
            subprocess.run([compiler, *arguments, "-o", program, PEERS / source], check=True)
            with _started([str(program)]) as running:
                yield running

    return Contender(name, start, needs=compiler)


CONTENDERS = [
    prefork_contender("BaseRequestHandler", "tests.bench.pong:PongHandler"),
    prefork_contender("StreamRequestHandler", "tests.bench.pong:StreamPongHandler"),
    prefork_contender("MessageRequestHandler", "tests.bench.pong:MessagePongHandler"),
    peer_compiled("C, epoll", "pong.c", "cc", "-O2"),
    peer_compiled("Go, net", "pong.go", "go", "build"),
    peer_in_python("uvloop"),
    peer_in_python("asyncio"),
    peer_in_python("forked ThreadingTCPServer"),
    peer_in_python("ThreadingTCPServer"),
    peer_in_python("ForkingTCPServer"),
]


DATAGRAM_CONTENDERS = [
    prefork_contender("DnsHandler", "examples.dns:DnsHandler", "udp"),
    peer_compiled("C, recvfrom", "answer.c", "cc", "-O2"),
    peer_in_python("asyncio datagrams"),
    peer_in_python("UDPServer"),
    peer_in_python("ThreadingUDPServer"),
]


def add_only(parser: argparse.ArgumentParser) -> None:
    """Add the option whose value `able()` is given."""
    parser.add_argument("--only", default="", help="only servers whose name contains this")


def able(contenders: list[Contender], only: str = "") -> list[Contender]:
    """Return those that are asked for and whose tools are here, and say who is missing."""
    asked = [one for one in contenders if only in one.name]
    for one in asked:
        if one.needs and shutil.which(one.needs) is None:
            print(f"{one.name} does not take part: {one.needs} is not installed (tests/bench/setup installs it)")
    return [one for one in asked if not one.needs or shutil.which(one.needs) is not None]


@contextmanager
def _started(command: list[str]) -> Iterator[Running]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Running(int(process.stdout.readline()), process.pid)
        finally:
            process.stdin.close()
            process.wait(30)
