import pytest

from prefork.policy.backoff import LONGEST, Backoff


def test_the_wait_doubles_from_half_a_second_to_half_a_minute() -> None:
    backoff = Backoff(proven_after=1.0)

    waits = [backoff.failed(now=0.0) for _ in range(9)]

    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_what_served_long_enough_is_replaced_at_once_and_starts_anew() -> None:
    backoff = Backoff(proven_after=1.0)
    backoff.failed(now=0.0)
    backoff.failed(now=10.0)

    assert backoff.ended(lasted=1.0, now=20.0) == 0.0
    assert backoff.not_before == 20.0
    assert backoff.ended(lasted=0.99, now=30.0) == 0.5
    assert backoff.not_before == 30.5


def test_weeks_of_failures_overflow_nothing() -> None:
    backoff = Backoff(proven_after=1.0, failures=10_000_000)

    assert backoff.failed(now=5.0) == LONGEST


@pytest.mark.parametrize("lasted", [0.0, 0.5])
def test_an_early_end_is_a_failure(lasted: float) -> None:
    backoff = Backoff(proven_after=1.0)

    assert backoff.ended(lasted, now=0.0) == 0.5
