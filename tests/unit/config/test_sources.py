"""The sources: each knows the names it may use, and reports the others with the nearest one."""

from pathlib import Path

import pytest

from prefork.config.documents import read_document
from prefork.config.sources import Given, given_by_document, given_by_environment, given_by_flags


def test_flags_are_named_as_they_are_typed() -> None:
    layer = given_by_flags("app:Handler", {"server": ["a=1"], "drain_timeout": "3"})

    assert layer.given == {
        "target": Given("app:Handler", "TARGET"),
        "server": Given(["a=1"], "--set"),
        "drain_timeout": Given("3", "--drain-timeout"),
    }


def test_an_unknown_flag_is_reported() -> None:
    assert [str(problem) for problem in given_by_flags(None, {"worker": 1}).problems] == [
        "--worker: unknown option 'worker'; did you mean workers?"
    ]


def test_variables_are_options_with_a_prefix() -> None:
    layer = given_by_environment({"PREFORK_WORKERS": "3", "HOME": "/root", "WORKERS": "9"})

    assert layer.given == {"workers": Given("3", "PREFORK_WORKERS")}
    assert layer.problems == []


def test_a_variable_holds_several_values_as_a_shell_would_split_them() -> None:
    layer = given_by_environment({"PREFORK_BIND": ":1 'unix:/a b'"})

    assert layer.given == {"bind": Given([":1", "unix:/a b"], "PREFORK_BIND")}


def test_a_variable_that_cannot_be_split_is_reported() -> None:
    assert [str(problem) for problem in given_by_environment({"PREFORK_ENV": "A='"}).problems] == [
        "PREFORK_ENV: cannot be split into values: no closing quotation"
    ]


def test_an_empty_variable_is_none() -> None:
    assert given_by_environment({"PREFORK_WORKERS": ""}).given == {}


def test_an_unknown_variable_is_reported_with_the_nearest_one() -> None:
    assert [str(problem) for problem in given_by_environment({"PREFORK_WORKRES": "3"}).problems] == [
        "PREFORK_WORKRES: unknown variable 'PREFORK_WORKRES'; did you mean PREFORK_WORKERS?"
    ]


@pytest.mark.parametrize(
    "variable",
    [
        "PREFORK_WORKER_SLOT",
        "PREFORK_GENERATION",
        "PREFORK_SERVICE_HOST",
        "PREFORK_SERVICE_PORT_DNS",
        "PREFORK_PORT",
        "PREFORK_PORT_53_UDP",
        "PREFORK_PORT_53_UDP_ADDR",
        "PREFORK_CANARY_SERVICE_PORT",
        "PREFORK_CANARY_PORT_53_TCP_PROTO",
    ],
)
def test_variables_of_our_workers_and_of_kubernetes_are_left_alone(variable: str) -> None:
    layer = given_by_environment({variable: "tcp://10.0.0.1:53"})

    assert (layer.given, layer.problems) == ({}, [])


def test_a_file_gives_each_key_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "prefork.toml"
    path.write_text("workers = 3\nconfig = 'x'\n\n[servr]\n")
    layer = given_by_document(read_document(path, "prefork.toml"))

    assert layer.given == {"workers": Given(3, "prefork.toml:1")}
    assert [str(problem) for problem in layer.problems] == [
        "prefork.toml:2: a configuration file cannot name another one; remove config",
        "prefork.toml:4: unknown key 'servr'; did you mean server?",
    ]


def test_no_file_gives_nothing() -> None:
    assert given_by_document(None).given == {}
