"""The scoreboard: rows of different workers and threads do not touch each other."""

import math
import os
import threading
import time

import pytest

from prefork.ipc.scoreboard import BEAT_INTERVAL, Scoreboard
from prefork.ipc.tallies import Tally
from prefork.policy import supervisor

LISTENERS = [f"tcp://10.0.0.{number}:80" for number in range(5)]


def test_a_row_counts_and_shows_what_it_serves() -> None:
    rows = Scoreboard(slots=2, threads=3, listeners=LISTENERS).worker(1)
    rows.opened(2, listener=4, client_address=("10.0.0.1", 5555))
    rows.tagged(2, "GET key")

    request = rows.requests()[0]
    assert (request.peer, request.tag, request.listener) == ("10.0.0.1:5555", "GET key", 4)
    assert rows.tallies()[LISTENERS[4]] == Tally(accepted=1)
    assert rows.tallies()[LISTENERS[0]] == Tally()


def test_a_finished_request_is_counted_and_not_shown() -> None:
    rows = Scoreboard(slots=1, threads=1, listeners=LISTENERS).worker(0)
    rows.opened(0, 0, None)
    rows.closed(0, failed=True)

    assert rows.requests() == []
    tally = rows.tallies()[LISTENERS[0]]
    assert (tally.accepted, tally.closed, tally.failed, tally.served) == (1, 1, 1, 0)


def test_a_row_with_several_requests_is_told_which_one_ended() -> None:
    rows = Scoreboard(slots=1, threads=1, listeners=LISTENERS).worker(0)
    rows.opened(1, 2, None)
    rows.opened(1, 3, None)
    rows.closed(1, failed=False, listener=2, since=time.monotonic() - 1000)

    assert rows.tallies()[LISTENERS[2]].durations[-1] == 1
    assert rows.tallies()[LISTENERS[3]] == Tally(accepted=1)


def test_a_connection_is_one_request_unless_it_is_served_message_by_message() -> None:
    rows = Scoreboard(slots=1, threads=3, listeners=LISTENERS).worker(0)
    rows.opened(0, 0, None)
    rows.closed(0, failed=False)
    rows.opened(1, 1, None)
    for _ in range(3):
        rows.message_began(1)
        rows.message_ended(1)
    rows.parked(1)
    rows.resumed(2, 1, None)
    rows.message_began(2)
    rows.closed(2, failed=True)  # in the middle of a message
    rows.opened(1, 2, None)
    rows.message_began(1)
    rows.message_ended(1, served=False)
    rows.closed(1, failed=False)

    told = [rows.tallies()[listener] for listener in LISTENERS[:3]]
    assert [sum(tally.durations) for tally in told] == [1, 4, 0]
    assert [(tally.accepted, tally.closed, tally.failed) for tally in told] == [(1, 1, 0), (1, 1, 1), (1, 1, 0)]


def test_a_tag_does_not_outlive_its_request() -> None:
    rows = Scoreboard(slots=1, threads=1, listeners=LISTENERS).worker(0)
    rows.opened(0, 0, ("a", 1))
    rows.tagged(0, "the first")
    rows.closed(0, failed=False)
    rows.opened(0, 0, ("b", 2))

    assert rows.requests()[0].tag == ""


def test_the_longest_request_comes_first() -> None:
    rows = Scoreboard(slots=1, threads=3, listeners=LISTENERS).worker(0)
    for row, name in ((2, "first"), (0, "second"), (1, "third")):
        rows.opened(row, 0, f"/{name}")

    assert [request.peer for request in rows.requests()] == ["/first", "/second", "/third"]


def test_the_shorter_requests_can_be_left_out() -> None:
    rows = Scoreboard(slots=1, threads=3, listeners=LISTENERS).worker(0)
    for row in (2, 0, 1):
        rows.opened(row, 0, f"/{row}")
    first = rows.requests()[0]

    assert [request.peer for request in rows.requests(most=2)] == ["/2", "/0"]
    assert rows.requests(begun_by=first.since) == [first]
    assert rows.requests(begun_by=first.since - 1) == []


def test_every_row_at_work_is_shown_and_no_idle_one() -> None:
    board = Scoreboard(slots=3, threads=300, listeners=LISTENERS)
    rows = board.worker(1)
    board.worker(0).opened(300, 0, "/before")
    board.worker(2).opened(0, 0, "/after")
    for row in (0, 7, 299, 300):  # the last one is the foreign servers'
        rows.opened(row, row % 5, f"/{row}")
    rows.opened(8, 0, "/over")
    rows.closed(8, failed=False)

    shown = [(request.row, request.peer, request.listener) for request in rows.requests()]
    assert shown == [(0, "/0", 0), (7, "/7", 2), (299, "/299", 4), (300, "/300", 0)]
    assert rows.count_busy() == 4


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf, -1.0])
def test_a_row_that_begins_at_no_time_is_not_shown(nonsense: float) -> None:
    rows = Scoreboard(slots=1, threads=1, listeners=LISTENERS).worker(0)
    rows.opened(0, 0, ("10.0.0.1", 5555))
    rows._since[0] = nonsense

    assert rows.requests() == []
    assert rows.count_busy() == 0


