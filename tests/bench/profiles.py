"""Where the CPU of a request goes: perf samples each server's processes while redis-benchmark asks for PONGs.

    python -m tests.bench.profiles [--requests N] [--rounds N] [--only TEXT]

A row is a system call, or what else the processes do, in microseconds for each request: its share of the samples times
the CPU that the server needed in the same rounds. Sampling costs CPU itself, so the sums are larger than what
`tests.bench.connections` prints: compare the columns.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter

from tests.bench.connections import LOADS, TITLES, ask
from tests.bench.contenders import CONTENDERS, Contender, able, add_only
from tests.bench.rounds import machine, options, turns

KERNEL, PROGRAM = "the kernel otherwise", "the program"
NEGLIGIBLE = 0.5  # microseconds: a system call that costs nobody more is not worth a row
# All processors: to sample some processes only makes each switch between threads dearer.
_PERF = ("perf", "record", "--quiet", "--all-cpus", "-F", "997", "-g", "--kernel-callchains")
_CALL = re.compile(r" (?:(?:__x64_sys|ksys)_(\w+)|(sock_(?:read|write)_iter)) ")
_ALIKE = {
    "read": "recvfrom, read",
    "recvfrom": "recvfrom, read",
    "sock_read_iter": "recvfrom, read",
    "sendto": "sendto, write",
    "sock_write_iter": "sendto, write",
    "write": "sendto, write",
    "epoll_pwait": "epoll_wait",
}


def row_of(sample: str) -> str:
    """Return the system call in which perf's sample was taken, or what else its process did."""
    if called := _CALL.search(sample):  # the innermost frame comes first
        name = called[1] or called[2]
        return _ALIKE.get(name, name)
    return KERNEL if "[kernel.kallsyms]" in sample else PROGRAM


def measure(contender: Contender, load: str, requests: int) -> tuple[float, Counter[str]]:
    """Return the seconds of CPU of one round, and how many samples there are of each row."""
    with contender.start() as server, tempfile.NamedTemporaryFile() as recording:
        ask(server.port, requests // 10, LOADS[load])
        pids = ",".join(str(one.pid) for one in server.processes())
        before = server.cpu()
        ask(server.port, requests, LOADS[load], under=[*_PERF, "-o", recording.name, "--"])
        cpu = server.cpu() - before
        command = ["perf", "script", "-i", recording.name, "--pid", pids, "-F", "comm,ip,sym,dso"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return cpu, Counter(row_of(sample) for sample in printed.split("\n\n") if sample)


def run(contenders: list[Contender], requests: int, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return the microseconds for each request by load, server and row."""
    used = {load: dict.fromkeys((one.name for one in contenders), 0.0) for load in LOADS}
    seen = {load: {one.name: Counter[str]() for one in contenders} for load in LOADS}
    for contender in turns(contenders, rounds):
        for load in LOADS:
            cpu, samples = measure(contender, load, requests)
            used[load][contender.name] += cpu
            seen[load][contender.name] += samples
    return {
        load: {name: costs(used[load][name] / rounds / requests, samples) for name, samples in each.items()}
        for load, each in seen.items()
    }


def costs(seconds: float, samples: Counter[str]) -> dict[str, float]:
    """Divide the CPU of a request among the rows, in microseconds."""
    return {row: 1e6 * seconds * number / samples.total() for row, number in samples.items()}


def table(columns: dict[str, dict[str, float]]) -> list[str]:
    """Print the system calls by what they cost at most; those that cost nobody anything worth a row are added up."""
    dearest: dict[str, float] = {}
    for column in columns.values():
        for row in column.keys() - {KERNEL, PROGRAM}:
            dearest[row] = max(column[row], dearest.get(row, 0.0))
    calls = [row for row in sorted(dearest, key=lambda row: -dearest[row]) if dearest[row] >= NEGLIGIBLE]
    rest = dearest.keys() - set(calls)
    rows = [(row, {row}) for row in calls] + [("other system calls", rest)]
    rows += [(KERNEL, {KERNEL}), (PROGRAM, {PROGRAM}), ("together", {*dearest, KERNEL, PROGRAM})]
    lines = [f"| us/request | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for title, parts in rows:
        sums = [sum(column.get(part, 0.0) for part in parts) for column in columns.values()]
        lines.append(f"| {title} | {' | '.join(f'{one:.1f}' for one in sums)} |")
    return [*lines, ""]


def main() -> int:
    parser = options("Where the CPU of a request goes.", requests=20_000)
    add_only(parser)
    asked = parser.parse_args()
    if shutil.which("perf") is None:
        print("perf is not installed (tests/bench/setup installs it)")
        return 1
    # Those of the standard library, with a thread or a process for each connection, are no measure for what is left.
    contenders = [one for one in able(CONTENDERS, asked.only) if not one.name.endswith("TCPServer")]
    found = run(contenders, asked.requests, asked.rounds)
    print(f"{machine()}; {asked.requests} requests, {asked.rounds} rounds\n")
    for load, columns in found.items():
        print("\n".join([f"{TITLES[load]}:", "", *table(columns)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
