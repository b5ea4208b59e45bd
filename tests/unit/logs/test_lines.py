"""A record as a line of text and as an object: the same facts, and nothing that a client chose passes for ours."""

import json
import logging

import pytest

from prefork.logs.lines import Line, as_json, as_text, line_of, own_identity

NASTY = '\x1b[2J\r\n\u202e\x9b\u2028\udcff {"time": 1}'


def line(**changes: object) -> Line:
    given = {"time": 0.25, "level": "INFO", "logger": "prefork.master", "message": "ready: 2 workers", **changes}
    return Line(**given)  # type: ignore[arg-type]  # the fields that a test chose


def test_an_object_has_the_same_facts_as_a_line_of_text() -> None:
    told = line(fields={"listener": "tcp://:1", "worker": 3, "pid": 7}, detail="Traceback:\n  here\n")

    assert as_text(told) == (
        "1970-01-01T00:00:00.250+00:00 INFO  ready: 2 workers  listener=tcp://:1 worker=3 pid=7\n"
        "    Traceback:\n      here"
    )
    assert json.loads(as_json(told)) == {
        "time": "1970-01-01T00:00:00.250+00:00",
        "level": "INFO",
        "logger": "prefork.master",
        "message": "ready: 2 workers",
        "listener": "tcp://:1",
        "worker": 3,
        "pid": 7,
        "detail": "Traceback:\n  here",
    }


@pytest.mark.parametrize("where", ["message", "logger", "detail"])
def test_what_a_client_chose_is_escaped(where: str) -> None:
    told = line(**{where: NASTY})

    assert all(part.isprintable() for part in as_text(told).split("\n"))
    assert as_json(told).isascii()
    assert as_json(told).isprintable()
    assert "\\udcff" in json.loads(as_json(told))[where]


def test_a_field_that_a_client_chose_is_escaped() -> None:
    told = line(fields={"peer": NASTY})

    assert as_text(told).isprintable()
    assert as_json(told).isprintable()


def test_a_peer_cannot_pass_for_other_fields() -> None:
    told = line(fields={"peer": '@a" pid=1', "pid": 7})

    assert as_text(told).endswith(r'  peer="@a\" pid=1" pid=7')


def test_what_is_not_known_is_said() -> None:
    told = line(fields={"in": None, "seconds": 0.000012})

    assert as_text(told).endswith("  in=- seconds=0.000012")
    assert json.loads(as_json(told))["in"] is None


def test_a_logger_of_the_application_is_named() -> None:
    assert " INFO  shop.cart: ready" in as_text(line(logger="shop.cart"))
    assert " INFO  preforked: ready" in as_text(line(logger="preforked"))
    assert " INFO  ready" in as_text(line(logger="prefork"))


def test_a_record_is_taken_apart() -> None:
    record = logging.LogRecord("prefork.worker", logging.WARNING, __file__, 1, "slow: %s", ("disk",), None)
    told = line_of(record, {"worker": 3})

    assert (told.level, told.logger, told.message, told.fields) == (
        "WARN",
        "prefork.worker",
        "slow: disk",
        own_identity({"worker": 3}),
    )
