"""Where the keys of a TOML document stand, which `tomllib` does not tell.

The text has been parsed before, so it is valid; here it is only cut into tokens, and the tokens into statements. Keys
inside an inline table or an array are not listed: whoever asks for one is told the line of the key that holds it.
"""

import re
import tomllib
from collections.abc import Mapping

Key = tuple[str, ...]

_TOKEN = re.compile(
    r"""
      (?P<text>  \"""(?:\\.|(?!\""")[^\\])*\"""\"{0,2}  |  '''(?:(?!''').)*''''{0,2}
               | "(?:\\.|[^"\\\n])*"                    |  '[^'\n]*' )
    | (?P<comment> \#[^\n]* )
    | (?P<newline> \n )
    | (?P<word>    [A-Za-z0-9_-]+ )
    | (?P<mark>    [^\s] )
    """,
    re.VERBOSE | re.DOTALL,
)


def find_key_lines(text: str) -> dict[Key, int]:
    """Map each key, with the tables around it, to the number of its line."""
    return _Scanner().scan(text)


def line_of(lines: Mapping[Key, int], key: Key) -> int:
    """Find the line of a key, or of the nearest table around it that has one."""
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key, 1)


class _Scanner:
    """Reads tokens one after the other; knows the table it is in and which part of a statement comes next."""

    def __init__(self) -> None:
        self._lines: dict[Key, int] = {}
        self._line = 1
        self._table: Key = ()
        self._key: Key = ()
        self._part = "key"  # or "header", or "value"
        self._depth = 0  # of brackets and braces inside a value, which may hold newlines

    def scan(self, text: str) -> dict[Key, int]:
        for token in _TOKEN.finditer(text.replace("\r\n", "\n")):
            if self._part == "value":
                self._read_in_value(token.lastgroup, token[0])
            else:
                self._read_in_key(token.lastgroup, token[0])
            self._line += token[0].count("\n")
        return self._lines

    def _read_in_value(self, kind: str | None, text: str) -> None:
        if kind == "newline" and not self._depth:
            self._part, self._key = "key", ()
        elif kind == "mark":
            self._depth += (text in "[{") - (text in "]}")

    def _read_in_key(self, kind: str | None, text: str) -> None:
        if kind in ("word", "text"):
            self._key += (text if kind == "word" else _unquoted(text),)
        elif kind == "newline":
            self._part, self._key = "key", ()
        elif text == "[":
            self._part = "header"
        elif text == "]":
            self._table = self._key
            self._note(self._table)
        elif text == "=":
            self._note(self._table + self._key)
            self._part = "value"

    def _note(self, key: Key) -> None:
        """A dotted key also says where the tables it names begin; the first mention counts."""
        for length in range(1, len(key) + 1):
            self._lines.setdefault(key[:length], self._line)


def _unquoted(text: str) -> str:
    return str(tomllib.loads(f"key = {text}")["key"])
