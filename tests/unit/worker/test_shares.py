"""How workers share the sockets of one place, in virtual time."""

import math
import random
from collections import Counter

import pytest

from prefork.worker.shares import Share


class Board:
    """The claims of all workers, with the rings that each has not heard yet."""

    def __init__(self) -> None:
        self.owners: dict[int, int] = {}  # by inode: the number of the worker
        self.moves: Counter[int] = Counter()  # by inode: how often it has found an owner
        self.asking: int | None = None
        self.workers: dict[int, Worker] = {}

    def ring(self) -> None:
        for worker in self.workers.values():
            worker.rung = True


class ClaimsOf:
    """What one worker sees of them."""

    def __init__(self, board: Board, number: int) -> None:
        self._board = board
        self._number = number

    def claim(self, inode: int) -> bool:
        if inode in self._board.owners:
            return False
        self._board.owners[inode] = self._number
        self._board.moves[inode] += 1
        return True

    def release(self, inode: int) -> None:
        assert self._board.owners.pop(inode) == self._number

    def owner(self, inode: int) -> int | None:
        owner = self._board.owners.get(inode)
        return None if owner == self._number else owner

    def ask(self, group: int) -> bool:
        if self._board.asking is None:
            self._board.asking = self._number
        return self._board.asking == self._number

    def stop_asking(self, group: int) -> None:
        assert self._board.asking == self._number
        self._board.asking = None

    def asker(self, group: int) -> int | None:
        return None if self._board.asking == self._number else self._board.asking

    def ring(self) -> None:
        self._board.ring()


class Worker:
    def __init__(self, board: Board, number: int, sockets: int) -> None:
        self.share = Share(ClaimsOf(board, number), {index: 100 + index for index in range(sockets)})  # type: ignore[arg-type]  # what it uses of them
        self.rung = False
        self.due = math.inf


class Fleet:
    """Workers that come and go; those that are not frozen look when it rings, or when it is time."""

    def __init__(self, sockets: int, seed: int = 0) -> None:
        self.board = Board()
        self.sockets = sockets
        self.now = 0.0
        self.frozen: set[int] = set()
        self.looks = 0
        self._numbers = iter(range(1_000_000))
        self._random = random.Random(seed)

    @property
    def workers(self) -> dict[int, Worker]:
        return self.board.workers

    def start(self) -> int:
        number = next(self._numbers)
        self.workers[number] = Worker(self.board, number, self.sockets)
        self.board.ring()
        return number

    def start_four(self) -> list[int]:
        started = [self.start() for _ in range(4)]
        self.settle()
        self.wait(1.1)
        assert self.counts() == [self.sockets // 4] * 4
        return started

    def end(self, number: int, rings: bool = True) -> None:
        del self.workers[number]
        self.board.owners = {inode: owner for inode, owner in self.board.owners.items() if owner != number}
        if self.board.asking == number:
            self.board.asking = None
        if rings:
            self.board.ring()

    def settle(self) -> None:
        """Let all look, in any order, until nobody is rung any more."""
        for _ in range(100 * self.sockets * max(1, len(self.workers))):
            rung = [number for number, one in self.workers.items() if one.rung and number not in self.frozen]
            if not rung:
                return
            self._look(self.workers[self._random.choice(rung)])
        pytest.fail("they never settle")

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self._next_due()) <= end:
            self.now = max(self.now, due)
            for number in self._random.sample(sorted(self.workers), len(self.workers)):
                if self.workers[number].due <= self.now and number not in self.frozen:
                    self._look(self.workers[number])
            self.settle()
        self.now = end

    def _next_due(self) -> float:
        return min((one.due for number, one in self.workers.items() if number not in self.frozen), default=math.inf)

    def _look(self, worker: Worker) -> None:
        self.looks += 1
        worker.rung = False
        worker.due = worker.share.look(len(self.workers), self.now)
        assert worker.due > self.now
        if worker.share.leaving:
            worker.rung = True  # its threads will tell when they have left
            if self._random.random() < 0.5:
                worker.share.let_go()

    def counts(self) -> list[int]:
        for number, worker in self.workers.items():
            owned = {inode - 100 for inode, owner in self.board.owners.items() if owner == number}
            assert owned == {*worker.share.held, *worker.share.leaving}
        return sorted(len(worker.share.held) for worker in self.workers.values())

    def assert_fair(self) -> None:
        counts = self.counts()
        assert sum(counts) == self.sockets
        assert counts[-1] - counts[0] <= 1


