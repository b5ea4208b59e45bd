"""Mixed load and a random fault every few seconds, for as long as you like; then every client's history is checked.

    python -m tests.soak [--minutes N] [--every SECONDS] [--seed N] [--only 3,7,12] [--shrink] [--json FILE]

The seed decides which faults come in which order, and is printed. Laws: each request is answered exactly once, or its
connection visibly closes; nothing is lost without a fault that explains it; never fewer workers than wanted without
one; the master's descriptors and memory are at the end what they were at the beginning. With --shrink, a schedule that
breaks a law is tried again with fewer faults until nothing can be left out.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefork import testing
from prefork.errors import PreforkError
from tests.process.test_deaths import footprint, zombies_of
from tests.soak.faults import Saboteur, make_schedule, wait, write_code
from tests.soak.history import DRAIN_TIMEOUT, History
from tests.soak.load import Places, mixed_load
from tests.soak.master import Master
from tests.support.authorities import Authority

Schedule = list[tuple[int, str]]

SETTINGS: dict[str, Any] = {
    "workers": 4,
    "threads": 32,
    "canary_time": 0.2,
    "heartbeat_timeout": 2,
    "drain_timeout": DRAIN_TIMEOUT,
    "kill_timeout": 1,
}
CONTROL_CLIENTS = 3  # who may just be asking
RECOVERY = 60.0  # seconds after the last fault until all must be well


def soak(schedule: Schedule, every: float, seed: int) -> tuple[History, list[str]]:
    """Run one soak; return its history and the laws that were broken."""
    history = History()
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        write_code(project, version=1)
        authority = Authority(project)
        bind = [
            "tcp://127.0.0.1:0?tls=off",
            "udp://127.0.0.1:0",
            "tcp://127.0.0.2:0?tls=on",
            f"unix:{project / 'parking.sock'}?tls=off",
            "tcp://127.0.0.3:0?tls=off&sockets=8",
            "udp://127.0.0.3:0?sockets=8",
        ]
        cert = [authority.issue("localhost")]
        with testing.serve("app:make", cwd=name, bind=bind, tls_cert=cert, **SETTINGS) as server:
            streams, datagrams, tls, parking, divided_streams, divided_datagrams = server.addresses
            master = Master(server)
            saboteur = Saboteur(master, streams, tls, project, seed, history)
            divided = divided_streams, divided_datagrams
            places = Places(streams, datagrams, tls, parking, authority.client_context(), divided)
            try:
                with mixed_load(places, history), counting(master, history):
                    for number, kind in schedule:
                        wait(every)
                        print(f"{time.monotonic():.2f} fault {number}: {kind}", file=sys.stderr, flush=True)
                        saboteur.do(number, kind)
                    wait_until_well(master)
                violations = [*history.violations(), *leaks(master)]
            finally:
                master.end()
            if violations:
                Path("soak.log").write_text(server.log)
                print("soak: the log of the server is in soak.log", file=sys.stderr)
            return history, violations


def leaks(master: Master) -> list[str]:
    """Return what the master has and should not have after all that."""
    found = []
    descriptors, resident = footprint(master.pid)
    more_workers = max(0, master.status()["wanted"] - SETTINGS["workers"])  # one channel each
    if descriptors > master.before[0] + more_workers + CONTROL_CLIENTS:
        found.append(f"the master has {descriptors} descriptors, and had {master.before[0]}")
    if resident > master.before[1] * 1.2:
        found.append(f"the master has {resident} bytes resident, and had {master.before[1]}")
    if zombies_of(master.pid):
        found.append("the master has zombies")
    return found


def wait_until_well(master: Master) -> None:
    """Return when as many workers as wanted serve; the last fault may have been a moment ago."""
    deadline = time.monotonic() + RECOVERY
    while len(master.workers()) != master.status()["wanted"] and time.monotonic() < deadline:
        wait(0.2)


@contextmanager
def counting(master: Master, history: History) -> Iterator[None]:
    """Note during the block how many workers serve."""
    over = threading.Event()

    def count() -> None:
        while not over.wait(0.5):
            try:
                status = master.status()
            except (PreforkError, OSError):
                continue  # stopped, as a fault; or it has just been succeeded
            serving = sum(worker["state"] == "serving" for worker in status["workers"])
            history.workers.append((time.monotonic(), serving, status["wanted"]))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def shrink(schedule: Schedule, breaks: Callable[[Schedule], bool]) -> Schedule:
    """Leave out halves, quarters and so on, as long as what remains breaks a law as well."""
    size = max(1, len(schedule) // 2)
    while True:
        for start in range(0, len(schedule), size):
            fewer = schedule[:start] + schedule[start + size :]
            if fewer and breaks(fewer):
                schedule = fewer
                break
        else:
            if size == 1:
                return schedule
            size = max(1, size // 2)


def main() -> int:
    parser = argparse.ArgumentParser(description="Mixed load, and a random fault every few seconds.")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--every", type=float, default=5, help="seconds between the faults")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--only", default="", help="the numbers of the faults to do, of all that the seed decides")
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    schedule = list(enumerate(make_schedule(asked.seed, int(asked.minutes * 60 / asked.every))))
    if asked.only:
        schedule = [schedule[int(number)] for number in asked.only.split(",")]
    print(f"soak: seed {asked.seed}, {len(schedule)} faults", flush=True)
    history, violations = soak(schedule, asked.every, asked.seed)
    report = {"seed": asked.seed, **history.summary(), "violations": violations}
    print(json.dumps(report, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=1))
    if violations and asked.shrink:
        smallest = shrink(schedule, lambda fewer: bool(soak(fewer, asked.every, asked.seed)[1]))
        print(f"soak: enough to break it: --seed {asked.seed} --only {','.join(str(number) for number, _ in smallest)}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
