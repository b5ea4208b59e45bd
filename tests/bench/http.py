"""HTTP beside gunicorn's threads: wrk asks the standard library's handler under prefork, and a WSGI application.

    python -m tests.bench.http [--seconds N] [--rounds N] [--json FILE]

prefork is not made for HTTP, and the standard library parses it slowly: this shows what that costs. Medians over the
rounds.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.connections import ClientFailed
from tests.bench.contenders import ROOT, WORKERS, Contender, Running, able, prefork_contender
from tests.bench.rounds import machine, medians, options, turns

THREADS = 16
LOADS = {"kept connections": [], "a new connection for each request": ["-H", "Connection: close"]}


@contextmanager
def gunicorn(application: str, workers: int, *options: str) -> Iterator[Running]:
    """Run gunicorn with threads; it is ready when it has answered once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        descriptor, port = listener.fileno(), listener.getsockname()[1]
        command = [sys.executable, "-m", "gunicorn", "-k", "gthread", "-w", str(workers), "--threads", str(THREADS)]
        command += ["-b", f"fd://{descriptor}", "--log-level", "warning", *options, application]
        process = subprocess.Popen(command, cwd=ROOT, pass_fds=[descriptor])
    try:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert client.recv(100)
        yield Running(port, process.pid)
    finally:
        process.terminate()
        process.wait(30)


CONTENDERS = [
    prefork_contender("http.server's handler", "tests.bench.hello:HelloHandler"),
    Contender("gunicorn gthread", lambda: gunicorn("tests.bench.hello:application", WORKERS)),
]


@dataclass(frozen=True)
class Figures:
    """One round of one server under one load."""

    cpu_us: float
    rate: float
    p99_ms: float


def measure(contender: Contender, seconds: int, options: list[str]) -> Figures:
    with contender.start() as server:
        ask(server.port, 1, options)
        before = server.cpu()
        count, p99 = ask(server.port, seconds, options)
        return Figures((server.cpu() - before) / count * 1e6, count / seconds, p99)


def ask(port: int, seconds: int, options: list[str]) -> tuple[int, float]:
    """Have wrk ask; return how many requests were answered, and the 99th percentile in ms. Raise ClientFailed."""
    command = ["wrk", "-t", "1", "-c", "16", "-d", f"{seconds}s", "--latency", *options, f"http://127.0.0.1:{port}/"]
    report = subprocess.run(command, capture_output=True, text=True, check=False)
    count, p99 = re.search(r"(\d+) requests in", report.stdout), re.search(r"99%\s+([\d.]+)(us|ms|s)", report.stdout)
    if count is None or p99 is None or "Non-2xx" in report.stdout or "Socket errors" in report.stdout:
        raise ClientFailed(f"wrk: status {report.returncode}\n{report.stdout}{report.stderr}")
    return int(count[1]), float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]]


def main() -> int:
    parser = options("HTTP beside gunicorn's threads.", seconds=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    contenders = able(CONTENDERS)
    plain = {}
    for load, extra in LOADS.items():
        rows: dict[str, list[Figures]] = {one.name: [] for one in contenders}
        for contender in turns(contenders, asked.rounds):
            rows[contender.name].append(measure(contender, asked.seconds, extra))
        print(f"{load} ({machine()}):\n\n| server | CPU us/request | requests/s | p99 ms |\n|---|---|---|---|")
        for name, figures in rows.items():
            cpu, rate, p99 = medians(figures, "cpu_us", "rate", "p99_ms")
            print(f"| {name} | {cpu:.0f} | {rate:.0f} | {p99:.1f} |")
        print()
        plain[load] = {name: [asdict(one) for one in figures] for name, figures in rows.items()}
    if asked.json:
        asked.json.write_text(json.dumps({"machine": machine(), "figures": plain}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
