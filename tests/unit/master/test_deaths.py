"""What the log says of a death."""

from prefork.ipc.scoreboard import Request
from prefork.master.deaths import Death, detail_of


def a_death(
    in_flight: list[Request],
    resident_bytes: int = 0,
    words: str = "",
    parked: int = 0,
    others: int = 0,
    oom_kills: int | None = None,
) -> Death:
    return Death(
        number=1,
        identity={"worker": 3, "gen": 2},
        how="killed by SIGSEGV",
        at=105.0,
        age=5.0,
        accepted=7,
        resident_bytes=resident_bytes,
        in_flight=in_flight,
        parked=parked,
        others=others,
        listeners=["tcp://127.0.0.1:9999"],
        words=words,
        oom_kills=oom_kills,
    )


def test_a_death_is_told_with_whom_it_served_and_its_last_words() -> None:
    request = Request("10.0.0.1:5", "GET key", listener=0, since=102.0)
    death = a_death([request], resident_bytes=50 * 1024 * 1024, words="Fatal Python error")

    assert detail_of(death).splitlines() == [
        "it had accepted 7 in 5 s; memory at the last look: 50 MiB",
        "lost with it: 10.0.0.1:5 at tcp://127.0.0.1:9999, tag 'GET key', for 3 s",
        "Fatal Python error",
    ]


def test_what_is_not_known_is_not_invented() -> None:
    request = Request("10.0.0.1:5", "", listener=9, since=102.0)

    assert detail_of(a_death([request])).splitlines() == [
        "it had accepted 7 in 5 s; memory at the last look: unknown",
        "lost with it: 10.0.0.1:5, for 3 s",
    ]


def test_of_many_connections_those_that_are_not_named_are_counted() -> None:
    many = [Request(f"10.0.0.1:{port}", "", listener=0, since=102.0) for port in range(50)]

    lines = detail_of(a_death(many)).splitlines()

    assert len(lines) == 22
    assert lines[-1] == "lost with it: 30 others"


def test_what_nobody_served_is_counted() -> None:
    request = Request("10.0.0.1:5", "", listener=9, since=102.0)

    assert detail_of(a_death([request], parked=40, others=2)).splitlines()[1:] == [
        "lost with it: 10.0.0.1:5, for 3 s",
        "lost with it: 2 others",
        "lost with it: 40 that were parked",
    ]


def test_the_count_of_the_oom_killer_is_told_if_there_is_one() -> None:
    assert detail_of(a_death([], oom_kills=3)) == (
        "it had accepted 7 in 5 s; memory at the last look: unknown; OOM kills in our control group so far: 3"
    )
