"""What a connection costs: server CPU per request, and requests a second, with redis-benchmark as the client.

    python -m tests.bench.connections [REQUESTS]

The client is usually the bottleneck, and machines are noisy: compare the rows of one run, not two runs.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from prefork import testing
from tests.support.addresses import host_and_port

ALONE = """
import socketserver
from tests.bench.pong import PongHandler
class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 1024
    daemon_threads = True
with Server(("127.0.0.1", 0), PongHandler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""
LOADS = {"a connection per request": ["-k", "0"], "kept connections": []}


@dataclass
class Running:
    port: int
    pids: list[int]

    def cpu(self) -> float:
        times = [psutil.Process(pid).cpu_times() for pid in self.pids]
        return sum(time.user + time.system for time in times)


@contextmanager
def standard_library() -> Iterator[Running]:
    root = Path(__file__).resolve().parent.parent.parent
    with subprocess.Popen([sys.executable, "-c", ALONE], stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        yield Running(int(process.stdout.readline()), [process.pid])
        process.kill()


@contextmanager
def ours(workers: int) -> Iterator[Running]:
    with testing.serve("tests.bench.pong:PongHandler", workers=workers) as server:
        _, port = host_and_port(server)
        yield Running(port, [server.pid, *(worker["pid"] for worker in server.workers())])


def load(server: Running, requests: int, options: list[str]) -> tuple[float, float]:
    """Requests a second, and microseconds of CPU per request."""
    command = ["redis-benchmark", "-p", str(server.port), "-c", "50", "-t", "ping_inline", "--csv", *options]
    subprocess.run([*command, "-n", str(requests // 10)], capture_output=True, check=True)
    before = server.cpu()
    done = subprocess.run([*command, "-n", str(requests)], capture_output=True, check=True, text=True)
    rate = float(done.stdout.splitlines()[-1].split(",")[1].strip('"'))
    return rate, (server.cpu() - before) / requests * 1e6


def main(requests: int) -> int:
    if shutil.which("redis-benchmark") is None:
        print("redis-benchmark is not installed (tests/setup installs it)")
        return 1
    servers: dict[str, Callable[[], AbstractContextManager[Running]]] = {
        "socketserver.ThreadingTCPServer": standard_library,
        "prefork, 1 worker": lambda: ours(1),
        "prefork, 2 workers": lambda: ours(2),
    }
    for kind, options in LOADS.items():
        print(f"\n{kind:34} requests/s   CPU us/request")
        for name, serving in servers.items():
            with serving() as server:
                rate, cpu = load(server, requests, options)
            print(f"{name:34} {rate:10.0f} {cpu:16.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000))
