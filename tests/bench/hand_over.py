"""Ten thousand parked clients through reloads: how long it takes to hand them all over, and what a busy one notices.

    python -m tests.bench.hand_over [--clients N] [--reloads N] [--workers N]

Each parked client asks after each reload how often it has asked. The busy client asks on one kept connection all the
time. `canary_time` is 0.2 s.
"""

from __future__ import annotations

import argparse
import itertools
import os
import select
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from prefork import testing
from prefork.serving import MessageRequestHandler
from tests.bench.crowd import allow_many_descriptors, clients_of
from tests.bench.rounds import machine
from tests.support.clients import LineClient

QUIET = 3.0  # seconds for which the busy client asks while nothing else happens


class CountingHandler(MessageRequestHandler):
    """Answers with how often it was asked, whatever worker it is in by then, and which one that is."""

    count = 0

    def handle_message(self) -> None:
        self.rfile.readline()
        self.count += 1
        self.wfile.write(b"%d %d\n" % (self.count, os.getpid()))

    def hand_over(self) -> bytes:
        return b"%d" % self.count

    def take_over(self, state: bytes) -> None:
        self.count = int(state)


@contextmanager
def talking(server: testing.Server) -> Iterator[list[float]]:
    """Ask on one connection all the time during the block; the list gets how long each answer took, in ms."""
    over, took = threading.Event(), list[float]()

    def talk() -> None:
        with LineClient(server.address) as client:
            for number in itertools.count(1):
                if over.is_set():
                    return
                began = time.perf_counter()
                answer = client.ask("busy")
                took.append(1000 * (time.perf_counter() - began))
                assert answer.startswith(f"{number} "), answer

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def show(name: str, took: list[float]) -> None:
    ordered = sorted(took)
    figures = (ordered[int(len(ordered) * part)] for part in (0.5, 0.99, 0.999))
    print(f"| {name} | {' | '.join(f'{figure:.2f}' for figure in figures)} | {ordered[-1]:.1f} |")


def main() -> int:
    parser = argparse.ArgumentParser(description="Parked clients through reloads.")
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--reloads", type=int, default=5)
    parser.add_argument("--workers", type=int, default=4)
    asked = parser.parse_args()
    allow_many_descriptors()
    seconds = []
    target = "tests.bench.hand_over:CountingHandler"
    options = {"workers": asked.workers, "threads": 8, "canary_time": 0.2, "drain_timeout": 600}
    with testing.serve(target, **options) as server, clients_of(server, asked.clients, b"there?\n") as clients:
        with talking(server) as quiet:
            select.select([], [], [], QUIET)
        with talking(server) as busy:
            for number in range(1, asked.reloads + 1):
                began = time.monotonic()
                server.reload()
                while server.workers("draining"):
                    select.select([], [], [], 0.01)
                seconds.append(time.monotonic() - began)
                for client in clients:
                    client.sendall(b"there?\n")
                answers = [client.recv(100).split() for client in clients]
                assert {int(count) for count, _ in answers} == {number + 1}
        where = Counter(worker for _, worker in answers)
        counts = server.status()["connections"][0]
    print(f"{machine()}; {asked.clients} parked clients, {asked.workers} workers, {asked.reloads} reloads\n")
    print("All clients are there and remember everything.")
    print(f"From the order to the end of the last old worker: {statistics.median(seconds):.2f} s (median)")
    print(f"Connections of each worker: {min(where.values())} to {max(where.values())}")
    print(f"Handed over: {counts['handed_over'] / asked.reloads / asked.clients:.2f} times a reload for each client\n")
    print("| the busy client | p50 ms | p99 ms | p99.9 ms | longest, ms |")
    print("|---|---|---|---|---|")
    show("without reloads", quiet)
    show("with them", busy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