def test_what_one_row_parks_and_another_takes_up_is_parked_no_more() -> None:
    rows = Scoreboard(slots=2, threads=300, listeners=LISTENERS).worker(1)
    for row in (0, 7, 299):
        rows.opened(row, 0, "/client")
        rows.parked(row)
    rows.resumed(8, 0, "/client")

    assert rows.count_parked() == 2


def test_texts_longer_than_their_field_are_cut_and_not_spilled() -> None:
    rows = Scoreboard(slots=1, threads=2, listeners=LISTENERS).worker(0)
    rows.opened(1, 0, "/y")
    rows.opened(0, 0, "/" + "x" * 1000)
    rows.tagged(0, "é" * 1000)

    shown = {request.peer[:2]: request for request in rows.requests()}
    assert len(shown["/x"].peer) == 63
    assert shown["/y"].tag == ""


def test_slots_are_apart() -> None:
    board = Scoreboard(slots=3, threads=2, listeners=LISTENERS)
    board.worker(1).opened(2, 0, None)  # the last row of its slot
    board.worker(1).beat()

    assert set(board.worker(0).tallies().values()) == set(board.worker(2).tallies().values()) == {Tally()}
    assert board.worker(2).last_beat() is None


def test_a_cleared_slot_has_forgotten_its_worker() -> None:
    rows = Scoreboard(slots=1, threads=1, listeners=LISTENERS).worker(0)
    rows.beat()
    rows.opened(0, 0, None)
    rows.clear()

    assert rows.last_beat() is None
    assert set(rows.tallies().values()) == {Tally()}


def test_what_a_forked_process_writes_is_seen() -> None:
    rows = Scoreboard(slots=1, threads=1, listeners=LISTENERS).worker(0)
    if (pid := os.fork()) == 0:
        rows.opened(0, 0, "/child")
        os._exit(0)
    os.waitpid(pid, 0)

    assert rows.requests()[0].peer == "/child"


def test_the_supervisor_expects_beats_as_often_as_workers_beat() -> None:
    assert supervisor.BEAT_INTERVAL == BEAT_INTERVAL


def test_a_client_behind_a_proxy_takes_the_place_of_the_proxy() -> None:
    rows = Scoreboard(slots=1, threads=1, listeners=LISTENERS).worker(0)
    rows.opened(0, 3, ("127.0.0.1", 1))
    rows.tagged(0, "tag")
    rows.identified(0, ("2001:db8::1", 2, 0, 0))

    (request,) = rows.requests()
    assert (request.peer, request.tag, request.listener) == ("[2001:db8::1]:2", "tag", 3)


def test_a_refused_connection_is_counted_as_one() -> None:
    rows = Scoreboard(slots=1, threads=1, listeners=LISTENERS).worker(0)
    rows.opened(0, 0, None)
    rows.refused(0)
    rows.closed(0, failed=False)

    tally = rows.tallies()[LISTENERS[0]]
    assert (tally.accepted, tally.closed, tally.refused, tally.served) == (1, 1, 1, 0)


def test_a_request_may_be_given_more_time_which_does_not_outlive_it() -> None:
    rows = Scoreboard(slots=1, threads=1, listeners=LISTENERS).worker(0)
    rows.opened(0, 0, ("a", 1))
    before = rows.requests()[0]
    rows.extended(0, 60.0)
    extended = rows.requests()[0]
    rows.closed(0, failed=False)
    rows.opened(0, 0, ("b", 2))
    after = rows.requests()[0]

    assert before.deadline(5.0) == before.since + 5.0
    assert extended.deadline(5.0) >= extended.since + 60.0
    assert extended.deadline(100.0) == extended.since + 100.0
    assert after.deadline(5.0) == after.since + 5.0


def test_a_thread_is_known_by_whom_it_serves() -> None:
    rows = Scoreboard(slots=1, threads=1, listeners=LISTENERS).worker(0)
    rows.opened(0, 0, ("10.0.0.1", 5))
    rows.opened(1, 0, ("10.0.0.2", 6))  # of the foreign servers: whose thread serves it is not known
    rows.tagged(0, "GET key")
    since = rows.requests()[0].since

    labels = rows.labels(["tcp://:1"], since + 2.0)

    assert labels == {threading.get_ident(): "row 0, serves 10.0.0.1:5 at tcp://:1, tag 'GET key', for 2 s"}


def test_the_memory_is_as_last_said() -> None:
    rows = Scoreboard(slots=2, threads=1, listeners=LISTENERS).worker(1)
    before = rows.memory()
    rows.beat()
    rows.show_memory(1 << 40)

    assert (before, rows.memory()) == (0, 1 << 40)


def test_a_connection_parked_by_one_thread_may_be_taken_up_by_another() -> None:
    rows = Scoreboard(slots=1, threads=2, listeners=LISTENERS).worker(0)
    for client in ("/a", "/b"):
        rows.opened(0, 0, client)
        rows.parked(0)
    rows.resumed(1, 3, "/b")

    assert rows.count_parked() == 1
    assert [(request.peer, request.listener) for request in rows.requests()] == [("/b", 3)]
    assert (rows.total().accepted, rows.total().open) == (2, 2)


def test_the_age_shown_is_that_of_the_present_message() -> None:
    rows = Scoreboard(slots=1, threads=1, listeners=LISTENERS).worker(0)
    rows.opened(0, 0, "/a")
    opened = rows.requests()[0].since
    rows.message_began(0)

    assert rows.requests()[0].since > opened
    assert rows.requests()[0].peer == "/a"
