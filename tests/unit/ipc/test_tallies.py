"""Tallies: counted in words of one writer, added up by whoever reads."""

import pytest

from prefork.ipc.tallies import BOUNDS, Tally, TallyBoard, add_up


def board(slots: int = 2) -> TallyBoard:
    return TallyBoard(slots, rows=3, listeners=["tcp://a:1", "udp://b:2"])


def test_rows_and_listeners_are_counted_apart_and_added_up() -> None:
    rows = board().slot(1)
    rows.opened(0, 0)
    rows.opened(2, 0)
    rows.opened(2, 1)
    rows.took(2, 0, 0.5)
    rows.closed(2, 0, failed=True)

    told = rows.read()
    assert (told["tcp://a:1"].accepted, told["tcp://a:1"].failed, told["tcp://a:1"].open) == (2, 1, 1)
    assert told["tcp://a:1"].seconds == 0.5
    assert told["udp://b:2"] == Tally(accepted=1)


def test_slots_do_not_touch_each_other() -> None:
    both = board()
    both.slot(0).opened(2, 1)
    both.slot(1).clear()

    assert both.slot(0).read()["udp://b:2"].accepted == 1
    assert set(both.slot(1).read().values()) == {Tally()}


@pytest.mark.parametrize(
    ("seconds", "place"), [(0.0, 0), (0.001, 0), (0.0011, 1), (10.0, len(BOUNDS) - 1), (11.0, len(BOUNDS))]
)
def test_a_duration_is_counted_in_its_class_which_includes_its_upper_end(seconds: float, place: int) -> None:
    rows = board().slot(0)
    rows.took(0, 0, seconds)

    assert rows.read()["tcp://a:1"].durations[place] == 1


def test_what_was_open_in_a_dead_worker_is_lost() -> None:
    rows = board().slot(0)
    rows.opened(0, 0)
    rows.opened(1, 0)
    rows.closed(1, 0, failed=False)

    buried = rows.read()["tcp://a:1"].bury()
    assert (buried.lost, buried.open, buried.served) == (1, 0, 1)


def test_the_same_listener_in_several_places_is_one() -> None:
    total = add_up(
        [{"a": Tally(accepted=1, seconds=0.5)}, {"b": Tally(accepted=4)}, {"a": Tally(accepted=2, seconds=1)}]
    )

    assert total == {"a": Tally(accepted=3, seconds=1.5), "b": Tally(accepted=4)}


def test_a_generation_without_listeners_counts_nothing() -> None:
    assert TallyBoard(1, rows=2, listeners=[]).slot(0).read() == {}
