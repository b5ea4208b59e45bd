"""Progress: one line that changes on a terminal, a line per decision elsewhere."""

import io
import re

import pytest

from prefork.cli.progress import Progress, render_counts


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_changes_and_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("prefork.cli.progress.time.monotonic", lambda: 100.0)
    terminal = Terminal()
    with Progress("reloading", terminal) as progress:
        progress.hear("starting worker: for good\x1b[2J", 1.0, {"wanted": 4, "serving": 3, "starting": 1})

    written = terminal.getvalue().split("\r")
    assert written[1:] == [
        "reloading 0s\x1b[K",
        "reloading 0s | 3 of 4 serve, 1 starting | starting worker: for good\\x1b[2J\x1b[K",
        "\x1b[K",
    ]


def test_the_line_never_fills_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    with Progress("reloading", terminal) as progress:
        progress.hear("x" * 500, 1.0, {})

    assert max(len(re.sub(r"\x1b\[K", "", line)) for line in terminal.getvalue().split("\r")) == 39


@pytest.mark.parametrize(
    ("said", "shown"), [("\u4e16" * 500, "\u4e16" * 12), ("e\u0301" * 500, "e\u0301" * 24)], ids=["wide", "combined"]
)
def test_the_terminal_is_filled_by_cells(said: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    with Progress("reloading", terminal) as progress:
        progress.hear(said, 1.0, {})

    assert terminal.getvalue().split("\r")[-2] == f"reloading 0s | {shown}\x1b[K"


def test_what_has_not_changed_is_not_written_again() -> None:
    terminal = Terminal()
    with Progress("reloading", terminal) as progress:
        before = terminal.getvalue()
        progress.wait()

        assert terminal.getvalue() == before


def test_elsewhere_each_decision_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("reloading") as progress:
        progress.hear("one", 1.0, {"wanted": 4})
        progress.wait()
        progress.hear("two", 2.0, {})

    assert capsys.readouterr().err == "one\ntwo\n"


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({}, ""),
        ({"wanted": 2}, "0 of 2 serve"),
        ({"wanted": 2, "serving": 2, "draining": 1}, "2 of 2 serve, 1 draining"),
        ({"wanted": 2, "serving": 1, "starting": 1, "killed": 1}, "1 of 2 serve, 1 starting, 1 killed"),
    ],
)
def test_the_counts_name_only_what_there_is(counts: dict[str, int], text: str) -> None:
    assert render_counts(counts) == text
