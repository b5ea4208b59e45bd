"""Which listener a leader tries again at once, and who may."""

import socketserver
from collections.abc import Iterator
from typing import Any

import pytest

from prefork.serving.accepting import Intake
from prefork.serving.pool import Pool
from prefork.serving.poolthread import PoolThread
from prefork.serving.retry import PAUSE, RUN, Retry
from prefork.serving.threadpool import ThreadPoolUDPServer
from tests.unit.serving.conftest import LOOPBACK, Echo, make_server

ME, OTHER = (PoolThread(Pool(2), row) for row in range(2))


@pytest.fixture
def streams() -> Iterator[Intake]:
    with make_server() as server:
        yield Intake(server, 0)


@pytest.fixture
def datagrams() -> Iterator[Intake]:
    with ThreadPoolUDPServer(LOOPBACK, Echo) as server:
        yield Intake(server, 0)


def row(retry: Retry, intake: Intake) -> int:
    """Count how many are taken in a row, if there is always one more."""
    count = 0
    while True:
        retry.expect(intake, ME)
        if retry.choose(ME) is None:
            return count
        count += 1


def test_a_connection_is_tried_for_by_the_thread_that_left_the_last_one(streams: Intake) -> None:
    retry = Retry()
    retry.expect(streams, ME)

    assert retry.choose(ME) is streams
    assert retry.choose(ME) is None


def test_it_is_not_tried_for_once_another_thread_leads(streams: Intake) -> None:
    retry = Retry()
    retry.expect(streams, ME)

    assert retry.choose(OTHER) is None
    assert retry.choose(ME) is None


def test_a_datagram_is_tried_for_by_whoever_leads(datagrams: Intake) -> None:
    retry = Retry()
    retry.expect(datagrams, ME)

    assert retry.choose(OTHER) is datagrams


def test_it_is_not_tried_for_when_another_request_was_taken(streams: Intake) -> None:
    retry = Retry()
    retry.expect(streams, ME)
    retry.forget()

    assert retry.choose(ME) is None


def test_after_so_many_in_a_row_there_is_a_wait_and_then_a_new_row(streams: Intake) -> None:
    retry = Retry()

    assert [row(retry, streams), row(retry, streams)] == [RUN, RUN]


def test_after_an_attempt_in_vain_there_is_none_for_a_while(streams: Intake) -> None:
    retry = Retry()
    retry.expect(streams, ME)
    retry.choose(ME)
    retry.note_in_vain(streams)

    tried = []
    for _ in range(PAUSE + 1):
        retry.expect(streams, ME)
        tried.append(retry.choose(ME))
    assert tried == [None] * PAUSE + [streams]


def test_a_failure_after_a_wait_was_no_attempt_in_vain(streams: Intake) -> None:
    retry = Retry()
    retry.choose(ME)
    retry.note_in_vain(streams)
    retry.expect(streams, ME)

    assert retry.choose(ME) is streams


class WithItsOwn(socketserver.TCPServer):
    def get_request(self) -> Any:
        return super().get_request()


def test_a_server_with_a_get_request_of_its_own_is_not_tried() -> None:
    with make_server(server_class=WithItsOwn) as server:
        assert not Intake(server, 0).may_have_more


@pytest.mark.parametrize("timeout", [None, 1.0])
def test_a_listener_that_would_wait_is_not_tried(timeout: float | None) -> None:
    with make_server() as server:
        server.socket.settimeout(timeout)
        assert not Intake(server, 0).may_have_more
