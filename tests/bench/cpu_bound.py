"""How long requests wait that each need 5 ms of a processor, beside an ideal queue before two servers.

    python -m tests.bench.cpu_bound [--requests N] [--rounds N]

2 workers, 8 clients of redis-benchmark, each with a new connection for each request. What a request needs is measured
with one client; with times drawn from those, the ideal is simulated: 8 clients, one queue, two servers, no delay.
"""

from __future__ import annotations

import heapq
import random
import statistics
import sys
from collections.abc import Sequence

from prefork import testing
from tests.bench.connections import ask, latencies_of, percentiles_of
from tests.bench.rounds import machine, options, turns
from tests.support.addresses import host_and_port

CLIENTS, SERVERS = 8, 2
WAYS = ("alone", "together")


def simulate(needed: Sequence[float], requests: int, seed: int = 1) -> float:
    """Return the 99th percentile of the times that requests take in the ideal, in ms."""
    chance = random.Random(seed)
    free = [0.0] * SERVERS  # when each server is free
    asked = [0.0] * CLIENTS  # when each client asks next
    took = []
    for _ in range(requests):
        begun = heapq.heappop(asked)
        ended = max(begun, heapq.heappop(free)) + chance.choice(needed)
        heapq.heappush(free, ended)
        heapq.heappush(asked, ended)
        took.append(ended - begun)
    return statistics.quantiles(took, n=100)[98]


def sample(latencies: Sequence[tuple[float, float]], number: int = 1000) -> list[float]:
    """Return times that are distributed as these, which say within how many ms so many per cent were answered."""
    return [next(ms for percent, ms in latencies if percent >= 100 * (index + 0.5) / number) for index in range(number)]


def main() -> int:
    asked = options("How long requests wait that need a processor.", requests=3000).parse_args()
    found: dict[str, list[float]] = {"measured": [], "ideal": []}
    needed: list[float] = []
    with testing.serve("tests.bench.pong:BusyPongHandler", workers=SERVERS, threads=8) as server:
        port = host_and_port(server)[1]
        for way in turns(WAYS, asked.rounds):
            if way == "alone":
                report = ask(port, asked.requests // 4, ["-k", "0"], clients=1)
                needed = sample(latencies_of(report))
                found["ideal"].append(simulate(needed, asked.requests))
            else:
                report = ask(port, asked.requests, ["-k", "0"], clients=CLIENTS)
                found["measured"].append(percentiles_of(report)[1])
    measured, ideal = (statistics.median(times) for times in found.values())
    print(f"{machine()}; medians of {asked.rounds} rounds of {asked.requests} requests")
    print(f"a request alone: {statistics.median(needed):.1f} ms")
    print(f"p99 of {CLIENTS} clients: {measured:.1f} ms, ideal {ideal:.1f} ms, ratio {measured / ideal:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
