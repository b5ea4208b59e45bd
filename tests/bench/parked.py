"""What ten thousand parked clients cost, and what a busy one beside them notices.

    python -m tests.bench.parked [--clients N] [--requests N] [--rounds N]

2 workers of 8 threads; the busy client is redis-benchmark with 8 kept connections. Medians over the rounds.
"""

from __future__ import annotations

import select
import statistics
import sys
from dataclasses import dataclass

import psutil

from prefork import testing
from tests.bench.connections import ask, percentiles_of
from tests.bench.contenders import Running, own_cpu
from tests.bench.crowd import allow_many_descriptors, crowd
from tests.bench.rounds import machine, medians, options, turns
from tests.support.addresses import host_and_port

_STILL = 3.0  # seconds in which nobody says anything


@dataclass(frozen=True)
class Figures:
    """One round with or without parked clients."""

    kilobytes: float  # PSS of all processes for each of them
    idle_cpu_ms: float  # of the workers, in a second in which nobody says anything
    p50_ms: float
    p99_ms: float
    cpu_us: float  # of all processes for each request of the busy client


def measure(clients: int, requests: int) -> Figures:
    with testing.serve("tests.bench.pong:MessagePongHandler", workers=2, threads=8) as server:
        port = host_and_port(server)[1]
        running = Running(port, server.pid)
        ask(port, requests // 10, [], clients=8)
        memory = running.memory()
        with crowd(server, clients):
            kilobytes = (running.memory() - memory) / 1024 / clients if clients else 0.0
            workers = [psutil.Process(worker["pid"]) for worker in server.workers()]
            before = sum(map(own_cpu, workers))
            select.select([], [], [], _STILL)
            idle = (sum(map(own_cpu, workers)) - before) / _STILL
            before = running.cpu()
            p50, p99, _ = percentiles_of(ask(port, requests, [], clients=8))
            cpu = running.cpu() - before
    return Figures(kilobytes, 1000 * idle, p50, p99, 1e6 * cpu / requests)


def main() -> int:
    asked = options("What parked clients cost.", clients=10_000, requests=100_000).parse_args()
    allow_many_descriptors()
    found: dict[int, list[Figures]] = {0: [], asked.clients: []}
    for clients in turns(list(found), asked.rounds):
        found[clients].append(measure(clients, asked.requests))
    print(f"{machine()}; medians of {asked.rounds} rounds of {asked.requests} requests\n")
    print("| parked clients | PSS KB each | CPU ms/s, all idle | p50 ms | p99 ms | CPU us/request |")
    print("|---|---|---|---|---|---|")
    for clients, figures in found.items():
        kilobytes, idle, p50, p99, cpu = medians(figures, "kilobytes", "idle_cpu_ms", "p50_ms", "p99_ms", "cpu_us")
        print(f"| {clients} | {kilobytes:.2f} | {idle:.1f} | {p50:.2f} | {p99:.2f} | {cpu:.1f} |")
    without, beside = found.values()
    ratio = statistics.median(one.p99_ms for one in beside) / statistics.median(one.p99_ms for one in without)
    print(f"\np99 beside them is {ratio:.2f} times the other")
    return 0


if __name__ == "__main__":
    sys.exit(main())
