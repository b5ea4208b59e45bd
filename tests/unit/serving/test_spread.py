"""How a pool leaves a connection to a less busy worker, and when it does not wait for one any more."""

from itertools import pairwise

import pytest

from prefork.serving import spread
from prefork.serving.activity import NoActivity
from prefork.serving.spread import MOMENTS, Spread


class Others(NoActivity):
    """The other workers: what the least busy one shows, look by look, and then always the last."""

    def __init__(self, *shown: float) -> None:
        self._shown = list(shown)

    def less_busy(self) -> float:
        return self._shown.pop(0) if len(self._shown) > 1 else self._shown[0]


class Queue:
    """What waits at the listener until somebody else `takes_at` a look, if ever."""

    def __init__(self, takes_at: int | None = None) -> None:
        self.given: list[float] = []
        self._takes_at = takes_at

    def is_left_by_others(self, _: object, seconds: float) -> bool:
        self.given.append(seconds)
        return len(self.given) != self._takes_at


def leaves(manners: Spread, queue: Queue) -> bool:
    return manners.leaves(None, queue)  # type: ignore[arg-type]  # stand-ins: no listener, and a queue for all waits


def test_it_is_ours_at_once_if_nobody_is_less_busy() -> None:
    queue = Queue()

    assert not leaves(Spread(Others(0.0)), queue)
    assert queue.given == []


@pytest.mark.parametrize("look", range(1, len(MOMENTS) + 1))
def test_it_is_left_to_the_one_that_takes_it(look: int) -> None:
    queue = Queue(takes_at=look)

    assert leaves(Spread(Others(3.0)), queue)
    assert queue.given == list(MOMENTS[:look])


def test_it_is_ours_as_soon_as_nobody_is_less_busy_any_more() -> None:
    queue = Queue()

    assert not leaves(Spread(Others(3.0, 3.0, 0.0)), queue)
    assert len(queue.given) == 2


def test_who_takes_nothing_is_waited_for_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(spread, "monotonic", lambda: now)
    manners, queue = Spread(Others(3.0)), Queue()
    waited_at = []
    while now < 110:
        seen = len(queue.given)
        assert not leaves(manners, queue)
        if len(queue.given) > seen:
            waited_at.append(now)
        now += 0.01

    waits = [later - earlier for earlier, later in pairwise(waited_at)]
    assert waits[0] == pytest.approx(0.02, abs=0.011)
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(1.0, abs=0.011)


def test_who_takes_something_after_all_is_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "monotonic", lambda: 100.0)
    manners = Spread(Others(*[3.0] * (1 + len(MOMENTS)), 4.0))
    assert not leaves(manners, Queue())

    assert leaves(manners, Queue(takes_at=1))  # it shows something else now