@pytest.mark.parametrize("workers", range(1, 7))
@pytest.mark.parametrize("sockets", [2, 4, 7, 16])
def test_each_has_as_many_as_the_others_soon(sockets: int, workers: int) -> None:
    fleet = Fleet(sockets)
    for _ in range(workers):
        fleet.start()
        fleet.settle()

    fleet.wait(1.1)
    fleet.assert_fair()


def test_many_find_their_shares_with_few_looks() -> None:
    fleet = Fleet(256)
    for _ in range(64):
        fleet.start()
    fleet.settle()
    fleet.wait(1.1)

    assert fleet.counts() == [4] * 64
    assert fleet.looks < 64 * 64 / 4


@pytest.mark.parametrize("seed", range(20))
def test_while_all_are_replaced_each_socket_moves_once(seed: int) -> None:
    fleet = Fleet(8, seed)
    old = fleet.start_four()
    fleet.board.moves.clear()

    for number in old:
        fleet.start()
        fleet.settle()
        fleet.end(number)
        fleet.settle()
        fleet.assert_fair()

    assert fleet.board.moves == Counter(range(100, 108))


def test_what_is_left_is_nobody_elses_until_it_is_let_go_of() -> None:
    fleet = Fleet(2)
    first = fleet.workers[fleet.start()]
    fleet.settle()
    second = fleet.workers[fleet.start()]
    second.share.look(2, 0.0)
    second.share.look(2, 1.1)

    for _ in range(3):
        first.share.look(2, 1.1)
        second.share.look(2, 1.1)
        assert (len(first.share.held), len(first.share.leaving), len(second.share.held)) == (1, 1, 0)
    first.share.let_go()
    second.share.look(2, 1.1)
    assert (len(first.share.held), len(first.share.leaving), len(second.share.held)) == (1, 0, 1)


def test_what_a_dead_worker_had_waits_a_moment_for_its_successor() -> None:
    fleet = Fleet(8)
    dead = fleet.start_four()[0]
    fleet.end(dead)
    fleet.settle()
    assert fleet.counts() == [2, 2, 2]

    fleet.start()
    fleet.settle()
    assert fleet.counts() == [2, 2, 2, 2]


def test_others_take_what_a_dead_worker_had_if_nobody_comes() -> None:
    fleet = Fleet(8)
    dead = fleet.start_four()[0]
    fleet.end(dead)
    fleet.settle()

    fleet.wait(0.15)
    assert fleet.counts() == [2, 3, 3]


def test_what_a_frozen_worker_does_not_take_others_do() -> None:
    fleet = Fleet(8)
    first = fleet.start()
    fleet.settle()
    fleet.frozen.add(fleet.start())
    fleet.end(first, rings=False)
    third = fleet.start()
    fleet.settle()
    assert len(fleet.workers[third].share.held) == 4

    fleet.wait(1.5)
    assert len(fleet.workers[third].share.held) == 8


@pytest.mark.parametrize("seed", range(50))
def test_whoever_comes_and_goes_all_is_served_and_fairly(seed: int) -> None:
    fates = random.Random(seed)
    fleet = Fleet(fates.choice([2, 3, 8, 13, 32]), seed)
    for _ in range(60):
        match fates.randrange(4):
            case 0 | 1 if len(fleet.workers) < 9:
                fleet.start()
            case 2 if len(fleet.workers) > 1:
                fleet.end(fates.choice(sorted(fleet.workers)), rings=fates.random() < 0.5)
            case _:
                fleet.wait(fates.random())
        if fates.random() < 0.5:
            fleet.settle()
    if not fleet.workers:
        fleet.start()
    fleet.board.ring()
    fleet.settle()
    fleet.wait(3.0)

    fleet.assert_fair()
