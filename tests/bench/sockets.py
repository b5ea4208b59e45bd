"""What it costs to wait for one socket that all workers share, and for sockets of which each worker has its own.

    python -m tests.bench.sockets [--requests N] [--rounds N]

`BaseRequestHandler` over TCP, with new connections one after another and 50 at a time, and the DNS example over UDP, at
several numbers of workers: with one socket, and with `?sockets=N`, one for each worker. Medians over the rounds.
"""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass

from prefork import testing
from tests.bench.connections import ask
from tests.bench.contenders import Running
from tests.bench.datagrams import ask as query
from tests.bench.growth import cost
from tests.bench.rounds import machine, medians, options, turns
from tests.support.addresses import host_and_port

WORKERS = (2, 4, 16)
SETTLED = 2.5  # seconds until each worker has its socket: those that started later ask for theirs after a second


@dataclass(frozen=True)
class Figures:
    """One round of one number of workers with one socket, or one for each."""

    single_us: float  # CPU of all processes for a new connection, one after another
    new_us: float  # for one of 50 at a time
    new_p99_ms: float
    busiest: float  # what the worker that took most took, as a multiple of what the one that took fewest did
    query_us: float  # for a query over UDP
    queries: float  # a second


def measure(workers: int, sockets: int, requests: int) -> Figures:
    with start("tests.bench.pong:PongHandler", "tcp", workers, sockets) as server:
        port = host_and_port(server)[1]
        running, settled = Running(port, server.pid), time.monotonic() + SETTLED
        while time.monotonic() < settled:
            ask(port, 200, ["-k", "0"])
        before = taken(server)
        single_us, _ = cost(running, requests // 10, ["-k", "0"], clients=1)
        new_us, new_p99 = cost(running, requests, ["-k", "0"])
        counts = [after - count for after, count in zip(taken(server), before, strict=True)]
    with start("examples.dns:DnsHandler", "udp", workers, sockets) as server:
        running, settled = Running(host_and_port(server)[1], server.pid), time.monotonic() + SETTLED
        while time.monotonic() < settled:
            query(running.port, 1)
        used = running.cpu()
        answered, _, rate = query(running.port, 3)
        query_us = 1e6 * (running.cpu() - used) / answered
    return Figures(single_us, new_us, new_p99, max(counts) / max(1, min(counts)), query_us, rate)


def start(handler: str, kind: str, workers: int, sockets: int) -> AbstractContextManager[testing.Server]:
    several = f"?sockets={sockets}" if sockets > 1 else ""
    return testing.serve(handler, workers=workers, threads=8, bind=[f"{kind}://127.0.0.1:0{several}"])


def taken(server: testing.Server) -> list[int]:
    return [worker["accepted"] for worker in server.workers()]


def main() -> int:
    asked = options("What one socket for all workers costs, and one for each.", requests=20_000).parse_args()
    cases = [(workers, sockets) for workers in WORKERS for sockets in (1, workers)]
    found: dict[tuple[int, int], list[Figures]] = {case: [] for case in cases}
    for case in turns(cases, asked.rounds):
        found[case].append(measure(*case, asked.requests))
    print(f"{machine()}; medians of {asked.rounds} rounds of {asked.requests} requests\n")
    print("| workers | sockets | one by one: CPU us | new: CPU us | p99 ms | busiest / idlest | UDP: CPU us | rate |")
    print("|---|---|---|---|---|---|---|---|")
    for (workers, sockets), figures in found.items():
        cells = medians(figures, "single_us", "new_us", "new_p99_ms", "busiest", "query_us", "queries")
        shown = [f"{cells[0]:.0f}", f"{cells[1]:.0f}", f"{cells[2]:.1f}", f"{cells[3]:.2f}"]
        print(f"| {workers} | {sockets} | " + " | ".join([*shown, f"{cells[4]:.1f}", f"{cells[5]:.0f}"]) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
