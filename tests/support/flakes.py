"""Runs the given tests many times beside a busy loop, to find the ones that pass by luck:

python tests/support/flakes.py ROUNDS PATH...
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

# One a round. Ends by itself when its parent is gone or an hour is over, whatever happens to us.
BUSY = """
import os, time
end, parent = time.monotonic() + 3600, os.getppid()
while time.monotonic() < end and os.getppid() == parent:
    sum(range(10_000))
"""


@contextmanager
def busy_loop() -> Iterator[None]:
    loop = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        loop.kill()
        loop.wait()


def main(rounds: int, paths: list[str]) -> int:
    if not paths:
        print("flakes: no tests given")
        return 2
    failed = []
    for number in range(1, rounds + 1):
        started = time.monotonic()
        with busy_loop():
            code = subprocess.call([sys.executable, "-m", "pytest", "-q", *paths], stdin=subprocess.DEVNULL)
        outcome = "failed" if code else "passed"
        print(f"flakes: round {number} of {rounds}: {outcome}, {time.monotonic() - started:.0f} s", flush=True)
        if code:
            failed.append(number)
    print(f"flakes: {len(failed)} of {rounds} rounds failed{': ' if failed else ''}{', '.join(map(str, failed))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
