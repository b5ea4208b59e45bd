"""What all benchmarks have in common: a number of rounds in which everybody has a turn, and medians over them."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

Contender = TypeVar("Contender")


def options(description: str, **numbers: int) -> argparse.ArgumentParser:
    """Return a parser for `--rounds`, and for these options with their defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=5)
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser


def turns(contenders: Sequence[Contender], rounds: int) -> Iterator[Contender]:
    """Yield each contender once a round, in an order that is another one each time; say how far we are."""
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        first = number % len(contenders)
        yield from [*contenders[first:], *contenders[:first]]


def medians(figures: Iterable[object], *fields: str) -> list[float]:
    """Return the medians of these fields."""
    rows = list(figures)
    return [statistics.median(getattr(one, field) for one in rows) for field in fields]


def machine() -> str:
    return f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
