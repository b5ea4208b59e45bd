"""What more workers and more open connections cost: each request, and the master.

    python -m tests.bench.growth [--requests N] [--rounds N]

Clients are parked (`MessageRequestHandler`, 8 threads a worker); redis-benchmark asks beside them, with new connections
one after another and 50 at a time, and with 50 kept ones. Medians over the rounds.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import psutil

from prefork import testing
from tests.bench.connections import ask, percentiles_of
from tests.bench.contenders import Running, own_cpu
from tests.bench.crowd import allow_many_descriptors, crowd
from tests.bench.rounds import machine, medians, options, turns
from tests.support.addresses import host_and_port

WORKERS = (1, 4, 16, 64)
CLIENTS = (1, 100, 10_000)


@dataclass(frozen=True)
class Figures:
    """One round of one number of workers and of parked clients."""

    single_us: float  # CPU of all processes for a new connection, one after another
    new_us: float  # for one of many at a time
    new_p99_ms: float
    kept_us: float  # for a request on a kept one
    kept_p99_ms: float
    master_percent: float  # of a core, while both are asked for


def measure(workers: int, clients: int, requests: int) -> Figures:
    with testing.serve("tests.bench.pong:MessagePongHandler", workers=workers, threads=8) as server:
        running, master = Running(host_and_port(server)[1], server.pid), psutil.Process(server.pid)
        ask(running.port, requests // 10, ["-k", "0"])
        with crowd(server, clients):
            began, used = time.monotonic(), own_cpu(master)
            single_us, _ = cost(running, requests // 10, ["-k", "0"], clients=1)
            new_us, new_p99 = cost(running, requests, ["-k", "0"])
            kept_us, kept_p99 = cost(running, requests, [])
            percent = 100 * (own_cpu(master) - used) / (time.monotonic() - began)
    return Figures(single_us, new_us, new_p99, kept_us, kept_p99, percent)


def cost(server: Running, requests: int, load: list[str], clients: int = 50) -> tuple[float, float]:
    before = server.cpu()
    report = ask(server.port, requests, load, clients)
    return 1e6 * (server.cpu() - before) / requests, percentiles_of(report)[1]


def main() -> int:
    asked = options("What more workers and more connections cost.", requests=20_000).parse_args()
    allow_many_descriptors()
    found: dict[tuple[int, int], list[Figures]] = {(one, other): [] for one in WORKERS for other in CLIENTS}
    for workers, clients in turns(list(found), asked.rounds):
        found[workers, clients].append(measure(workers, clients, asked.requests))
    print(f"{machine()}; medians of {asked.rounds} rounds of {asked.requests} requests\n")
    print(
        "| workers | parked | one by one: CPU us | new: CPU us | p99 ms | kept: CPU us | p99 ms | master, % of a core |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for (workers, clients), figures in found.items():
        cells = medians(figures, "single_us", "new_us", "new_p99_ms", "kept_us", "kept_p99_ms", "master_percent")
        print(f"| {workers} | {clients} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
