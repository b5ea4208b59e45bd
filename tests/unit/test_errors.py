"""Errors say everything in their own lines, and know the exit code of the contract."""

import pytest

from prefork.errors import (
    ApplicationError,
    ConfigurationError,
    ListenerError,
    NoSuchServer,
    NotDone,
    PreforkError,
    Problem,
    UsageError,
    nearest_name,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (PreforkError, 1),
        (NotDone, 1),
        (UsageError, 2),
        (ApplicationError, 3),
        (ListenerError, 4),
        (NoSuchServer, 5),
    ],
)
def test_each_error_has_the_exit_code_of_the_contract(kind: type[PreforkError], code: int) -> None:
    assert kind("why").exit_code == code


def test_a_configuration_error_has_a_line_for_each_problem() -> None:
    error = ConfigurationError(
        [Problem("prefork.toml:12", "workers must be at least 1, not 0"), Problem("--bind", "is odd", "write another")]
    )

    assert str(error) == "prefork.toml:12: workers must be at least 1, not 0\n--bind: is odd; write another"
    assert error.exit_code == 2


def test_the_nearest_name_is_the_one_that_was_meant() -> None:
    assert nearest_name("wrokers", ["threads", "workers"]) == "workers"


def test_nothing_is_near_to_something_else() -> None:
    assert nearest_name("colour", ["threads", "workers"]) is None
