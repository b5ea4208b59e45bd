"""What a server costs while it does nothing, and how long it takes to start, replace and reload.

python -m tests.bench.footprint [--json]

Prints medians of several rounds. Nothing else should run beside it.
"""

import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from prefork import testing
from tests.support.application import write_application
from tests.support.clients import LineClient

ROUNDS = 5
IDLE_SECONDS = 20.0
LOOP_SECONDS = 60.0
DYING = """

class Handler(Handler):
    @staticmethod
    def on_worker_start(server):
        import threading
        threading.Timer(0.05, os._exit, [7]).start()
"""
SLOW_IMPORT = "\nend = time.monotonic() + 1\nwhile time.monotonic() < end:\n    pass\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        figures = {
            **measure_start(directory),
            **measure_imports(directory),
            **measure_idle(directory),
            **measure_replacement(directory),
            **measure_master_death(directory),
            **measure_crash_loop(directory),
        }
    if "--json" in sys.argv:
        print(json.dumps(figures, indent=2))
        return
    for what, value in figures.items():
        print(f"{what:<58} {value:10.3f}")


def measure_start(directory: Path) -> dict[str, float]:
    """From the start of the command to READY with 4 workers, and importing the application once."""
    figures = {}
    for label, extra in (("a small application", ""), ("one that imports for 1 s", SLOW_IMPORT)):
        write_application(directory, extra=extra)
        figures[f"start to ready, {label}, s"] = statistics.median(time_of_start(directory) for _ in range(ROUNDS))
        figures[f"importing {label} once, s"] = statistics.median(time_of_import(directory) for _ in range(ROUNDS))
    return figures


def time_of_start(directory: Path) -> float:
    started = time.monotonic()
    with testing.serve("app:Handler", cwd=str(directory), workers=4):
        return time.monotonic() - started


def time_of_import(directory: Path) -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import app"], cwd=directory, check=True)
    return time.monotonic() - started


def measure_imports(directory: Path) -> dict[str, float]:
    """What is waited for before a module or a control command does anything, beside an idle interpreter."""
    write_application(directory)
    with testing.serve("app:Handler", cwd=str(directory), workers=1) as server:
        runs = {
            "an interpreter that does nothing": ["-c", "pass"],
            "import socketserver": ["-c", "import socketserver"],
            "import prefork.socketserver": ["-c", "import prefork.socketserver"],
            "prefork status": ["-m", "prefork", "status", "--pid", str(server.pid)],
        }
        taken: dict[str, list[float]] = {what: [] for what in runs}
        for _ in range(4 * ROUNDS):
            for what, arguments in runs.items():
                started = time.monotonic()
                subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
                taken[what].append(time.monotonic() - started)
    return {f"{what}, ms": 1000 * statistics.median(times) for what, times in taken.items()}


def measure_idle(directory: Path) -> dict[str, float]:
    """Memory as PSS, and wake-ups (voluntary context switches of all threads) of an idle server with 4 workers."""
    write_application(directory)
    with testing.serve("app:Handler", cwd=str(directory), workers=4) as server:
        pids = [worker["pid"] for worker in server.workers()]
        four, master = sum(map(pss, pids)), pss(server.pid)
        everybody = processes_of(server.pid)
        before = sum(map(switches, everybody))
        wait(IDLE_SECONDS)
        woken = (sum(map(switches, everybody)) - before) / IDLE_SECONDS
        server.scale(8)
        wait(1.0)
        eight = sum(pss(worker["pid"]) for worker in server.workers())
    return {
        "PSS of the master, MB": master / 1e6,
        "PSS of 4 echo workers together, MB": four / 1e6,
        "PSS of each further echo worker, MB": (eight - four) / 4 / 1e6,
        "wake-ups a second of the idle server, all processes": woken,
    }


def measure_replacement(directory: Path) -> dict[str, float]:
    """From the death of the only worker to an answer of its successor, and the length of a reload."""
    write_application(directory)
    replaced, reloaded = [], []
    with testing.serve("app:Handler", cwd=str(directory), workers=1, canary_time=0) as server:
        for _ in range(ROUNDS):
            wait(1.2)
            (worker,) = server.workers()
            address = server.address
            killed = time.monotonic()
            os.kill(worker["pid"], signal.SIGKILL)
            while True:  # a connection accepted by the dying worker ends without an answer
                try:
                    with LineClient(address) as client:
                        client.ask("pid")
                        break
                except ConnectionError:
                    continue
            replaced.append(time.monotonic() - killed)
        for _ in range(ROUNDS):
            started = time.monotonic()
            server.reload()
            reloaded.append(time.monotonic() - started)
    return {
        "death of the only worker to an answer of the next, ms": 1000 * statistics.median(replaced),
        "reload with canary_time 0, 1 worker, s": statistics.median(reloaded),
    }


def measure_master_death(directory: Path) -> dict[str, float]:
    """From `kill -9` of the master, with a connection open, to the end of the last of its 4 workers."""
    write_application(directory)
    lasted = []
    for _ in range(ROUNDS):
        with (
            testing.serve("app:Handler", cwd=str(directory), workers=4) as server,
            LineClient(server.address) as client,
        ):
            client.ask("pid")
            handles = [os.pidfd_open(worker["pid"]) for worker in server.workers()]
            killed = time.monotonic()
            server.signal(signal.SIGKILL)
            for handle in handles:
                select.select([handle], [], [])
                os.close(handle)
            lasted.append(time.monotonic() - killed)
    return {"death of the master to the end of its last worker, s": statistics.median(lasted)}


def measure_crash_loop(directory: Path) -> dict[str, float]:
    """A worker that dies right after every boot, for a minute."""
    write_application(directory, extra=DYING)
    with testing.serve("app:Handler", cwd=str(directory), workers=1, wait_until_ready=False) as server:
        wait(LOOP_SECONDS)
        times = psutil.Process(server.pid).cpu_times()
        spawns = server.log.count("starting worker")
    return {
        "crash loop: spawns of one slot in a minute": spawns,
        "crash loop: CPU of the master with its start, % of a core": 100 * (times.user + times.system) / LOOP_SECONDS,
    }


def processes_of(parent: int) -> list[int]:
    with open(f"/proc/{parent}/task/{parent}/children") as file:
        return [parent, *(int(pid) for pid in file.read().split())]


def pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no PSS of {pid}")


def switches(pid: int) -> int:
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        total += sum(int(line.split()[1]) for line in status.read_text().splitlines() if "ctxt_switches" in line)
    return total


def wait(seconds: float) -> None:
    """Let time pass: here it is what is measured."""
    select.select([], [], [], seconds)


if __name__ == "__main__":
    main()
