"""A key-value store that speaks the Redis protocol: use it with redis-cli, redis-benchmark or a client library.

prefork run examples.keyvalue:KeyValueHandler --bind tcp://127.0.0.1:6379 --set database=/var/tmp/keyvalue.sqlite

The workers are separate processes, so what one of them stores in a variable the others do not see. Here the data lie
in a SQLite file, and every thread has a database connection of its own, because a client's connection may be served by
one thread after the other: while a client is silent, its connection is parked and needs none.
"""

import fcntl
import os
import re
import shlex
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from prefork.serving import MessageRequestHandler, ThreadPoolTCPServer
from prefork.socketserver import BaseServer

# No client may make us hold more than this, whatever lengths it announces.
LINE_LIMIT = 64 * 1024
ARGUMENT_COUNT_LIMIT = 1024
COMMAND_LIMIT = 8 * 1024 * 1024
REPLIES_LIMIT = 256 * 1024

INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
INTEGER_MAX = 2**63 - 1

OK = b"+OK\r\n"
NIL = b"$-1\r\n"


class ProtocolError(Exception):
    """The bytes make no sense, so nothing that follows them can either: answered, then the connection is closed."""


class CommandError(Exception):
    """A command that cannot be obeyed; the connection goes on."""


class CommandReader:
    r"""Bytes in, commands out: each a list of at least one argument.

    A command is an array of byte strings, `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`, or, for people with a terminal, a line.
    It may arrive in any number of pieces, and several at once.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._arguments: list[bytes] = []
        self._missing = 0  # arguments of the current array still to come
        self._length: int | None = None  # of the current argument, once its header has been read
        self._size = 0  # of all arguments of the current array

    def feed(self, data: bytes) -> Iterator[list[bytes]]:
        self._buffer += data
        while (command := self._next_command()) is not None:
            if command:  # Empty lines and empty arrays are nothing to answer.
                yield command

    @property
    def is_between_commands(self) -> bool:
        return not self._buffer and self._missing == 0

    def _next_command(self) -> list[bytes] | None:
        """The next command, or None while it is incomplete."""
        if self._missing == 0:
            line = self._take_line()
            if line is None:
                return None
            if not line.startswith(b"*"):
                return split_line(line)
            self._missing = max(0, number(line[1:], ARGUMENT_COUNT_LIMIT, "invalid multibulk length"))
            self._arguments, self._size = [], 0
        while self._missing > 0:
            argument = self._take_argument()
            if argument is None:
                return None
            self._arguments.append(argument)
            self._missing -= 1
        return self._arguments

    def _take_argument(self) -> bytes | None:
        if self._length is None:
            line = self._take_line()
            if line is None:
                return None
            if not line.startswith(b"$"):
                raise ProtocolError(f"expected '$', got '{line[:1].decode('latin-1')}'")
            self._length = number(line[1:], COMMAND_LIMIT - self._size, "invalid bulk length")
            if self._length < 0:
                raise ProtocolError("invalid bulk length")
            self._size += self._length
        if len(self._buffer) < self._length + 2:
            return None
        argument = bytes(self._buffer[: self._length])
        del self._buffer[: self._length + 2]
        self._length = None
        return argument

    def _take_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", 0, LINE_LIMIT)
        if end < 0:
            if len(self._buffer) >= LINE_LIMIT:
                raise ProtocolError("too big inline request")
            return None
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        return line


def number(digits: bytes, largest: int, complaint: str) -> int:
    if not INTEGER.fullmatch(digits) or int(digits) > largest:
        raise ProtocolError(complaint)
    return int(digits)


def split_line(line: bytes) -> list[bytes]:
    try:
        return [word.encode("latin-1") for word in shlex.split(line.decode("latin-1"))]
    except ValueError:
        raise ProtocolError("unbalanced quotes in request") from None


def text(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def integer(value: int) -> bytes:
    return b":%d\r\n" % value


def array(*replies: bytes) -> bytes:
    return b"*%d\r\n%b" % (len(replies), b"".join(replies))


def error(message: str) -> bytes:
    # An error is one line, and parts of it may come from a client.
    return b"-%b\r\n" % re.sub(r"[\r\n]", " ", message).encode("latin-1", "replace")


class Store:
    """The commands, on one connection to the database; `answer` finds them by their names."""

    def __init__(self, path: str) -> None:
        # No implicit transactions; waits up to ten seconds for another process that is writing.
        self._database = sqlite3.connect(path, timeout=10, isolation_level=None)
        self._database.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        self._database.close()

    def answer(self, command: list[bytes]) -> bytes:
        name, *arguments = command
        try:
            method, fewest, most = COMMANDS[name.upper()]
        except KeyError:
            shown = " ".join(f"'{argument[:128].decode('latin-1')}'" for argument in arguments[:8])
            spelled = name[:128].decode("latin-1")
            return error(f"ERR unknown command '{spelled}', with args beginning with: {shown}")
        try:
            if not fewest <= len(arguments) <= most:
                raise CommandError(f"wrong number of arguments for '{name.decode().lower()}' command")
            return method(self, *arguments)
        except (CommandError, sqlite3.Error) as failure:
            return error(f"ERR {failure}")

    def ping(self, message: bytes | None = None) -> bytes:
        return b"+PONG\r\n" if message is None else text(message)

    def echo(self, message: bytes) -> bytes:
        return text(message)

    def get(self, key: bytes) -> bytes:
        value = self._value(key)
        return NIL if value is None else text(value)

    def set(self, key: bytes, value: bytes, *options: bytes) -> bytes:
        match [option.upper() for option in options]:
            case []:
                statement = "INSERT INTO pairs VALUES (:key, :value) ON CONFLICT DO UPDATE SET value = :value"
            case [b"NX"]:
                statement = "INSERT INTO pairs VALUES (:key, :value) ON CONFLICT DO NOTHING"
            case [b"XX"]:
                statement = "UPDATE pairs SET value = :value WHERE key = :key"
            case _:
                raise CommandError("syntax error")
        return OK if self._database.execute(statement, {"key": key, "value": value}).rowcount else NIL

    def incr(self, key: bytes) -> bytes:
        # IMMEDIATE takes the right to write before reading, or two processes could count from the same value.
        self._database.execute("BEGIN IMMEDIATE")
        try:
            value = self._value(key)
            value = b"0" if value is None else value
            if not INTEGER.fullmatch(value) or not -INTEGER_MAX - 1 <= int(value) <= INTEGER_MAX:
                raise CommandError("value is not an integer or out of range")
            if int(value) == INTEGER_MAX:
                raise CommandError("increment or decrement would overflow")
            self.set(key, b"%d" % (int(value) + 1))
            self._database.execute("COMMIT")
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        return integer(int(value) + 1)

    def delete(self, *keys: bytes) -> bytes:
        return integer(sum(self._database.execute("DELETE FROM pairs WHERE key = ?", (key,)).rowcount for key in keys))

    def exists(self, *keys: bytes) -> bytes:
        return integer(sum(self._value(key) is not None for key in keys))

    def dbsize(self) -> bytes:
        return integer(self._size())

    # What tools ask before they begin.

    def command(self, *_arguments: bytes) -> bytes:
        return array()

    def config(self, action: bytes, *names: bytes) -> bytes:
        if action.upper() != b"GET":
            raise CommandError("only CONFIG GET is understood here")
        values = {b"save": b"", b"appendonly": b"yes"}
        known = [name for name in names if name in values]
        return array(*(text(part) for name in known for part in (name, values[name])))

    def hello(self, version: bytes = b"2") -> bytes:
        if version != b"2":
            return error("NOPROTO unsupported protocol version")
        described = [text(b"server"), text(b"keyvalue"), text(b"proto"), integer(2), text(b"mode"), text(b"standalone")]
        return array(*described)

    def info(self, *_sections: bytes) -> bytes:
        lines = ["# Server", f"process_id:{os.getpid()}", "# Keyspace", f"db0:keys={self._size()},expires=0", ""]
        return text("\r\n".join(lines).encode())

    def client(self, *_arguments: bytes) -> bytes:
        return OK

    def select(self, index: bytes) -> bytes:
        if index != b"0":
            raise CommandError("DB index is out of range")
        return OK

    def _value(self, key: bytes) -> bytes | None:
        row: tuple[bytes] | None = self._database.execute("SELECT value FROM pairs WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def _size(self) -> int:
        (count,) = self._database.execute("SELECT count(*) FROM pairs").fetchone()
        return int(count)


MANY = ARGUMENT_COUNT_LIMIT
# name -> method, fewest and most arguments
COMMANDS: dict[bytes, tuple[Callable[..., bytes], int, int]] = {
    b"PING": (Store.ping, 0, 1),
    b"ECHO": (Store.echo, 1, 1),
    b"GET": (Store.get, 1, 1),
    b"SET": (Store.set, 2, MANY),
    b"INCR": (Store.incr, 1, 1),
    b"DEL": (Store.delete, 1, MANY),
    b"EXISTS": (Store.exists, 1, MANY),
    b"DBSIZE": (Store.dbsize, 0, 0),
    b"COMMAND": (Store.command, 0, MANY),
    b"CONFIG": (Store.config, 2, MANY),
    b"HELLO": (Store.hello, 0, 1),
    b"INFO": (Store.info, 0, MANY),
    b"CLIENT": (Store.client, 1, MANY),
    b"SELECT": (Store.select, 1, 1),
}


class KeyValueHandler(MessageRequestHandler):
    rbufsize = 0  # the reader has a buffer of its own

    @staticmethod
    def on_worker_start(server: BaseServer) -> None:
        """Called by prefork in every new worker before it serves."""
        prepare(database_of(server))

    def setup(self) -> None:
        super().setup()
        self.reader = CommandReader()

    def handle_message(self) -> None:
        data = self.connection.recv(65536)
        self.close_connection = not data
        store = store_of_this_thread(database_of(self.server))
        # A client may send many commands without waiting for the replies ("pipelining"); these go out together.
        replies = bytearray()
        try:
            for command in self.reader.feed(data):
                if command[0].upper() == b"QUIT":
                    self.close_connection = True
                    replies += OK
                    break
                replies += store.answer(command)
                if len(replies) > REPLIES_LIMIT:
                    self.connection.sendall(replies)
                    replies.clear()
        except ProtocolError as complaint:
            self.close_connection = True
            replies += error(f"ERR Protocol error: {complaint}")
        self.connection.sendall(replies)

    def hand_over(self) -> bytes | None:
        """Let the client go on in another worker when this one is replaced, unless it is in the middle of a command."""
        return b"" if self.reader.is_between_commands else None

    def take_over(self, state: bytes) -> None:
        self.reader = CommandReader()


class Stores(threading.local):
    """What each thread has open; closed when the thread ends."""

    path: str | None = None
    store: Store


stores = Stores()


def store_of_this_thread(path: str) -> Store:
    if stores.path != path:
        stores.store, stores.path = Store(path), path
    return stores.store


def database_of(server: BaseServer) -> str:
    """`--set database=PATH` sets an attribute on the server, and this is where it is read."""
    default = Path(tempfile.gettempdir()) / "keyvalue.sqlite"
    return str(getattr(server, "database", default))


def prepare(path: str) -> None:
    """Create the table, and let readers go on while somebody writes (WAL). The lock: all workers start at once."""
    with open(f"{path}.lock", "w") as lock, closing(sqlite3.connect(path)) as database:
        fcntl.flock(lock, fcntl.LOCK_EX)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE IF NOT EXISTS pairs (key BLOB PRIMARY KEY, value BLOB NOT NULL)")


if __name__ == "__main__":
    with ThreadPoolTCPServer(("127.0.0.1", 6379), KeyValueHandler) as alone:
        KeyValueHandler.on_worker_start(alone)
        alone.serve_forever()
