"""Claims of several processes."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from prefork.ipc.claims import Claims


@pytest.fixture
def claims() -> Iterator[Claims]:
    claims = Claims()
    yield claims
    claims.close()


@contextmanager
def another_process(does: Callable[[], object]) -> Iterator[int]:
    """Have it done in a child, which lives as long as this lasts unless it is killed."""
    told, tell = os.pipe()
    hear_end, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(end)
        try:
            does()
            os.write(tell, b"\0")
            os.read(hear_end, 1)
        finally:
            os._exit(0)
    os.close(hear_end)
    os.read(told, 1)
    try:
        yield pid
    finally:
        for descriptor in (told, tell, end):
            os.close(descriptor)
        os.waitpid(pid, 0)


def test_a_socket_has_one_owner_until_that_one_ends(claims: Claims) -> None:
    with another_process(lambda: claims.claim(7)) as owner:
        assert claims.owner(7) == owner
        assert not claims.claim(7)
        assert claims.claim(8)
        assert claims.owner(8) is None

    assert claims.owner(7) is None
    assert claims.claim(7)


def test_children_of_an_owner_own_nothing(claims: Claims) -> None:
    assert claims.claim(7)
    tell, told = os.pipe()

    with another_process(lambda: os.write(told, b"%d %d" % (claims.owner(7) is None, claims.claim(7)))):
        assert os.read(tell, 10) == b"0 0"
    os.close(tell)
    os.close(told)


def test_what_is_released_is_free(claims: Claims) -> None:
    def take_and_release() -> None:
        claims.claim(7)
        claims.claim(8)
        claims.release(7)

    with another_process(take_and_release):
        assert claims.claim(7)
        assert not claims.claim(8)


def test_those_who_serve_are_counted_in_whatever_order_they_came(claims: Claims) -> None:
    claims.begin()
    assert claims.others() == 0
    with another_process(claims.begin), another_process(claims.begin), another_process(claims.begin) as last:
        assert claims.others() == 3
        with another_process(lambda: None):
            assert claims.others() == 3
        os.kill(last, 9)
        os.waitid(os.P_PID, last, os.WEXITED | os.WNOWAIT)
        assert claims.others() == 2

    assert claims.others() == 0


def test_only_one_asks_for_a_group(claims: Claims) -> None:
    with another_process(lambda: claims.ask(7)) as asker:
        assert claims.asker(7) == asker
        assert not claims.ask(7)
        assert claims.asker(8) is None
        assert claims.owner(7) is None

    assert claims.asker(7) is None
    assert claims.ask(7)


def test_who_ends_lets_go_of_everything(claims: Claims) -> None:
    def begin_and_end() -> None:
        claims.begin()
        claims.claim(7)
        claims.ask(7)
        claims.end()

    with another_process(begin_and_end):
        assert claims.others() == 0
        assert claims.owner(7) is None
        assert claims.asker(7) is None


def test_a_successor_has_the_same_claims(claims: Claims) -> None:
    with another_process(lambda: claims.claim(7)) as owner:
        inherited = Claims([os.dup(descriptor) for descriptor in claims.descriptors])
        assert inherited.owner(7) == owner
        inherited.close()
