"""What a connection costs, beside the peers: redis-benchmark asks each server for a PONG, over and over.

    python -m tests.bench.connections [--requests N] [--rounds N] [--only TEXT] [--json FILE] [--svg FILE]

Each round goes through all servers, in another order each time; what is printed are medians over the rounds, with the
smallest and the largest beside them. Machines are shared and noisy: compare the rows of one run, not two runs. The
client runs on the same cores, and is usually the bottleneck: server CPU per request says more than requests a second.
With 20,000 new connections a round the client runs out of ports, which shows as a 99.9th percentile of 90 ms.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench import plot
from tests.bench.contenders import CONTENDERS, Contender, able, add_only
from tests.bench.rounds import machine, medians, options, turns

LOADS = {"new": ["-k", "0"], "kept": []}
TITLES = {"new": "a new connection for each request", "kept": "kept connections"}
PERCENTILES = (50.0, 99.0, 99.9)
_BELOW = re.compile(r"^([\d.]+)% <= ([\d.]+) milliseconds \(cumulative count (\d+)\)$", re.MULTILINE)


@dataclass(frozen=True)
class Figures:
    """One round of one server under one load."""

    cpu_us: float  # of all its processes, user and system, for each request
    rate: float  # requests a second
    p50_ms: float
    p99_ms: float
    p999_ms: float
    memory_mb: float


class ClientFailed(Exception):
    """The client did not get all its answers: there is nothing to compare."""


def measure(contender: Contender, load: str, requests: int) -> Figures:
    with contender.start() as server:
        ask(server.port, requests // 10, LOADS[load])
        before = server.cpu()
        report = ask(server.port, requests, LOADS[load])
        cpu = server.cpu() - before
        memory = server.memory()
    found = re.search(r"throughput summary: ([\d.]+) requests per second", report)
    assert found is not None, report
    p50, p99, p999 = percentiles_of(report)
    return Figures(cpu / requests * 1e6, float(found[1]), p50, p99, p999, memory / 1e6)


def percentiles_of(report: str) -> list[float]:
    """Return the milliseconds within which so many per cent of the requests were answered."""
    return [next(ms for percent, ms in latencies_of(report) if percent >= wanted) for wanted in PERCENTILES]


def latencies_of(report: str) -> list[tuple[float, float]]:
    """Return pairs: so many per cent were answered within so many ms."""
    return [(float(percent), float(ms)) for percent, ms, _ in _BELOW.findall(report)]


def ask(port: int, requests: int, options: list[str], clients: int = 50, under: Sequence[str] = ()) -> str:
    """Have redis-benchmark ask so often, as the command of another program if one is named; return its report.

    Raise ClientFailed unless every request was answered.
    """
    command = [*under, "redis-benchmark", "-p", str(port), "-c", str(clients), "-n", str(requests), "-t", "ping_inline"]
    done = subprocess.run([*command, "--precision", "3", *options], capture_output=True, text=True, check=False)
    report = done.stdout.replace("\r", "\n")
    complaints = [line for line in done.stderr.splitlines() if line and not line.startswith("WARNING: ")]
    answered = [int(count) for _, _, count in _BELOW.findall(report)]
    if done.returncode or complaints or not answered or max(answered) != requests or "Error" in report:
        got = f"{max(answered, default=0)} of {requests} answered"
        raise ClientFailed(f"redis-benchmark: status {done.returncode}, {got}\n{done.stderr}")
    return report


def run(contenders: list[Contender], requests: int, rounds: int) -> dict[str, dict[str, list[Figures]]]:
    """Return every figure by load and server."""
    found: dict[str, dict[str, list[Figures]]] = {load: {one.name: [] for one in contenders} for load in LOADS}
    for contender in turns(contenders, rounds):
        for load in LOADS:
            found[load][contender.name].append(measure(contender, load, requests))
    return found


def table(title: str, rows: dict[str, list[Figures]]) -> list[str]:
    lines = [
        f"{title}:",
        "",
        "| server | CPU us/request | (min-max) | requests/s | p50 ms | p99 ms | p99.9 ms | memory MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, figures in rows.items():
        cpu = [one.cpu_us for one in figures]
        middle = medians(figures, "rate", "p50_ms", "p99_ms", "p999_ms", "memory_mb")
        cells = f"{middle[0]:.0f} | {middle[1]:.2f} | {middle[2]:.2f} | {middle[3]:.2f} | {middle[4]:.0f}"
        lines.append(f"| {name} | {statistics.median(cpu):.1f} | {min(cpu):.1f}-{max(cpu):.1f} | {cells} |")
    return [*lines, ""]


def main() -> int:
    parser = options("What a connection costs, beside the peers.", requests=10_000)
    add_only(parser)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path, help="a plot of the CPU per request")
    asked = parser.parse_args()
    contenders = able(CONTENDERS, asked.only)
    found = run(contenders, asked.requests, asked.rounds)
    print(f"{machine()}; {asked.requests} requests, medians of {asked.rounds} rounds\n")
    for load, rows in found.items():
        print("\n".join(table(TITLES[load], rows)))
    if asked.json:
        plain = {
            load: {name: [asdict(one) for one in each] for name, each in rows.items()} for load, rows in found.items()
        }
        asked.json.write_text(
            json.dumps({"machine": machine(), "requests": asked.requests, "figures": plain}, indent=1)
        )
    if asked.svg:
        costs = {
            TITLES[load]: {name: statistics.median(one.cpu_us for one in each) for name, each in rows.items()}
            for load, rows in found.items()
        }
        asked.svg.write_text(plot.bars("server CPU for each request, microseconds", machine(), costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
