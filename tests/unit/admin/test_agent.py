"""What HAProxy's agent checks are told. Each state says all of it: what was said before stays otherwise."""

import pytest

from prefork.admin.agent import agent_line
from tests.unit.admin.view import status, worker


def workers(*busy: int) -> list[dict[str, object]]:
    return [worker(slot, threads_busy=number, parked=0) for slot, number in enumerate(busy)]


@pytest.mark.parametrize(
    ("status_", "line"),
    [
        (None, b"down #the master does not answer\n"),
        (status(workers=workers(2, 2)), b"up ready 75% maxconn:16\n"),
        (status(workers=workers(0, 0)), b"up ready 100% maxconn:16\n"),
        (status(workers=workers(8, 8)), b"up ready 1% maxconn:16\n"),
        (status(workers=[worker(0, parked=100), *workers(2)]), b"up ready 75% maxconn:216\n"),
        (status(workers=[*workers(4), worker(1, state="draining")]), b"up ready 50% maxconn:8\n"),
        (status(state="starting", ready=False), b"down #starting\n"),
        (status(ready=False), b"up drain\n"),
        (status(state="stopping", ready=False, workers=workers(1)), b"up drain\n"),
        (status(state="stopping", ready=False, workers=[worker(0, accepting=False)]), b"maint\n"),
        (status(state="stopping", ready=False, workers=[]), b"maint\n"),
        (status(ready=False, workers=[worker(0, state="starting")]), b"down #no worker serves\n"),
    ],
)
def test_the_verdict(status_: dict[str, object] | None, line: bytes) -> None:
    assert agent_line(status_) == line
