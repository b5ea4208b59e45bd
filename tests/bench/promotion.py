"""What is gained, and what is lost, by a leader that keeps the lead while requests come quickly.

python -m tests.bench.promotion [--requests N] [--rounds N]

Beside it, a leader that promotes a follower for each of them, as it does when they come slowly. Each request has a new
connection; the handler answers at once, or waits first, so that others wait behind it.
"""

from __future__ import annotations

import sys

from tests.bench.connections import Figures, measure
from tests.bench.contenders import Contender, prefork_contender
from tests.bench.rounds import machine, medians, options, turns

HANDLERS = {
    "answers at once": "PongHandler",
    "waits 5 ms": "WaitingPongHandler",
    "1 of 100 waits 50 ms": "SometimesWaitingPongHandler",
}
WAYS = {"keeps the lead": "pong", "promotes for each": "each_promoted"}


def main() -> int:
    asked = options("What a leader that keeps the lead gains and loses.", requests=20_000).parse_args()
    contenders: list[tuple[str, str, Contender]] = [
        (handler, way, prefork_contender(f"{handler}, {way}", f"tests.bench.{module}:{name}"))
        for handler, name in HANDLERS.items()
        for way, module in WAYS.items()
    ]
    found: dict[tuple[str, str], list[Figures]] = {(handler, way): [] for handler, way, _ in contenders}
    for handler, way, contender in turns(contenders, asked.rounds):
        found[handler, way].append(measure(contender, "new", asked.requests))
    print(f"{machine()}; medians of {asked.rounds} rounds of {asked.requests} requests\n")
    print("| the handler | the leader | CPU us/request | requests/s | p50 ms | p99 ms |")
    print("|---|---|---|---|---|---|")
    for (handler, way), figures in found.items():
        cpu, rate, p50, p99 = medians(figures, "cpu_us", "rate", "p50_ms", "p99_ms")
        print(f"| {handler} | {way} | {cpu:.1f} | {rate:.0f} | {p50:.2f} | {p99:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
