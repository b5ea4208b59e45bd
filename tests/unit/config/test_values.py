"""Single values: what may be written for them, and what is said when it may not."""

import re
from collections.abc import Callable

import pytest

from prefork.config import values


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [(30, 30.0), (0.5, 0.5), ("30", 30.0), ("0.5", 0.5), (".5", 0.5), ("30s", 30.0), ("2m", 120.0), ("2h", 7200.0),
     ("1d", 86400.0), ("500ms", 0.5), (" 3 s ", 3.0)],
)  # fmt: skip
def test_a_duration_is_seconds_or_has_a_unit(raw: object, seconds: float) -> None:
    assert values.read_duration(raw) == seconds


@pytest.mark.parametrize("raw", ["", "s", "-1", "1e3", "nan", "inf", "2 weeks", True, None, float("nan"), "\u0661"])
def test_anything_else_is_no_duration(raw: object) -> None:
    with pytest.raises(ValueError, match="must be a time such as"):
        values.read_duration(raw)


@pytest.mark.parametrize(("seconds", "text"), [(30.0, "30s"), (0.5, "0.5s"), (0.0, "0s"), (604800.0, "604800s")])
def test_a_duration_is_shown_with_its_unit(seconds: float, text: str) -> None:
    assert values.show_duration(seconds) == text


@pytest.mark.parametrize(
    ("raw", "size"),
    [
        (4096, 4096),
        ("4096", 4096),
        ("256M", 2**28),
        ("1.5G", 3 * 2**29),
        ("1 GiB", 2**30),
        ("2kB", 2048),
        ("1t", 2**40),
    ],
)
def test_a_size_is_bytes_or_has_a_unit(raw: object, size: int) -> None:
    assert values.read_size(raw) == size


@pytest.mark.parametrize("raw", ["", "M", "-1", "1e3", "2X", True, None, 1.5, "\u0661"])
def test_anything_else_is_no_size(raw: object) -> None:
    with pytest.raises(ValueError, match="must be a size such as"):
        values.read_size(raw)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (1000, "1000"), (2**28, "256M"), (3 * 2**29, "1536M"), (2**30, "1G")]
)
def test_a_size_is_shown_with_the_unit_that_fits(size: int, text: str) -> None:
    assert values.show_size(size) == text


@pytest.mark.parametrize(("raw", "number"), [(4, 4), ("4", 4), (" 4 ", 4), ("-1", -1)])
def test_a_whole_number(raw: object, number: int) -> None:
    assert values.read_number(raw) == number


@pytest.mark.parametrize("raw", ["four", "4.0", 4.0, True, "", "9" * 5000, None, [4]])
def test_anything_else_is_no_whole_number(raw: object) -> None:
    with pytest.raises(ValueError, match="must be a whole number"):
        values.read_number(raw)


@pytest.mark.parametrize(("raw", "on"), [(True, True), ("yes", True), ("On", True), ("1", True), ("false", False)])
def test_a_switch(raw: object, on: bool) -> None:
    assert values.read_switch(raw) is on


