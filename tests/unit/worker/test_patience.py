"""Patience: what becomes of a handler that is over its time, step by step."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from prefork.ipc.scoreboard import Scoreboard, WorkerRows
from prefork.system.stacks import own_stack
from prefork.worker.patience import Patience


class Story:
    """A worker whose only connection is served by another thread, which waits until it is told to go on."""

    def __init__(self, timeout: float) -> None:
        self.rows: WorkerRows = Scoreboard(slots=1, threads=2, listeners=["tcp://:1"]).worker(0)
        self.cuts: list[int] = []
        self.replacements: list[str] = []
        self.patience = Patience(timeout, self.rows, [self], ["tcp://:1"], self.replacements.append)  # type: ignore[list-item]  # only what is asked of it
        self._opened, self._go_on = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        assert self._opened.wait(30)
        while not self._waits():
            pass
        self.since = self.rows.requests()[0].since

    def _waits(self) -> bool:
        """Say whether the thread stands where it will stand until it is told to go on."""
        assert self._thread.ident is not None
        return "in wait" in own_stack(self._thread.ident).partition("\n")[0]

    def _serve(self) -> None:
        self.rows.opened(1, 0, ("10.0.0.1", 5))
        self._opened.set()
        self._go_on.wait()
        self.rows.closed(1, failed=False)

    def cut_row(self, row: int, still: Callable[[], bool]) -> None:
        if still():
            self.cuts.append(row)

    def look(self, after: float) -> None:
        self.patience.look(self.since + after)

    def end(self) -> None:
        self._go_on.set()
        self._thread.join()


@pytest.fixture
def story() -> Iterator[Story]:
    told = Story(timeout=5.0)
    yield told
    told.end()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    monkeypatch.setattr(logging.getLogger("prefork"), "propagate", True)
    caplog.set_level(logging.DEBUG, "prefork.worker")
    return lambda: [record.getMessage().partition(":")[0] for record in caplog.records]


def test_a_handler_in_its_time_is_left_alone(story: Story, said: Callable[[], list[str]]) -> None:
    story.look(after=4.9)

    assert (said(), story.cuts, story.replacements) == ([], [], [])


def test_an_overdue_handler_is_shown_then_cut_then_given_up(story: Story, said: Callable[[], list[str]]) -> None:
    steps = []
    for after in (5.1, 5.6, 6.2, 6.5, 6.8, 7.5):
        story.look(after)
        steps.append((len(said()), len(story.cuts), story.patience.given_up))

    assert said() == ["handler overdue", "handler stuck", "handler not freed"]
    assert steps == [(1, 0, 0), (1, 0, 0), (2, 1, 0), (2, 1, 0), (3, 1, 1), (3, 1, 1)]
    assert story.cuts == [1]
    assert "a handler does not end: it has served 10.0.0.1:5 at tcp://:1" in story.replacements[0]


def test_a_handler_that_comes_free_is_forgotten(story: Story, said: Callable[[], list[str]]) -> None:
    for after in (5.1, 6.2):
        story.look(after)
    story.end()
    story.look(6.8)

    assert said() == ["handler overdue", "handler stuck", "handler not overdue any more"]
    assert (story.replacements, story.patience.given_up) == ([], 0)


def test_a_handler_that_asks_for_more_time_is_forgotten(story: Story, said: Callable[[], list[str]]) -> None:
    story.look(5.1)
    story.rows.extended(1, 60.0)
    story.look(6.2)

    assert said() == ["handler overdue", "handler not overdue any more"]
    assert story.cuts == []


def test_a_thread_that_serves_somebody_else_meanwhile_is_not_cut(story: Story) -> None:
    story.look(5.1)
    story.rows.opened(1, 0, ("10.0.0.2", 6))
    story.look(6.2)

    assert story.cuts == []


def test_a_foreign_servers_connection_has_no_deadline(story: Story, said: Callable[[], list[str]]) -> None:
    story.end()
    story.rows.opened(2, 0, ("10.0.0.1", 5))
    story.look(after=60.0)

    assert said() == []


def test_without_a_limit_nobody_is_late(said: Callable[[], list[str]]) -> None:
    story = Story(timeout=0.0)
    story.look(after=1e6)
    story.end()

    assert said() == []
