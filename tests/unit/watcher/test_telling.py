"""What the watcher tells the master, turn by turn, and until when all has been told."""

import os
from collections.abc import Iterator

import pytest

from prefork.ipc import messages
from prefork.ipc.channel import Channel, make_pair
from prefork.watcher import files, main
from prefork.watcher.main import Order, Places


class Clock:
    """Both clocks: the wall's is a million seconds ahead."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + 1e6


def told_of(turns: list[tuple[float, set[str]]], monkeypatch: pytest.MonkeyPatch) -> list[messages.FromWatcher]:
    """Return what the master hears of turns that end at these times with these changes."""
    clock = Clock()

    def watch(places: Places, since: float) -> Iterator[set[str]]:
        for clock.now, changed in turns:
            yield changed

    monkeypatch.setattr(files, "watch", watch)
    monkeypatch.setattr(main, "time", clock)
    ours, theirs = make_pair()
    with ours, theirs:
        main._watch(Order("shop", Places((), ()), 0.0, Channel(theirs, messages.to_watcher), os.getppid()))
        return Channel(ours, messages.from_watcher).receive()


def test_what_changed_is_told_and_once_it_is_quiet_until_when(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[tuple[float, set[str]]] = [
        (100.0, set()),
        (101.0, {"a.py"}),
        (102.0, set()),
        (103.5, set()),
        (104, set()),
    ]

    assert told_of(turns, monkeypatch) == [
        messages.Ready(),
        messages.Changed(["a.py"], 0),
        messages.Told(1e6 + 101.5),  # after the change, and so long ago that nothing is on its way
    ]


def test_nothing_is_said_while_changes_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [(100.0 + second, {"a.py"}) for second in range(5)]

    assert told_of(turns, monkeypatch)[1:] == [messages.Changed(["a.py"], 0)] * 5
