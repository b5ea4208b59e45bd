"""How much memory 8 workers have together that serve an application of 300 MB, by the way they come by it.

    python -m tests.bench.memory [--rounds N]

The proportional set size of all processes when they are ready, and when each worker has served ten requests, of which
each reads a hundred records and collects the garbage: what a worker writes to, and be it a reference count, it no
longer shares.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from prefork import testing
from tests.bench.contenders import Running
from tests.bench.http import gunicorn
from tests.bench.rounds import machine, medians, options, turns
from tests.support.addresses import host_and_port

WORKERS = 8
REQUESTS = 10  # of each worker


@dataclass(frozen=True)
class Figures:
    """One round of one way, in MB."""

    ready: float
    used: float


def prefork_with(preload: str) -> Callable[[], AbstractContextManager[Running]]:
    @contextmanager
    def start() -> Iterator[Running]:
        with testing.serve("tests.bench.records:RecordHandler", workers=WORKERS, preload=preload) as server:
            yield Running(host_and_port(server)[1], server.pid)

    return start


def gunicorn_with(*options: str) -> Callable[[], AbstractContextManager[Running]]:
    return lambda: gunicorn("tests.bench.records:application", WORKERS, *options)


WAYS = {
    "prefork, from the mold": prefork_with("always"),
    "prefork, each worker by itself": prefork_with("never"),
    "gunicorn --preload": gunicorn_with("--preload"),
    "gunicorn, each worker by itself": gunicorn_with(),
}


def measure(start: Callable[[], AbstractContextManager[Running]]) -> Figures:
    with start() as server:
        ready = server.memory()
        served: dict[bytes, int] = {}
        while len(served) < WORKERS or min(served.values()) < REQUESTS:
            pid = ask(server.port)
            served[pid] = served.get(pid, 0) + 1
        return Figures(ready / 1e6, server.memory() / 1e6)


def ask(port: int) -> bytes:
    """Ask as either kind of server understands it; return the last line of the answer."""
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with client.makefile("rb") as answer:
            return answer.read().splitlines()[-1]


def main() -> int:
    asked = options("How much memory 8 workers have together.").parse_args()
    found: dict[str, list[Figures]] = {way: [] for way in WAYS}
    for way in turns(list(WAYS), asked.rounds):
        found[way].append(measure(WAYS[way]))
    print(f"{machine()}; {WORKERS} workers, medians of {asked.rounds} rounds\n")
    print("| the application is loaded | PSS when ready, MB | when each worker has served |\n|---|---|---|")
    for way, figures in found.items():
        ready, used = medians(figures, "ready", "used")
        print(f"| {way} | {ready:.0f} | {used:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
