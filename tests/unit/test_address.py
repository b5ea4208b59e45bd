"""Addresses: the text of `--bind` means one thing, and a client's address is always one printable line."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork.address import BindAddress, format_peer, parse_bind


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://127.0.0.1:9999", BindAddress("tcp", host="127.0.0.1", port=9999)),
        ("127.0.0.1:9999", BindAddress("tcp", host="127.0.0.1", port=9999)),
        (":9999", BindAddress("tcp", host="0.0.0.0", port=9999)),
        ("tcp://*:0", BindAddress("tcp", host="0.0.0.0", port=0)),
        ("[::]:53", BindAddress("tcp", host="::", port=53)),
        ("udp://[0:0::1]:53", BindAddress("udp", host="::1", port=53)),
        ("udp://[fe80::1%eth0]:53", BindAddress("udp", host="fe80::1%eth0", port=53)),
        ("LocalHost:80", BindAddress("tcp", host="localhost", port=80)),
        ("unix:/run/app.sock", BindAddress("unix", path="/run/app.sock")),
        ("unix:///run/app.sock", BindAddress("unix", path="/run/app.sock")),
        ("unix:run/app.sock", BindAddress("unix", path="run/app.sock")),
        ("unix:/run/50%25.sock", BindAddress("unix", path="/run/50%.sock")),
        ("unix:/run/what%3f", BindAddress("unix", path="/run/what?")),
        ("unix:@app", BindAddress("unix", path="@app")),
        ("unixgram:/dev/log", BindAddress("unixgram", path="/dev/log")),
        ("fd://3", BindAddress("fd", fd=3)),
        ("systemd:", BindAddress("systemd")),
        ("systemd:http", BindAddress("systemd", name="http")),
        ("tcp://:80?backlog=5", BindAddress("tcp", host="0.0.0.0", port=80, backlog=5)),
        ("tcp://:80?tls=off&proxy=on", BindAddress("tcp", host="0.0.0.0", port=80, tls=False, proxy=True)),
        ("systemd:web?tls=on", BindAddress("systemd", name="web", tls=True)),
        ("unix:@app?proxy=off", BindAddress("unix", path="@app", proxy=False)),
        ("tcp://[::]:80?ipv6only=on", BindAddress("tcp", host="::", port=80, ipv6only=True)),
        (
            "unix:/run/a?mode=660&owner=www&group=my%20group&backlog=9",
            BindAddress("unix", path="/run/a", mode=0o660, owner="www", group="my group", backlog=9),
        ),
        ("udp://:53?sockets=8", BindAddress("udp", host="0.0.0.0", port=53, sockets=8)),
    ],
)
def test_an_address_is_read(text: str, address: BindAddress) -> None:
    assert parse_bind(text) == address


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "an address is missing"),
        ("9999", "write tcp://127.0.0.1:9999"),
        ("localhost", "write tcp://localhost:PORT"),
        ("tcp://[::1]", "write tcp://[::1]:PORT"),
        ("::1:80", "write an IPv6 address in brackets: tcp://[::1]:80"),
        ("tcp://[::x]:80", "[::x] is not an IPv6 address"),
        ("300.1.1.1:80", "'300.1.1.1' is not an IPv4 address"),
        ("a b:80", "'a b' is not a host"),
        ("a:65536", "write a number from 0 to 65535"),
        ("a:-1", "write a number from 0 to 65535"),
        ("a:٣", "write a number from 0 to 65535"),
        ("a:" + "9" * 5000, "write a number from 0 to 65535"),
        ("tpc://a:1", "write tcp://HOST:PORT"),
        ("http://a:1", "unknown kind of address 'http'"),
        ("tcp:a:1", "write tcp://HOST:PORT"),
        ("fd:3", "write fd://N"),
        ("fd://x", "'x' is not a descriptor"),
        ("/run/app.sock", "write unix:/run/app.sock"),
        ("unix:", "a path is missing"),
        ("unix:@", "a path is missing"),
        ("unix://run/app.sock", "write unix:run/app.sock or unix:/run/app.sock"),
        ("unix:/a%00b", "NUL"),
        ("unix:/" + "a" * 107, "is longer than the 107 bytes of a socket"),
        ("systemd:a:b", "cannot be the name of a systemd socket"),
        ("tcp://a:1?", "unknown option ''"),
        ("tcp://a:1?backlgo=5", "did you mean backlog?"),
        ("tcp://a:1?mode=0660", "tcp://a:1 cannot have the option mode"),
        ("udp://a:1?backlog=5", "cannot have the option backlog"),
        ("unix:@a?mode=0660", "cannot have the option mode"),
        ("tcp://1.2.3.4:1?ipv6only=on", "cannot have the option ipv6only"),
        ("fd://3?backlog=1", "it can have tls, proxy"),
        ("udp://1.2.3.4:1?tls=on", "cannot have the option tls; it can have sockets"),
        ("udp://:1?sockets=1", "'1' is not a number of sockets; write a number from 2 to 256"),
        ("unixgram:a?sockets=2", "cannot have the option sockets"),
        ("tcp://a:1?proxy=yes", "proxy must be on or off"),
        ("tcp://a:1?backlog", "write backlog=VALUE"),
        ("tcp://a:1?backlog=1&backlog=2", "given twice"),
        ("tcp://a:1?backlog=0", "write a number from 1"),
        ("unix:/a?mode=0999", "write it in octal"),
        ("unix:/a?mode=4777", "write it in octal"),
        ("tcp://[::]:1?ipv6only=maybe", "ipv6only must be on or off"),
        ("tcp://a:1?nodelay=1", "nodelay must be on or off"),
        ("tcp://a:1?keepalive=1", "'1' is not a number of seconds; write a number from 2"),
        ("udp://a:1?keepalive=60", "cannot have the option keepalive"),
        ("unix:/a?user_timeout=60", "cannot have the option user_timeout"),
    ],
)
def test_a_wrong_address_is_refused_with_what_would_be_right(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse_bind(text)


_PATHS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=25).filter(
    lambda path: path not in ("@", "") and not path.startswith("//")
)
_ADDRESSES = st.one_of(
    st.builds(
        BindAddress,
        st.sampled_from(["tcp"]),
        host=st.one_of(st.ip_addresses(v=6).map(str), st.just("example.org")),
        port=st.integers(0, 65535),
        backlog=st.none() | st.integers(1, 2**31 - 1),
        tls=st.none() | st.booleans(),
        proxy=st.none() | st.booleans(),
        ipv6only=st.none() | st.booleans(),
        keepalive=st.none() | st.integers(2, 32767),
        user_timeout=st.none() | st.integers(1, 32767),
        nodelay=st.none() | st.booleans(),
    ),
    st.builds(
        BindAddress,
        st.sampled_from(["unix"]),
        path=_PATHS.map(lambda path: "/" + path.lstrip("/")),
        mode=st.none() | st.integers(0, 0o777),
        owner=st.none() | st.text(min_size=1, max_size=9).filter(str.isprintable),
        group=st.none() | st.text(min_size=1, max_size=9).filter(str.isprintable),
    ),
    st.builds(BindAddress, st.sampled_from(["fd"]), fd=st.integers(0, 9999)),
)


@given(_ADDRESSES)
def test_the_text_of_an_address_reads_back_as_the_same_address(address: BindAddress) -> None:
    assert parse_bind(str(address)) == address


@given(st.text())
def test_any_text_is_either_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_bind(text)
    except ValueError:
        return

    assert parse_bind(str(address)) == address


def test_one_socket_does_for_what_differs_only_in_its_stages() -> None:
    address = parse_bind("tcp://*:80?backlog=5")

    assert address.has_same_socket(parse_bind("tcp://*:80?backlog=5&tls=on&proxy=off"))
    assert not address.has_same_socket(parse_bind("tcp://*:80?backlog=6"))


def test_the_place_leaves_the_options_out() -> None:
    assert parse_bind("tcp://*:80?backlog=5").place == "tcp://0.0.0.0:80"


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (("127.0.0.1", 5555), "127.0.0.1:5555"),
        (("::1", 53, 0, 0), "[::1]:53"),
        (("fe80::1%eth0", 53, 0, 2), "[fe80::1%eth0]:53"),
        ("", "unix"),
        (b"", "unix"),
        (None, "unix"),
        (b"\x00name", "@name"),
        ("\0name", "@name"),
        ("/run/client.sock", "/run/client.sock"),
        ("/run/\n2026-11-23 ERROR", "/run/\\n2026-11-23 ERROR"),
        (b"/\xff", "/\\udcff"),
        ("/" + "a" * 500, "/" + "a" * 199),
        (7, "7"),
    ],
)
def test_a_peer_is_one_printable_line(peer: object, text: str) -> None:
    assert format_peer(peer) == text


def test_a_peer_that_cannot_be_written_is_named_by_its_type() -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError

    assert format_peer(Hostile()) == "<Hostile>"


def test_a_path_that_is_no_unicode_reads_back_as_the_same_path() -> None:
    address = BindAddress("unix", path=os.fsdecode(b"/run/\xff.sock"))

    assert parse_bind(str(address)) == address


def test_each_of_several_sockets_has_a_place_of_its_own_and_knows_the_first() -> None:
    several = parse_bind("udp://[::1]:53?sockets=3")
    members = several.members()

    assert [one.place for one in members] == ["udp://[::1]:53", "udp://[::1]:53#2", "udp://[::1]:53#3"]
    assert str(members[2]) == "udp://[::1]:53#3?sockets=3"
    assert {one.first for one in members} == {several}
    assert parse_bind("udp://:53").members() == [parse_bind("udp://:53")]
