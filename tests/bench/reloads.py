"""Short requests while a reload is asked for every 100 ms: how many fail, and what it costs those that wait.

    python -m tests.bench.reloads [--requests N] [--every SECONDS] [--slow]

The client is redis-benchmark with 10 connections at a time, each for one request. It ends at the first that fails.
With `--slow --every 1.5` the new code is being imported for most of the time.
"""

from __future__ import annotations

import argparse
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from prefork import testing
from tests.bench.connections import PERCENTILES, ask, percentiles_of
from tests.bench.rounds import machine
from tests.support.addresses import host_and_port

WORKERS = 2


@contextmanager
def reloading(server: testing.Server, every: float) -> Iterator[list[float]]:
    """Ask for a reload again and again during the block; the list gets the time of each."""
    over, asked = threading.Event(), list[float]()

    def ask_for_reloads() -> None:
        while not over.wait(every):
            server.signal(signal.SIGHUP)
            asked.append(time.monotonic())

    thread = threading.Thread(target=ask_for_reloads)
    thread.start()
    try:
        yield asked
    finally:
        over.set()
        thread.join()


def holdings(server: testing.Server) -> str:
    """Say what the master holds when a reload is over and nothing else happens."""
    server.reload()
    master = psutil.Process(server.pid)
    while len(master.children()) > WORKERS + 1:  # the mold
        select.select([], [], [], 0.05)  # those of the former generation are about to leave
    return f"{master.num_fds()} descriptors, {master.memory_info().rss / 1e6:.1f} MB resident"


def main() -> int:
    parser = argparse.ArgumentParser(description="Short requests while reloads are asked for.")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--every", type=float, default=0.1)
    parser.add_argument("--slow", action="store_true", help="of an application that computes for 1 s when imported")
    asked = parser.parse_args()
    module = "slow_pong" if asked.slow else "pong"
    with testing.serve(f"tests.bench.{module}:PongHandler", workers=WORKERS, canary_time=0) as server:
        port = host_and_port(server)[1]
        before = holdings(server)
        calm = percentiles_of(ask(port, asked.requests // 10, ["-k", "0"], clients=10))
        with reloading(server, asked.every) as times:
            under_reloads = percentiles_of(ask(port, asked.requests, ["-k", "0"], clients=10))
        after = holdings(server)
        totals = server.status()["totals"]
    print(
        f"{machine()}; {asked.requests} requests, 0 failed, "
        f"{len(times)} reloads asked for, {totals['reloads']} completed"
    )
    for percent, without, during in zip(PERCENTILES, calm, under_reloads, strict=True):
        print(f"p{percent:g}: {without:.2f} ms without, {during:.2f} ms with reloads")
    print(f"the master: {before} before, {after} after them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
