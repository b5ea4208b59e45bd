from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.keyvalue import (
    ARGUMENT_COUNT_LIMIT,
    COMMAND_LIMIT,
    LINE_LIMIT,
    CommandReader,
    ProtocolError,
    Store,
    prepare,
)

SET = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    path = str(tmp_path / "store.sqlite")
    prepare(path)
    store = Store(path)
    yield store
    store.close()


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(SET), 1000])
def test_a_command_may_arrive_in_pieces_of_any_size(size: int) -> None:
    reader, data = CommandReader(), SET * 2
    commands = [command for start in range(0, len(data), size) for command in reader.feed(data[start : start + size])]

    assert commands == [[b"SET", b"k", b"a\r\nb"]] * 2


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"PING\r\n", [b"PING"]),
        (b"set  k 'two words'\n", [b"set", b"k", b"two words"]),
        (b"set k \xff\xfe\r\n", [b"set", b"k", b"\xff\xfe"]),
    ],
)
def test_a_line_is_a_command_too(line: bytes, command: list[bytes]) -> None:
    assert list(CommandReader().feed(line)) == [command]


@pytest.mark.parametrize("nothing", [b"\r\n", b"\n\n", b"*0\r\n", b"*-1\r\n"])
def test_nothing_is_not_a_command(nothing: bytes) -> None:
    assert list(CommandReader().feed(nothing + b"PING\r\n")) == [[b"PING"]]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"*x\r\n", "invalid multibulk length"),
        (b"*%d\r\n" % (ARGUMENT_COUNT_LIMIT + 1), "invalid multibulk length"),
        (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$ 1\r\n", "invalid bulk length"),
        (b"*1\r\n$%d\r\n" % (COMMAND_LIMIT + 1), "invalid bulk length"),
        (b"x" * LINE_LIMIT, "too big inline request"),
        (b"get 'k\r\n", "unbalanced quotes in request"),
    ],
)
def test_nonsense_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        list(CommandReader().feed(data))

    assert str(caught.value) == complaint


def test_the_limit_is_for_a_whole_command() -> None:
    reader, half = CommandReader(), COMMAND_LIMIT // 2
    assert list(reader.feed(b"*3\r\n$%d\r\n%b\r\n" % (half, b"x" * half))) == []

    with pytest.raises(ProtocolError):
        list(reader.feed(b"$%d\r\n" % (half + 1)))


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ([b"PING"], b"+PONG\r\n"),
        ([b"ping", b"hi"], b"$2\r\nhi\r\n"),
        ([b"GET", b"absent"], b"$-1\r\n"),
        ([b"SET", b"k", b"v", b"XX"], b"$-1\r\n"),
        ([b"SET", b"k", b"v", b"NX"], b"+OK\r\n"),
        ([b"SET", b"k", b"v", b"EX", b"1"], b"-ERR syntax error\r\n"),
        ([b"DEL", b"a", b"b"], b":0\r\n"),
        ([b"INCR", b"n"], b":1\r\n"),
        ([b"CONFIG", b"GET", b"save"], b"*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        ([b"COMMAND", b"DOCS"], b"*0\r\n"),
        ([b"HELLO", b"3"], b"-NOPROTO unsupported protocol version\r\n"),
        ([b"GET"], b"-ERR wrong number of arguments for 'get' command\r\n"),
        ([b"fly", b"a\r\nb"], b"-ERR unknown command 'fly', with args beginning with: 'a  b'\r\n"),
        ([b"\xff"], b"-ERR unknown command '\xff', with args beginning with: \r\n"),
    ],
)
def test_a_command_is_answered_as_redis_does(store: Store, command: list[bytes], reply: bytes) -> None:
    assert store.answer(command) == reply


def test_keys_and_values_are_any_bytes(store: Store) -> None:
    every = bytes(range(256))
    assert store.answer([b"SET", every, every[::-1]]) == b"+OK\r\n"

    assert store.answer([b"GET", every]) == b"$256\r\n%b\r\n" % every[::-1]


@pytest.mark.parametrize(
    ("value", "reply"),
    [
        (b"-1", b":0\r\n"),
        (b"9223372036854775806", b":9223372036854775807\r\n"),
        (b"9223372036854775807", b"-ERR increment or decrement would overflow\r\n"),
        (b"9223372036854775808", b"-ERR value is not an integer or out of range\r\n"),
        (b"", b"-ERR value is not an integer or out of range\r\n"),
        (b"01", b"-ERR value is not an integer or out of range\r\n"),
        (b"x", b"-ERR value is not an integer or out of range\r\n"),
    ],
)
def test_incr_counts_what_is_a_number(store: Store, value: bytes, reply: bytes) -> None:
    store.answer([b"SET", b"n", value])

    assert store.answer([b"INCR", b"n"]) == reply


def test_a_failed_incr_leaves_no_transaction_behind(store: Store) -> None:
    store.answer([b"SET", b"n", b"x"])
    store.answer([b"INCR", b"n"])

    assert store.answer([b"SET", b"n", b"1"]) == b"+OK\r\n"
    assert store.answer([b"INCR", b"n"]) == b":2\r\n"
