"""Which worker should take the next connection."""

import pytest

from prefork.ipc.loads import Loads, WorkerLoad


@pytest.fixture
def workers() -> list[WorkerLoad]:
    """Three that accept and have never served, in a board for more."""
    loads = Loads(10)
    workers = [loads.worker(slot) for slot in range(3)]
    for worker in workers:
        worker.clear()
    for worker in workers:
        worker.change(0)
    return workers


def visit(worker: WorkerLoad) -> None:
    worker.change(1)
    worker.change(0)


def test_at_first_nobody_waits(workers: list[WorkerLoad]) -> None:
    assert [bool(worker.less_busy()) for worker in workers] == [False] * 3


def test_idle_workers_take_turns(workers: list[WorkerLoad]) -> None:
    visit(workers[0])
    assert [bool(worker.less_busy()) for worker in workers] == [True, False, False]
    visit(workers[1])
    assert [bool(worker.less_busy()) for worker in workers] == [True, True, False]
    visit(workers[2])
    assert [bool(worker.less_busy()) for worker in workers] == [False, False, False]


def test_who_took_two_in_a_row_waits_until_the_others_have_taken_as_many(workers: list[WorkerLoad]) -> None:
    for worker in (workers[0], workers[0], workers[1], workers[2]):
        visit(worker)

    assert [bool(worker.less_busy()) for worker in workers] == [True, False, False]


def test_a_new_worker_does_not_have_to_catch_up() -> None:
    loads = Loads(2)
    old, new = loads.worker(0), loads.worker(1)
    old.clear()
    new.clear()
    for _ in range(100):
        visit(old)
    new.change(0)

    assert not old.less_busy()


def test_a_busy_worker_waits_for_a_less_busy_one(workers: list[WorkerLoad]) -> None:
    workers[0].change(2)
    workers[1].change(1)
    workers[2].change(2)

    assert [bool(worker.less_busy()) for worker in workers] == [True, False, True]


def test_equally_busy_workers_never_wait(workers: list[WorkerLoad]) -> None:
    for worker in workers:
        worker.change(3)

    assert [bool(worker.less_busy()) for worker in workers] == [False] * 3


def test_nobody_waits_for_a_worker_that_does_not_accept(workers: list[WorkerLoad]) -> None:
    workers[0].change(1)
    workers[1].change(None)
    workers[2].clear()

    assert not workers[0].less_busy()


def test_a_worker_alone_waits_for_nobody() -> None:
    worker = Loads(10).worker(0)
    worker.clear()
    worker.change(1)

    assert not worker.less_busy()


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -1.0])
def test_a_new_worker_begins_as_the_others_whatever_one_of_them_scribbles(nonsense: float) -> None:
    loads = Loads(10)
    scribbler, former, new = (loads.worker(slot) for slot in range(3))
    for worker in (scribbler, former, new):
        worker.clear()
    former.change(0)
    visit(former)
    loads._numbers[1] = nonsense
    new.change(0)

    assert loads._numbers[3] == loads._numbers[2] == 2.0
