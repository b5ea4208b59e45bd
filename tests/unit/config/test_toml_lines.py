"""The lines of keys: found in any TOML that tomllib accepts."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from prefork.config.toml_lines import find_key_lines, line_of

DOCUMENT = '''# a comment with = and [brackets]
workers = 4
"bi\\u006ed" = [ "tcp://[::]:1", # [x]
  "b=3",
  { x = 1 } ]
text = """
threads = 5
[server]
"""""
server.motd = 1
literal = \'\'\'
x = 1\'\'\'
"dotted.key" = 'y'   # = 3
empty = ""

[tool.prefork]
drain_timeout = 3.5
[[list]]
x = 1
[ "tool" . prefork.server ]
resolver = "@a:b"
date = 1979-05-27 07:32:00
inline = { a = 1, b = { c = 2 } }
'''


def test_every_key_has_its_line() -> None:
    assert find_key_lines(DOCUMENT) == {
        ("workers",): 2,
        ("bind",): 3,
        ("text",): 6,
        ("server",): 10,
        ("server", "motd"): 10,
        ("literal",): 11,
        ("dotted.key",): 13,
        ("empty",): 14,
        ("tool",): 16,
        ("tool", "prefork"): 16,
        ("tool", "prefork", "drain_timeout"): 17,
        ("list",): 18,
        ("list", "x"): 19,
        ("tool", "prefork", "server"): 20,
        ("tool", "prefork", "server", "resolver"): 21,
        ("tool", "prefork", "server", "date"): 22,
        ("tool", "prefork", "server", "inline"): 23,
    }


def test_lines_that_end_as_on_windows_count_the_same() -> None:
    assert find_key_lines(DOCUMENT.replace("\n", "\r\n")) == find_key_lines(DOCUMENT)


def test_a_key_inside_a_value_is_found_with_the_key_that_holds_it() -> None:
    lines = find_key_lines("a = 1\nserver = { b = 2 }\n")

    assert line_of(lines, ("server", "b")) == 2


def test_a_key_that_is_nowhere_is_in_the_first_line() -> None:
    assert line_of({}, ("x",)) == 1


_KEYS = st.one_of(
    st.from_regex(r"[A-Za-z0-9_-]{1,5}", fullmatch=True),
    st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters='"\\'), max_size=5).map('"{}"'.format),
    st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="'"), max_size=5).map("'{}'".format),
)
_VALUES = st.sampled_from(
    [
        "1",
        "'[x'",
        '"a\\"b"',
        "'''\n'a = 1\n''''",
        '"""\n[a]\n\\"""" """',
        "[\n1, # ]\n]",
        "{a = 1, 'b' = [{}]}",
        "1.5e3",
    ]
).map(lambda value: '""' if value.endswith('" """') else value)


@given(st.lists(st.tuples(_KEYS, _VALUES, st.sampled_from(["", "\n", "# x = 1\n", "  # ]\n"]))))
def test_the_lines_are_those_where_the_keys_were_written(statements: list[tuple[str, str, str]]) -> None:
    text, expected = "", {}
    for key, value, gap in statements:
        name = next(iter(tomllib.loads(f"{key} = 1")))
        if name in expected:
            continue
        text += gap
        expected[name] = text.count("\n") + 1
        text += f"{key} = {value}\n"
    tomllib.loads(text)

    assert find_key_lines(text) == {(name,): line for name, line in expected.items()}