@pytest.mark.parametrize("raw", ["maybe", 1, None])
def test_anything_else_is_no_switch(raw: object) -> None:
    with pytest.raises(ValueError, match="must be true or false"):
        values.read_switch(raw)


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ("app.py:Handler", "write app:Handler"),
        ("./src/app.py:Handler", "write src.app:Handler"),
        ("app.Handler", "write for example app:Handler"),
        ("app", "must be MODULE:NAME"),
        ("app:", "must be MODULE:NAME"),
        (":Handler", "must be MODULE:NAME"),
        (3, "must be text"),
        ("app:\x1b", "control characters"),
    ],
)
def test_a_target_names_a_module_and_something_in_it(raw: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        values.read_target(raw)


@pytest.mark.parametrize("text", ["app:Handler", "a.b.c:make", "app:make_server('a/b.py')"])
def test_a_target_is_kept_as_it_is(text: str) -> None:
    assert values.read_target(text) == text


def test_a_variable_may_have_any_value() -> None:
    assert values.read_variable("A=1=2\n") == "A=1=2\n"


@pytest.mark.parametrize("raw", ["A", "=1", "1A=2", "A B=1", "A=\0", 3, "PREFORK_GENERATION=1"])
def test_a_variable_needs_a_name_that_is_not_ours(raw: object) -> None:
    with pytest.raises(ValueError, match="must "):
        values.read_variable(raw)


@pytest.mark.parametrize(
    ("raw", "attribute"),
    [
        ("debug=True", ("debug", "True")),
        ("motd = 'a=b'", ("motd", "'a=b'")),
        ("limits={'a': [1, 2]}", ("limits", "{'a': [1, 2]}")),
        ("resolver=@zone:resolver", ("resolver", "@zone:resolver")),
    ],
)
def test_an_attribute_is_a_literal_or_a_reference(raw: object, attribute: tuple[str, str]) -> None:
    assert values.read_attribute(raw) == attribute


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ("motd=hello", "write motd='hello'"),
        ("resolver=zone:resolver", "write resolver=@zone:resolver"),
        ("resolver=@zone", "must be MODULE:NAME"),
        ("resolver", "must be NAME=VALUE"),
        ("a-b=1", "must be NAME=VALUE"),
        ("a=" + "[" * 5000, "must be a Python literal"),
    ],
)
def test_anything_else_is_no_attribute(raw: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        values.read_attribute(raw)


@pytest.mark.parametrize("raw", ["two words", "x" * 65, "\n", 3])
def test_a_name_is_a_short_word(raw: object) -> None:
    with pytest.raises(ValueError, match="must"):
        values.read_name(raw)


@pytest.mark.parametrize("read", [values.read_text, values.read_name, values.read_target, values.read_bind])
def test_no_reader_takes_a_number_for_text(read: Callable[[object], object]) -> None:
    with pytest.raises(ValueError, match="must be text, not 3"):
        read(3)


@pytest.mark.parametrize(
    ("raw", "network"),
    [
        ("unix", "unix"),
        ("10.0.0.1", "10.0.0.1/32"),
        (" 10.0.0.0/8 ", "10.0.0.0/8"),
        ("FD00::/8", "fd00::/8"),
        ("::1", "::1/128"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::/0", "::/0"),
    ],
)
def test_an_address_or_a_network_is_read(raw: object, network: str) -> None:
    assert values.read_network(raw) == network


@pytest.mark.parametrize(
    ("raw", "way_out"),
    [
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("proxy.example.org", "write for example 10.0.0.1 or 10.0.0.0/8"),
        ("10.0.0.0/33", "write for example"),
        ("", "write for example"),
        ("UNIX", "write for example"),
    ],
)
def test_anything_else_is_no_network(raw: object, way_out: str) -> None:
    with pytest.raises(ValueError, match=f"must be an IP address, a network or unix.*{re.escape(way_out)}"):
        values.read_network(raw)


@pytest.mark.parametrize("raw", ["", "h" * 256])
def test_the_name_of_a_protocol_has_a_length_that_alpn_allows(raw: object) -> None:
    with pytest.raises(ValueError, match="255 bytes at most"):
        values.read_protocol_name(raw)


@pytest.mark.parametrize(
    ("read", "raw", "value"),
    [
        (values.read_user, "root", "root"),
        (values.read_user, 0, "0"),
        (values.read_user, "04294967294", "4294967294"),
        (values.read_group, "root", "root"),
        (values.read_group, "54321", "54321"),
        (values.read_umask, "27", "0027"),
        (values.read_umask, "0777", "0777"),
    ],
)
def test_an_account_is_a_known_name_or_any_number_and_a_umask_is_octal(
    read: Callable[[object], str], raw: object, value: str
) -> None:
    assert read(raw) == value


@pytest.mark.parametrize(
    ("read", "raw", "complaint"),
    [
        (values.read_user, "nobdy", "must be a user of this machine, not 'nobdy'; did you mean nobody?"),
        (values.read_group, "rooot", "must be a group of this machine, not 'rooot'; did you mean root?"),
        (values.read_user, "", "must be a user of this machine, not ''"),
        (values.read_user, True, "must be text, not True"),
        (values.read_user, "4294967295", "must be at most 4294967294"),
        (values.read_group, "-1", "must be a group of this machine, not '-1'"),
        (values.read_umask, 27, "must be octal text such as '027', not 27"),
        (values.read_umask, "0o27", "must be octal text such as '027', not '0o27'"),
        (values.read_umask, "1777", "must be octal text such as '027', not '1777'"),
    ],
)
def test_any_other_account_or_umask_is_an_error(read: Callable[[object], str], raw: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}"):
        read(raw)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("off", "off"),
        (":9998", "tcp://127.0.0.1:9998"),
        ("tcp://:9998", "tcp://127.0.0.1:9998"),
        ("*:9998", "tcp://0.0.0.0:9998"),
        ("[::1]:9998", "tcp://[::1]:9998"),
        ("unix:/run/admin.sock?mode=0660", "unix:/run/admin.sock?mode=0660"),
    ],
)
def test_the_admin_pages_are_local_unless_it_says_otherwise(text: str, address: str) -> None:
    assert values.read_admin(text) == address


@pytest.mark.parametrize("text", ["udp://127.0.0.1:9998", "fd://3", "systemd:", "on"])
def test_the_admin_pages_need_a_stream_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be off|has no port"):
        values.read_admin(text)
