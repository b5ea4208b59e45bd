"""The history: rates and latencies from counts a second apart."""

import pytest

from prefork.admin.history import KEPT, History, quantile
from tests.unit.admin.view import connections, status


def at(*durations: int, failed: int = 0) -> dict[str, object]:
    return status(connections=[connections("a", *durations, failed=failed), connections("b")])


def test_a_sample_is_the_difference_of_two_counts() -> None:
    history = History()
    history.note(at(10), 100.0)
    history.note(at(10, 6, failed=4), 102.0)

    sample = history.samples[0]
    assert (sample.rate, sample.failed) == (3.0, 2.0)
    assert sample.median == pytest.approx(0.00175)
    assert (sample.busy, sample.threads, sample.open) == (8, 24, 4)


def test_in_a_second_in_which_nothing_ended_nothing_took_any_time() -> None:
    history = History()
    history.note(at(10), 100.0)
    history.note(at(10), 101.0)

    assert (history.samples[0].rate, history.samples[0].median, history.samples[0].slow) == (0.0, None, None)


def test_only_the_last_minutes_are_kept() -> None:
    history = History()
    for second in range(KEPT + 10):
        history.note(at(second), float(second))

    assert len(history.samples) == KEPT


@pytest.mark.parametrize(
    ("share", "counts", "expected"),
    [
        (0.5, [4, 0, 0], 0.5),
        (0.5, [0, 4, 0], 1.5),
        (0.95, [95, 5, 0], 1.0),
        (0.99, [0, 0, 9], 2.0),  # in the class without an end: its beginning
        (0.5, [0, 0, 0], None),
    ],
)
def test_a_quantile_is_estimated_within_its_class(share: float, counts: list[int], expected: float | None) -> None:
    assert quantile(share, counts, [1.0, 2.0]) == expected
