"""What the log says of a death."""

from prefork.ipc.scoreboard import Request
from prefork.master.deaths import Death, detail_of


def a_death(in_flight: list[Request], resident_bytes: int = 0, words: str = "") -> Death:
    return Death(
        number=1,
        identity={"worker": 3, "gen": 2},
        how="killed by SIGSEGV",
        at=105.0,
        age=5.0,
        accepted=7,
        resident_bytes=resident_bytes,
        in_flight=in_flight,
        listeners=["tcp://127.0.0.1:9999"],
        words=words,
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
