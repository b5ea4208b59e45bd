"""Accepts every mail and stores it in a Maildir: for tests of programs that send mail.

prefork run examples.smtp_sink:SmtpHandler --bind tcp://127.0.0.1:2525 --set maildir=/var/tmp/mail

In SMTP (RFC 5321) the server speaks first, so a connection has a thread from the moment it is accepted.
"""

import os
import re
import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

# The limits of RFC 5321, section 4.5.3.1, and one of ours for the message.
COMMAND_LIMIT = 512
LINE_LIMIT = 1000
RECIPIENTS_LIMIT = 100
DEFAULT_SIZE_LIMIT = 10 * 1024 * 1024

PATH = re.compile(r"<([^<>\s]*)>((?: [^ ]+)*)")


class Finished(Exception):
    """The client has said goodbye."""


class ClientGone(Exception):
    """The client has left without a word, or nothing more is read from it."""


class SmtpHandler(socketserver.StreamRequestHandler):
    timeout = 300  # seconds of silence

    # A message under way: from whom, to whom.
    sender: str | None = None
    recipients: list[str]

    @staticmethod
    def on_worker_start(server: socketserver.BaseServer) -> None:
        """Called by prefork in every new worker before it serves."""
        for name in ("tmp", "new", "cur"):
            (maildir_of(server) / name).mkdir(parents=True, exist_ok=True)

    def on_drain(self) -> None:
        """Called by prefork, from a thread of its own, when the worker shall end.

        A client between two messages is told so at once: reading ends, and `handle` says 421. One that is sending
        a message finishes it first.
        """
        if self.sender is None:
            try:
                self.request.shutdown(socket.SHUT_RD)
            except (AttributeError, OSError):
                pass  # Not set up yet, or already over.

    def handle(self) -> None:
        self.recipients = []
        try:
            self.say(220, f"{socket.gethostname()} ready")
            while self.sender is not None or not self.draining:
                self.obey(self.read_command())
        except ClientGone:
            pass
        except Finished:
            return
        except TimeoutError:
            self.say(421, "nothing heard for too long, closing")
            return
        if self.draining:
            self.say(421, "this server is closing, please come again")

    def obey(self, line: str) -> None:
        verb, _, argument = line.partition(" ")
        command = getattr(self, f"command_{verb.upper()}", None) if verb.isalpha() else None
        if command is None:
            self.say(500, "command not recognized")
        else:
            command(argument.strip())

    def command_HELO(self, name: str) -> None:
        self.reset()
        self.say(250, f"{socket.gethostname()} greets {name or 'you'}")

    def command_EHLO(self, name: str) -> None:
        self.reset()
        self.say(
            250, f"{socket.gethostname()} greets {name or 'you'}", f"SIZE {self.size_limit}", "8BITMIME", "PIPELINING"
        )

    def command_MAIL(self, argument: str) -> None:
        if self.sender is not None:
            return self.say(503, "there is a message under way; RSET forgets it")
        found = address(argument, "FROM:")
        if found is None:
            return self.say(501, "like this: MAIL FROM:<somebody@example.com>")
        sender, parameters = found
        size = re.search(r" SIZE=(\d+)", parameters, re.IGNORECASE)
        if size and int(size[1]) > self.size_limit:
            return self.say(552, f"larger than {self.size_limit} bytes")
        self.sender = sender
        return self.say(250, "from whom is noted")

    def command_RCPT(self, argument: str) -> None:
        if self.sender is None:
            return self.say(503, "MAIL comes first")
        found = address(argument, "TO:")
        if found is None or not found[0]:
            return self.say(501, "like this: RCPT TO:<somebody@example.com>")
        if len(self.recipients) >= RECIPIENTS_LIMIT:
            return self.say(452, f"not more than {RECIPIENTS_LIMIT} recipients at a time")
        self.recipients.append(found[0])
        return self.say(250, "to whom is noted")

    def command_DATA(self, _argument: str) -> None:
        if not self.recipients:
            return self.say(503, "MAIL and RCPT come first")
        self.say(354, "the message, please, then a line with a dot")
        # Read to its end in any case: what follows must not be taken for commands.
        message: list[bytes] = []
        size = 0
        complaint = None
        for line in self.read_message():
            size += len(line)
            if size > self.size_limit:
                complaint = (552, f"larger than {self.size_limit} bytes")
            elif len(line) > LINE_LIMIT:
                complaint = (500, f"a line is longer than {LINE_LIMIT} bytes")
            if complaint is None:
                message.append(line)
            else:
                message.clear()
        self.say(*(complaint or self.store(b"".join(message))))
        self.reset()
        return None

    def command_RSET(self, _argument: str) -> None:
        self.reset()
        self.say(250, "forgotten")

    def command_NOOP(self, _argument: str) -> None:
        self.say(250, "done, for there was nothing to do")

    def command_VRFY(self, _argument: str) -> None:
        self.say(252, "anybody is welcome here")

    def command_QUIT(self, _argument: str) -> None:
        self.say(221, "goodbye")
        raise Finished

    def reset(self) -> None:
        self.sender = None
        self.recipients = []

    def read_command(self) -> str:
        line = self.rfile.readline(COMMAND_LIMIT)
        if not line:
            raise ClientGone
        if line.endswith(b"\n"):
            return line.decode("utf-8", "replace").rstrip("\r\n")
        while line and not line.endswith(b"\n"):
            line = self.rfile.readline(COMMAND_LIMIT)
        return ""

    def read_message(self) -> Iterator[bytes]:
        """The lines of a message. Over-long ones are cut at a little more than the limit.

        Lines end with CR LF and nothing else. A server that also takes a lone LF for the end of a line can be made to
        find the end of a message, and the commands of another, inside of the message.
        """
        before = b"\r\n"  # the two bytes before this line
        while True:
            line = self.rfile.readline(LINE_LIMIT + 1)
            if not line:
                raise ClientGone
            at_start = before == b"\r\n"
            if at_start and line == b".\r\n":
                return
            # A line that begins with a dot was sent with one more.
            yield line[1:] if at_start and line.startswith(b".") else line
            before = (before + line)[-2:]

    def store(self, message: bytes) -> tuple[int, str]:
        head = f"Return-Path: <{self.sender}>\r\n" + "".join(f"Delivered-To: {name}\r\n" for name in self.recipients)
        try:
            name = deliver(maildir_of(self.server), head.encode() + message)
        except OSError as error:
            return 451, f"cannot store the message: {error.strerror}"
        return 250, f"stored as {name}"

    def say(self, code: int, *lines: str) -> None:
        """A reply: all lines but the last have a hyphen after the code."""
        marks = ["-"] * (len(lines) - 1) + [" "]
        self.wfile.write("".join(f"{code}{mark}{line}\r\n" for mark, line in zip(marks, lines, strict=True)).encode())

    @property
    def draining(self) -> bool:
        """Whether this worker shall end; the servers of the standard library do not know of such a thing."""
        return bool(getattr(self.server, "draining", False))

    @property
    def size_limit(self) -> int:
        return int(getattr(self.server, "size_limit", DEFAULT_SIZE_LIMIT))


def address(argument: str, keyword: str) -> tuple[str, str] | None:
    """`FROM:<a@b> SIZE=5` -> "a@b" and " SIZE=5"."""
    if argument[: len(keyword)].upper() != keyword:
        return None
    found = PATH.fullmatch(argument[len(keyword) :].strip())
    return (found[1], found[2]) if found else None


def maildir_of(server: socketserver.BaseServer) -> Path:
    """`--set maildir=PATH` sets an attribute on the server, and this is where it is read."""
    return Path(getattr(server, "maildir", Path(tempfile.gettempdir()) / "maildir"))


def deliver(maildir: Path, message: bytes) -> str:
    """Store a message so that a reader of the Maildir sees it whole or not at all."""
    name = f"{time.time_ns()}.P{os.getpid()}T{threading.get_native_id()}.{socket.gethostname()}"
    with open(maildir / "tmp" / name, "xb") as file:
        file.write(message)
        file.flush()
        os.fsync(file.fileno())
    os.rename(maildir / "tmp" / name, maildir / "new" / name)
    return name


if __name__ == "__main__":
    with socketserver.ThreadingTCPServer(("127.0.0.1", 2525), SmtpHandler) as alone:
        SmtpHandler.on_worker_start(alone)
        alone.serve_forever()
