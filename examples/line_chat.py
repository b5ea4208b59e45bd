"""A chat room for line-based clients such as nc: what one says, the others read.

prefork run examples.line_chat:ChatHandler --workers 1

The room is a variable, and every worker is a process with variables of its own: with two workers there are two rooms,
and the workers agree on which one a client enters: the less busy ones take turns. So this example wants one worker, and
its greeting says what one gets.

Between two lines of a client its connection is parked: thousands may be in the room with a few threads. And it stays in
the room when new code is loaded (SIGHUP): the connection is handed over to the new worker.
"""

import socket
import threading
from typing import ClassVar

from prefork.serving import MessageRequestHandler, ThreadPoolTCPServer

LINE_LIMIT = 1000


class ChatHandler(MessageRequestHandler):
    # Connections are served by threads, so what they share needs a lock.
    room: ClassVar[set["ChatHandler"]] = set()
    lock: ClassVar[threading.Lock] = threading.Lock()

    name = ""

    def setup(self) -> None:
        super().setup()
        self.tell("Your name?")

    def handle_message(self) -> None:
        line = self.read_line()
        if line is None:
            self.close_connection = True
        elif not self.name:
            self.enter(line or f"guest {self.connection.fileno()}")
        else:
            self.tell_others(f"{self.name}: {line}")

    def finish(self) -> None:
        with self.lock:
            was_in = self in self.room
            self.room.discard(self)
        if was_in:
            self.tell_others(f"* {self.name} leaves")
        super().finish()

    def enter(self, name: str) -> None:
        self.name = name
        with self.lock:
            others = sorted(member.name for member in self.room)
            self.room.add(self)
        self.tell(f"Welcome, {self.name}. With you in this worker's room: {', '.join(others) or 'nobody yet'}.")
        self.tell_others(f"* {self.name} enters")

    def hand_over(self) -> bytes:
        """Leave quietly: when the worker is replaced, its clients go on in the room of another one."""
        with self.lock:
            self.room.discard(self)
        return self.name.encode()

    def take_over(self, state: bytes) -> None:
        self.name = state.decode()
        if self.name:
            with self.lock:
                self.room.add(self)

    def on_drain(self) -> None:
        """Say goodbye: prefork calls this, from a thread of its own, when the server stops."""
        if self in self.room:
            self.tell("* This server is closing. Come again!")

    def read_line(self) -> str | None:
        """The next line without its end, or None when the client has left."""
        try:
            line = self.rfile.readline(LINE_LIMIT)
        except ConnectionError:
            return None
        # Only what can be printed: nobody shall send escape sequences to the others' terminals.
        return "".join(filter(str.isprintable, line.decode(errors="replace"))) if line else None

    def tell(self, text: str) -> None:
        """Send a line without ever waiting: a client that does not read must not hold up the others."""
        data = f"{text}\n".encode()
        try:
            if self.connection.send(data, socket.MSG_DONTWAIT) == len(data):
                return
        except OSError:
            pass  # Its buffer is full, or it is gone.
        try:
            self.connection.shutdown(socket.SHUT_RDWR)  # Ends its reading.
        except OSError:
            pass  # It has ended already.

    def tell_others(self, text: str) -> None:
        with self.lock:
            others = [member for member in self.room if member is not self]
        for member in others:
            member.tell(text)


if __name__ == "__main__":
    with ThreadPoolTCPServer(("127.0.0.1", 9999), ChatHandler) as server:
        server.serve_forever()
