"""A zone: read from its file (RFC 1035, section 5), and asked for records."""

import ipaddress
import shlex
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from examples.dns.message import ANY, TYPES, Name, Record, lower


class ZoneError(Exception):
    """A zone file that cannot be understood; says in which line."""


class Zone:
    def __init__(self, records: list[Record]) -> None:
        starts = [record for record in records if record.type == TYPES["SOA"]]
        if len(starts) != 1:
            raise ZoneError(f"a zone has one SOA record, not {len(starts)}")
        self.soa = starts[0]
        self._records: dict[Name, list[Record]] = {}
        for record in records:
            if not self.holds(record.owner):
                raise ZoneError(f"{show(record.owner)} is not in the zone {show(self.soa.owner)}")
            # A name exists as soon as there is one below it.
            for depth in range(len(record.owner) - len(self.soa.owner) + 1):
                self._records.setdefault(record.owner[depth:], [])
            self._records[record.owner].append(record)

    def holds(self, name: Name) -> bool:
        origin = self.soa.owner
        return lower(name)[max(0, len(name) - len(origin)) :] == origin

    def look_up(self, name: Name, type_: int) -> tuple[bool, list[Record]]:
        """Whether the name exists, and the answer, which follows aliases as far as they stay in the zone."""
        name = lower(name)
        answer: list[Record] = []
        seen = set()
        while self.holds(name) and name not in seen:
            seen.add(name)
            if name not in self._records:
                return False, answer
            here = self._records[name]
            found = [record for record in here if type_ in (record.type, ANY)]
            alias = next((record for record in here if record.type == TYPES["CNAME"]), None)
            if found or alias is None:
                return True, answer + found
            answer.append(alias)
            (target,) = alias.data
            assert isinstance(target, tuple)
            name = target
        return True, answer


def show(name: Name) -> str:
    return ".".join(label.decode("ascii", "backslashreplace") for label in name) + "."


@dataclass
class Reader:
    """What holds from one entry of the file to the next."""

    origin: Name | None = None
    ttl: int = 3600
    owner: Name | None = None
    records: list[Record] = field(default_factory=list)

    def take(self, indented: bool, words: list[str]) -> None:
        if words[0] == "$ORIGIN":
            self.origin = self.name(words[1])
        elif words[0] == "$TTL":
            self.ttl = int(words[1])
        else:
            if not indented:
                self.owner = self.name(words.pop(0))
            if self.owner is None:
                raise ValueError("the first record has no name")
            self.records.append(self.record(self.owner, words))

    def record(self, owner: Name, words: list[str]) -> Record:
        """From what follows the name: [TTL] [IN] TYPE DATA..., the first two in any order."""
        ttl = self.ttl
        while words[0].isdigit() or words[0] == "IN":
            word = words.pop(0)
            ttl = int(word) if word.isdigit() else ttl
        kind, *fields = words
        return Record(owner, TYPES.get(kind, 0), ttl, self.data(kind, fields))

    def data(self, kind: str, fields: list[str]) -> tuple[bytes | Name, ...]:
        match kind, fields:
            case "A", [address]:
                return (ipaddress.IPv4Address(address).packed,)
            case "AAAA", [address]:
                return (ipaddress.IPv6Address(address).packed,)
            case "NS" | "CNAME", [name]:
                return (self.name(name),)
            case "MX", [preference, name]:
                return (int(preference).to_bytes(2), self.name(name))
            case "SOA", [server, mailbox, *numbers] if len(numbers) == 5:
                return (self.name(server), self.name(mailbox), struct.pack("!5I", *map(int, numbers)))
            case "TXT", [_, *_]:
                strings = [string.encode() for string in fields]
                return (b"".join(len(string).to_bytes() + string for string in strings),)
        raise ValueError(f"not a record that is known here: {kind} {' '.join(fields)}")

    def name(self, text: str) -> Name:
        """A name from its text: complete if it ends with a dot, else relative to $ORIGIN, which is also called @."""
        labels = [] if text in ("@", ".") else [label.encode().lower() for label in text.removesuffix(".").split(".")]
        if not text.endswith("."):
            if self.origin is None:
                raise ValueError(f"{text} needs an $ORIGIN before it")
            labels += self.origin
        if any(not 1 <= len(label) <= 63 for label in labels) or sum(map(len, labels)) + len(labels) > 254:
            raise ValueError(f"{text} is not a domain name")
        return tuple(labels)


def read_zone(text: str) -> Zone:
    reader = Reader()
    for number, indented, words in entries(text):
        try:
            reader.take(indented, words)
        except (ValueError, IndexError, OverflowError, struct.error) as error:
            raise ZoneError(f"line {number}: {error}") from error
    return Zone(reader.records)


def entries(text: str) -> Iterator[tuple[int, bool, list[str]]]:
    """The entries of a zone file: the line they begin in, whether that is indented, their words."""
    number, indented, depth = 0, False, 0
    words: list[str] = []
    for here, line in enumerate(text.splitlines(), start=1):
        if depth == 0:
            number, indented, words = here, line[:1].isspace(), []
        for word in split(here, line):
            # Between parentheses an entry goes on over the ends of lines.
            if word in ("(", ")"):
                depth += 1 if word == "(" else -1
            else:
                words.append(word)
        if depth == 0 and words:
            yield number, indented, words
    if depth != 0:
        raise ZoneError(f"line {number}: parentheses do not match")


def split(number: int, line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ";"
    try:
        return list(lexer)
    except ValueError as error:
        raise ZoneError(f"line {number}: {error}") from error
