"""What a new connection costs by the way to wait for it, and by the number of threads: no more than the bare calls.

python -m tests.bench.waiting [--requests N] [--rounds N]
"""

from __future__ import annotations

import statistics
import sys

from tests.bench.connections import measure
from tests.bench.contenders import Contender, peer_waiting
from tests.bench.peers.waiting import WAYS
from tests.bench.rounds import machine, options, turns

THREADS = (4, 16, 64)


def main() -> int:
    asked = options("What a new connection costs by the way to wait for it.", requests=40_000).parse_args()
    contenders: list[tuple[str, int, Contender]] = [
        (way, threads, peer_waiting(way, threads)) for way in WAYS for threads in THREADS
    ]
    found: dict[tuple[str, int], list[float]] = {(way, threads): [] for way, threads, _ in contenders}
    for way, threads, contender in turns(contenders, asked.rounds):
        found[way, threads].append(measure(contender, "new", asked.requests).cpu_us)
    print(f"{machine()}; CPU us/request, medians of {asked.rounds} rounds of {asked.requests} requests\n")
    print("| way to wait | " + " | ".join(f"{threads} threads" for threads in THREADS) + " |")
    print("|---|" + "---|" * len(THREADS))
    for way in WAYS:
        medians = " | ".join(f"{statistics.median(found[way, threads]):.0f}" for threads in THREADS)
        print(f"| {way} | {medians} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
