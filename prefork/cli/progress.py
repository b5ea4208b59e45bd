"""What an order shows while it is carried out: on a terminal one line that changes, elsewhere a line per decision."""

import shutil
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self, TextIO
from unicodedata import combining, east_asian_width

from prefork.cli.output import plain, remark


class Progress:
    """Hears what the server decides. Use it as a context manager: at the end, the line on the terminal is gone."""

    def __init__(self, doing: str, stream: TextIO | None = None) -> None:
        self._doing = doing
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._begun = time.monotonic()
        self._counts: Mapping[str, int] = {}
        self._latest = ""
        self._shown = ""

    def hear(self, text: str, at: float, counts: Mapping[str, int]) -> None:
        self._latest, self._counts = text, counts or self._counts
        if self._terminal:
            self._show()
        else:
            remark(text)

    def wait(self) -> None:
        if self._terminal:
            self._show()

    def __enter__(self) -> Self:
        self.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
            self._write("\r\x1b[K")

    def _show(self) -> None:
        width = shutil.get_terminal_size().columns
        elapsed = time.monotonic() - self._begun
        parts = [f"{self._doing} {elapsed:.0f}s", render_counts(self._counts), self._latest]
        line = _cut(plain(" | ".join(part for part in parts if part)), max(width - 1, 10))
        if line != self._shown:
            self._shown = line
            self._write(f"\r{line}\x1b[K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def render_counts(counts: Mapping[str, int]) -> str:
    """Write "3 of 4 serve, 1 starting, 1 draining"."""
    if "wanted" not in counts:
        return ""
    others = [f"{counts[state]} {state}" for state in ("starting", "draining", "killed") if counts.get(state)]
    return ", ".join([f"{counts.get('serving', 0)} of {counts['wanted']} serve", *others])


def _cut(text: str, width: int) -> str:
    """Return as much of the text as the terminal has cells for: some characters take two, and some none."""
    used = 0
    for place, character in enumerate(text):
        used += 0 if combining(character) else 2 if east_asian_width(character) in "FW" else 1
        if used > width:
            return text[:place]
    return text
