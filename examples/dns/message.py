"""DNS messages as bytes (RFC 1035, section 4): queries are read, replies are written."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

# The labels of a name from left to right: (b"www", b"example", b"test"). The root is the empty tuple.
Name = tuple[bytes, ...]

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "MX": 15, "TXT": 16, "AAAA": 28}
ANY = 255
IN = 1

NOERROR, FORMAT_ERROR, _SERVER_FAILURE, NXDOMAIN, NOT_IMPLEMENTED, REFUSED = range(6)

RESPONSE, OPCODE, AUTHORITATIVE, TRUNCATED, RECURSION_DESIRED = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100
HEADER = struct.Struct("!6H")  # id, flags, number of questions, answers, authority and additional records

UDP_LIMIT = 512
TCP_LIMIT = 65535


class NotAQuery(Exception):
    """Nothing to be answered: too short, or itself a reply (two servers must not talk to each other for ever)."""


@dataclass(frozen=True)
class Record:
    owner: Name
    type: int
    ttl: int
    # What the record says, as it goes over the wire, except that names stay names: they may be compressed.
    data: tuple[bytes | Name, ...]


@dataclass(frozen=True)
class Query:
    id: int
    flags: int
    error: int = NOERROR
    name: Name = ()
    type: int = 0
    class_: int = 0
    question: bytes = b""  # as it came: the reply repeats it


def read_query(data: bytes) -> Query:
    if len(data) < HEADER.size:
        raise NotAQuery
    id_, flags, questions, *_ = HEADER.unpack_from(data)
    if flags & RESPONSE:
        raise NotAQuery
    if flags & OPCODE:
        return Query(id_, flags, NOT_IMPLEMENTED)
    try:
        if questions != 1:
            raise ValueError("not exactly one question")
        name, end = read_name(data, HEADER.size)
        type_, class_ = struct.unpack_from("!2H", data, end)
    except (ValueError, IndexError, struct.error):
        return Query(id_, flags, FORMAT_ERROR)
    return Query(id_, flags, NOERROR, name, type_, class_, data[HEADER.size : end + 4])


def read_name(data: bytes, start: int) -> tuple[Name, int]:
    """The name at `start` and the place after it; ValueError or IndexError if there is none.

    Elsewhere in a message a name may end in a pointer to an earlier name. In a question it cannot, for there is none
    before it; so pointers are refused here, and with them the circles that they could form.
    """
    labels: list[bytes] = []
    place = start
    while length := data[place]:
        label = data[place + 1 : place + 1 + length]
        if length > 63 or len(label) < length:
            raise ValueError("not a label")
        labels.append(label)
        place += 1 + length
    if place - start > 254:
        raise ValueError("too long for a name")
    return tuple(labels), place + 1


def write_reply(
    query: Query,
    code: int,
    answer: Sequence[Record] = (),
    authority: Sequence[Record] = (),
    *,
    authoritative: bool = False,
    limit: int,
) -> bytes:
    flags = RESPONSE | query.flags & (OPCODE | RECURSION_DESIRED) | code | (AUTHORITATIVE if authoritative else 0)
    writer = Writer(query.name, HEADER.pack(query.id, flags, bool(query.question), 0, 0, 0) + query.question)
    for record in (*answer, *authority):
        writer.add(record)
    if len(writer.data) > limit:
        # Without any of the records, and with the advice to ask again over TCP.
        return HEADER.pack(query.id, flags | TRUNCATED, 1, 0, 0, 0) + query.question
    struct.pack_into("!2H", writer.data, 6, len(answer), len(authority))
    return bytes(writer.data)


class Writer:
    """A message that grows, and the names in it: the end of a name that was written before becomes a pointer to it."""

    def __init__(self, name: Name, start: bytes) -> None:
        self.data = bytearray(start)
        self._places: dict[Name, int] = {}
        self._remember(lower(name), HEADER.size)

    def add(self, record: Record) -> None:
        self._add_name(record.owner)
        self.data += struct.pack("!2HI2x", record.type, IN, record.ttl)
        start = len(self.data)
        for part in record.data:
            if isinstance(part, bytes):
                self.data += part
            else:
                self._add_name(part)
        struct.pack_into("!H", self.data, start - 2, len(self.data) - start)

    def _add_name(self, name: Name) -> None:
        start = len(self.data)
        for depth in range(len(name)):
            if place := self._places.get(name[depth:]):
                self.data += struct.pack("!H", 0xC000 | place)
                break
            self.data += len(name[depth]).to_bytes() + name[depth]
        else:
            self.data += b"\0"
        self._remember(name, start)

    def _remember(self, name: Name, place: int) -> None:
        for depth, label in enumerate(name):
            if place < 0x4000:  # A pointer has fourteen bits.
                self._places.setdefault(name[depth:], place)
            place += 1 + len(label)


def lower(name: Name) -> Name:
    return tuple(label.lower() for label in name)
