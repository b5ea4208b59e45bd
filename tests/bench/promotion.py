"""What is gained, and what is lost, by a leader that keeps the lead while requests come quickly.

python -m tests.bench.promotion [--requests N] [--rounds N]

Beside it, a leader that promotes a follower for each of them, as it does when they come slowly. Each request has a new
connection; the handler answers at once, or waits first, so that others wait behind it.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from tests.bench.connections import Figures, machine, measure
from tests.bench.contenders import Contender, prefork_contender

HANDLERS = {
    "answers at once": "PongHandler",
    "waits 5 ms": "WaitingPongHandler",
    "1 of 100 waits 50 ms": "SometimesWaitingPongHandler",
}
WAYS = {"keeps the lead": "pong", "promotes for each": "each_promoted"}


def main() -> int:
    parser = argparse.ArgumentParser(description="What a leader that keeps the lead gains and loses.")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    contenders: list[tuple[str, str, Contender]] = [
        (handler, way, prefork_contender(f"{handler}, {way}", f"tests.bench.{module}:{name}"))
        for handler, name in HANDLERS.items()
        for way, module in WAYS.items()
    ]
    found: dict[tuple[str, str], list[Figures]] = {(handler, way): [] for handler, way, _ in contenders}
    for number in range(asked.rounds):
        print(f"round {number + 1} of {asked.rounds}", file=sys.stderr, flush=True)
        turn = number % len(contenders)
        for handler, way, contender in contenders[turn:] + contenders[:turn]:
            found[handler, way].append(measure(contender, "new", asked.requests))
    print(f"{machine()}; medians of {asked.rounds} rounds of {asked.requests} requests\n")
    print("| the handler | the leader | CPU us/request | requests/s | p50 ms | p99 ms |")
    print("|---|---|---|---|---|---|")
    for (handler, way), figures in found.items():
        cpu, rate, p50, p99 = (
            statistics.median(getattr(one, field) for one in figures)
            for field in ("cpu_us", "rate", "p50_ms", "p99_ms")
        )
        print(f"| {handler} | {way} | {cpu:.1f} | {rate:.0f} | {p50:.2f} | {p99:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
