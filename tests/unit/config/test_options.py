"""The options as data: everything follows from the fields, and every field is complete."""

import pytest

from prefork.address import BindAddress
from prefork.config.options import DeclaredOption, Rejected, declared_options, show
from prefork.config.settings import Settings

OPTIONS = list(declared_options().values())


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_has_a_sentence_of_help(option: DeclaredOption) -> None:
    assert option.about.help[0].isupper()
    assert option.about.help.endswith(".")


@pytest.mark.parametrize("option", [one for one in OPTIONS if one.default_text], ids=lambda option: option.name)
def test_the_default_that_is_shown_is_a_value_that_is_accepted(option: DeclaredOption) -> None:
    assert option.read(option.default_text) == getattr(Settings(), option.name)


def test_flags_letters_and_variables_are_unique() -> None:
    letters = [option.about.letter for option in OPTIONS if option.about.letter]

    assert len({option.flag for option in OPTIONS}) == len(OPTIONS)
    assert len(set(letters)) == len(letters)


def test_the_spellings_of_an_option_follow_from_its_name() -> None:
    option = declared_options()["drain_timeout"]

    assert (option.flag, option.variable, option.metavar) == ("--drain-timeout", "PREFORK_DRAIN_TIMEOUT", "TIME")


def test_a_literal_type_gives_the_choices() -> None:
    assert declared_options()["preload"].metavar == "auto|always|never"


def test_workers_may_be_auto() -> None:
    option = declared_options()["workers"]

    assert option.read("auto") == Settings().workers
    assert (option.metavar, option.default_text) == ("auto|N", "auto")


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("workers", 0, "must be at least 1, not 0"),
        ("workers", "1025", "must be at most 1023, not 1025"),
        ("workers", "many", "must be a whole number, not 'many'"),
        ("heartbeat_timeout", "500ms", "must be at least 2s, not 0.5s"),
        ("drain_timeout", "8d", "must be at most 604800s, not 691200s"),
        ("canary_time", -1, "must be at least 0s, not -1s"),
        ("preload", "sometimes", "must be auto, always or never, not 'sometimes'"),
        ("log_level", ["info"], "must be debug, info, warning or error, not ['info']"),
        ("reload", "perhaps", "must be true or false, not 'perhaps'"),
    ],
)
def test_a_wrong_value_is_refused_in_words(name: str, raw: object, message: str) -> None:
    with pytest.raises(Rejected) as caught:
        declared_options()[name].read(raw)

    assert caught.value.messages == [message]


def test_every_wrong_item_of_a_list_is_reported() -> None:
    with pytest.raises(Rejected) as caught:
        declared_options()["bind"].read(["127.0.0.1:1", "nowhere", 3])

    assert len(caught.value.messages) == 2


def test_a_single_item_is_a_list_of_one() -> None:
    assert declared_options()["bind"].read("unix:/a b") == (BindAddress("unix", path="/a b"),)


def test_a_table_of_variables_is_as_good_as_a_list() -> None:
    assert declared_options()["env"].read({"A": 1, "B": "x y"}) == ("A=1", "B=x y")


def test_attributes_from_a_table_have_the_form_of_the_flag() -> None:
    table = {"motd": "hello", "resolver": "@zone:resolver", "limit": 3}

    assert declared_options()["server"].read(table) == {"motd": "'hello'", "resolver": "@zone:resolver", "limit": 3}


def test_a_key_that_is_no_attribute_is_refused() -> None:
    with pytest.raises(Rejected, match="'a b' cannot be the name of an attribute"):
        declared_options()["server"].read({"a b": 1})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (3, "3"),
        (1.5, "1.5s"),
        ((BindAddress("fd", fd=3), BindAddress("systemd")), "fd://3 systemd:"),
        ({"a": 1}, "a=1"),
    ],
)
def test_values_are_shown_as_an_operator_writes_them(value: object, text: str) -> None:
    assert show(value) == text
