"""The ledger: what workers count in their own accounts and read of each other's."""

import os
import select
from collections.abc import Iterator

import pytest

from prefork.ipc.ledger import Ledger


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger(slots=8)
    for slot in range(3):
        ledger.clear(slot)
    yield ledger
    ledger.close()


def same_bucket(count: int) -> list[int]:
    return [1 + 256 * number for number in range(count)]


def test_what_all_workers_have_open_adds_up(ledger: Ledger) -> None:
    ledger.account(0).add(2)
    ledger.account(2).add(3)
    ledger.account(2).add(-1)

    assert ledger.total() == ledger.account(1).total() == 4


def test_another_process_sees_it(ledger: Ledger) -> None:
    pid = os.fork()
    if not pid:
        ledger.account(1).add(7)
        ledger.account(1).add_peer(42, 1)
        os._exit(0)
    os.waitpid(pid, 0)

    assert ledger.total() == 7
    assert ledger.account(0).peer_total(42) == 1


def test_a_worker_that_has_gone_has_nothing_open(ledger: Ledger) -> None:
    account = ledger.account(1)
    account.add(5)
    account.add_peer(42, 5)
    account.wait_for_room(True)

    ledger.clear(1)

    assert ledger.total() == 0
    assert account.peer_total(42) == 0


def test_what_a_peer_has_with_all_workers_adds_up(ledger: Ledger) -> None:
    ledger.account(0).add_peer(42, 1)
    ledger.account(1).add_peer(42, 1)
    ledger.account(1).add_peer(42, 1)
    ledger.account(1).add_peer(43, 1)
    ledger.account(0).add_peer(42, -1)

    assert ledger.account(2).peer_total(42) == 2


def test_peers_that_share_a_bucket_are_told_apart_and_leave_their_cells_to_others(ledger: Ledger) -> None:
    account = ledger.account(0)
    for fingerprint in same_bucket(8):
        account.add_peer(fingerprint, 1)
    account.add_peer(same_bucket(9)[-1], 1)
    assert [account.peer_total(fingerprint) for fingerprint in same_bucket(9)] == [1] * 8 + [0]

    account.add_peer(same_bucket(9)[-1], -1)  # it was never counted
    account.add_peer(same_bucket(1)[0], -1)
    account.add_peer(same_bucket(9)[-1], 1)
    assert [account.peer_total(fingerprint) for fingerprint in same_bucket(9)] == [0] + [1] * 8


def test_the_bell_rings_only_if_somebody_waits_and_then_for_every_worker(ledger: Ledger) -> None:
    ears = [select.epoll() for _ in range(2)]
    for ear in ears:
        ear.register(ledger.bell, select.EPOLLIN | select.EPOLLET)
        ear.poll(0)
    ledger.account(0).ring_if_awaited()
    assert [ear.poll(0) for ear in ears] == [[], []]

    ledger.account(1).wait_for_room(True)
    ledger.account(0).ring_if_awaited()
    assert all(ear.poll(0) for ear in ears)
    assert [ear.poll(0) for ear in ears] == [[], []]

    ledger.account(0).ring_if_awaited()
    assert all(ear.poll(0) for ear in ears)
    for ear in ears:
        ear.close()
