"""What is said of the limits, once for all workers."""

from collections.abc import Iterator

import pytest

from prefork.ipc.ledger import Ledger
from prefork.master.pressure import Pressure


@pytest.fixture
def pressure() -> Iterator[Pressure]:
    ledger = Ledger(slots=2)
    yield Pressure(ledger)
    ledger.close()


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


def test_an_overload_begins_with_the_first_worker_and_ends_with_the_last(
    pressure: Pressure, caplog: pytest.LogCaptureFixture
) -> None:
    for number, waiting in [(1, True), (2, True), (1, False), (3, False), (1, True), (1, False), (2, False)]:
        pressure.note_overload(number, waiting)

    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_refused_peer_is_news_after_a_quiet_minute(pressure: Pressure, caplog: pytest.LogCaptureFixture) -> None:
    for now in (0.0, 30.0, 60.0, 119.0):
        pressure.note_refused("192.0.2.1", now)
    assert len(caplog.records) == 1

    pressure.note_refused("192.0.2.1", 179.0)
    pressure.note_refused("192.0.2.2", 179.0)
    assert len(caplog.records) == 3


def test_refused_peers_are_forgotten_before_they_become_too_many(pressure: Pressure) -> None:
    for number in range(5000):
        pressure.note_refused(str(number), 1.0)

    assert len(pressure._refused) == 4096
