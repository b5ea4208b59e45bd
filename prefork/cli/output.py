"""What the commands print: results on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Sequence

from prefork.errors import PreforkError


def say(text: str = "") -> None:
    print(text)


def say_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def remark(text: str) -> None:
    """Print progress, one line of it, where it does not disturb a pipe."""
    print(plain(text), file=sys.stderr, flush=True)


def complain(error: PreforkError) -> None:
    """Print why a command was not carried out: every line of the reason, then the detail."""
    for line in str(error).splitlines():
        print(f"prefork: {plain(line)}", file=sys.stderr)
    for line in error.detail.splitlines():
        print(plain(line), file=sys.stderr)


def plain(text: str) -> str:
    """What comes from a server may contain what came from a client; a terminal must not obey it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def table(rows: Sequence[Sequence[str]], sides: str, gap: str = "  ") -> list[str]:
    """Align columns to the left or right: `sides` has a `<` or `>` for each one."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        gap.join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]
