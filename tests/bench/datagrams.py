"""What a datagram costs, beside the peers: dnsperf asks each server for names of the example zone.

    python -m tests.bench.datagrams [--seconds N] [--rounds N] [--only TEXT] [--json FILE] [--svg FILE]

First as many queries as there is time for, then 70 % of that rate, at which none may be lost. Medians over the rounds.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench import plot
from tests.bench.connections import ClientFailed
from tests.bench.contenders import DATAGRAM_CONTENDERS, Contender, able, add_only
from tests.bench.rounds import machine, medians, options, turns

NAMES = "example.test A\nwww.example.test AAAA\nmail.example.test A\n"


@dataclass(frozen=True)
class Figures:
    """One round of one server."""

    cpu_us: float  # of all its processes, user and system, for each query answered
    rate: float  # queries a second at full load
    lost_at_70_percent: int


def measure(contender: Contender, seconds: int) -> Figures:
    with contender.start() as server:
        ask(server.port, 1)
        before = server.cpu()
        answered, _, rate = ask(server.port, seconds)
        cpu = server.cpu() - before
        _, lost, _ = ask(server.port, seconds, most=int(0.7 * rate))
    return Figures(cpu / answered * 1e6, rate, lost)


def ask(port: int, seconds: int, most: int = 0) -> tuple[int, int, float]:
    """Have dnsperf ask; return how many were answered, how many lost, and the rate. Raise ClientFailed."""
    with tempfile.NamedTemporaryFile("w") as names:
        names.write(NAMES)
        names.flush()
        command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", names.name, "-l", str(seconds), "-c", "8"]
        command += ["-Q", str(most)] if most else []
        report = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [
        re.search(pattern, report.stdout)
        for pattern in (r"Queries completed: +(\d+)", r"Queries lost: +(\d+)", r"Queries per second: +([\d.]+)")
    ]
    if report.returncode or None in found or "SERVFAIL" in report.stdout:
        raise ClientFailed(f"dnsperf: status {report.returncode}\n{report.stdout}{report.stderr}")
    completed, lost, rate = (float(match[1]) for match in found if match)
    return int(completed), int(lost), rate


def main() -> int:
    parser = options("What a datagram costs, beside the peers.", seconds=5)
    add_only(parser)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path, help="a plot of the CPU per query")
    asked = parser.parse_args()
    contenders = able(DATAGRAM_CONTENDERS, asked.only)
    rows: dict[str, list[Figures]] = {one.name: [] for one in contenders}
    for contender in turns(contenders, asked.rounds):
        rows[contender.name].append(measure(contender, asked.seconds))
    print(f"{machine()}; {asked.seconds} s of queries, medians of {asked.rounds} rounds\n")
    print("| server | CPU us/query | (min-max) | queries/s | queries/CPU second | lost at 70 % |")
    print("|---|---|---|---|---|---|")
    for name, figures in rows.items():
        cpu = [one.cpu_us for one in figures]
        middle, rate = medians(figures, "cpu_us", "rate")
        lost = sum(one.lost_at_70_percent for one in figures)
        print(f"| {name} | {middle:.1f} | {min(cpu):.1f}-{max(cpu):.1f} | {rate:.0f} | {1e6 / middle:.0f} | {lost} |")
    if asked.json:
        plain = {name: [asdict(one) for one in figures] for name, figures in rows.items()}
        asked.json.write_text(json.dumps({"machine": machine(), "figures": plain}, indent=1))
    if asked.svg:
        costs = {name: statistics.median(one.cpu_us for one in figures) for name, figures in rows.items()}
        asked.svg.write_text(plot.bars("server CPU for each query, microseconds", machine(), {"DNS over UDP": costs}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
