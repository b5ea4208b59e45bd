"""Suspects: who is served at several crashes, and nobody else."""

from prefork.ipc.scoreboard import Request
from prefork.master.suspects import Suspects


def serving(peer: str, tag: str = "") -> Request:
    return Request(peer, tag, listener=0, since=0.0)


def test_a_peer_is_a_suspect_at_the_second_crash_whatever_its_port() -> None:
    suspects = Suspects()

    first = list(suspects.note([serving("10.0.0.1:5"), serving("10.0.0.2:5")], 100.0))
    second = list(suspects.note([serving("10.0.0.1:6"), serving("10.0.0.3:5")], 110.0))

    assert (first, second) == ([], [("peer 10.0.0.1", 2)])
    assert suspects.found == 1


def test_a_tag_is_a_suspect_whoever_sends_it() -> None:
    suspects = Suspects()
    list(suspects.note([serving("10.0.0.1:5", "GET bomb")], 100.0))

    assert list(suspects.note([serving("[::1]:5", "GET bomb")], 110.0)) == [("tag 'GET bomb'", 2)]


def test_a_suspect_is_named_once_in_a_minute() -> None:
    suspects = Suspects()

    named = [list(suspects.note([serving("[fe80::1]:5")], 100.0 + 20 * crash)) for crash in range(6)]

    assert named == [[], [("peer [fe80::1]", 2)], [], [], [("peer [fe80::1]", 3)], []]


def test_crashes_more_than_a_minute_apart_have_nothing_in_common() -> None:
    suspects = Suspects()
    list(suspects.note([serving("10.0.0.1:5")], 100.0))

    assert list(suspects.note([serving("10.0.0.1:5")], 160.0)) == []


def test_one_crash_with_many_connections_of_a_peer_makes_no_suspect() -> None:
    suspects = Suspects()

    assert list(suspects.note([serving("10.0.0.1:5"), serving("10.0.0.1:6")], 100.0)) == []


def test_nameless_clients_are_not_taken_for_one() -> None:
    suspects = Suspects()

    assert [list(suspects.note([serving("unix")], 100.0 + crash)) for crash in range(3)] == [[], [], []]
