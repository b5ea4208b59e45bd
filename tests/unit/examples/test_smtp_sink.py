import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from examples.smtp_sink import SmtpHandler

Dialogue = Callable[[bytes], list[bytes]]
TO_DATA = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"


class Server(socketserver.ThreadingTCPServer):
    size_limit = 5000
    maildir: Path


@contextmanager
def serving(maildir: Path) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), SmtpHandler) as server:
        server.maildir = maildir
        SmtpHandler.on_worker_start(server)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as server:
        yield server


@pytest.fixture
def say(server: Server) -> Dialogue:
    """Says all of it at once, and returns all the replies but the greeting."""

    def dialogue(data: bytes) -> list[bytes]:
        with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=30) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            with client.makefile("rb") as replies:
                greeting, *rest = replies.read().splitlines()
        assert greeting.startswith(b"220 ")
        return rest

    return dialogue


def codes(replies: list[bytes]) -> list[str]:
    return [reply[:4].decode().replace(" ", "") for reply in replies]


def stored(server: Server) -> list[bytes]:
    assert list((server.maildir / "tmp").iterdir()) == []
    return [path.read_bytes() for path in (server.maildir / "new").iterdir()]


def test_a_message_is_stored(server: Server, say: Dialogue) -> None:
    replies = say(b"EHLO me\r\n" + TO_DATA + b"Subject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n")

    assert codes(replies) == ["250-", "250-", "250-", "250", "250", "250", "354", "250", "221"]
    assert stored(server) == [b"Return-Path: <a@b>\r\nDelivered-To: c@d\r\nSubject: x\r\n\r\n.dot\r\n"]


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (b"NOOP\r\nVRFY me\r\nRSET\r\nHELO x\r\nquit\r\n", ["250", "252", "250", "250", "221"]),
        (b"FLY\r\n\r\nEH LO\r\n__init__\r\n", ["500", "500", "500", "500"]),
        (b"x" * 2000 + b"\r\nNOOP\r\n", ["500", "250"]),
        (b"RCPT TO:<a@b>\r\nDATA\r\n", ["503", "503"]),
        (b"MAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\nDATA\r\n", ["250", "503", "503"]),
        (b"MAIL FROM:a@b\r\nMAIL TO:<a@b>\r\nMAIL FROM:<>\r\nRCPT TO:<>\r\n", ["501", "501", "250", "501"]),
        (b"MAIL FROM:<a@b> BODY=8BITMIME SIZE=5000\r\n", ["250"]),
        (b"MAIL FROM:<a@b> SIZE=5001\r\n", ["552"]),
        (b"MAIL FROM:<a@b>\r\n" + b"RCPT TO:<a@b>\r\n" * 101, ["250"] * 101 + ["452"]),
    ],
)
def test_commands_are_answered(say: Dialogue, commands: bytes, expected: list[str]) -> None:
    assert codes(say(commands)) == expected


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"x" * 70 + b"\r\n" + b"y" * 999 + b"\r\n", "500"),
        (b"y" * 1000 + b"\r\n", "500"),  # cut between CR and LF
        ((b"y" * 998 + b"\r\n") * 6, "552"),
    ],
)
def test_a_message_beyond_the_limits_is_refused_as_a_whole(
    server: Server, say: Dialogue, message: bytes, code: str
) -> None:
    replies = say(TO_DATA + message + b"NOOP\r\n.\r\nNOOP\r\n")

    assert codes(replies) == ["250", "250", "354", code, "250"]
    assert stored(server) == []


def test_a_lone_line_feed_does_not_end_a_message(server: Server, say: Dialogue) -> None:
    replies = say(TO_DATA + b"one\n.\nMAIL FROM:<evil@b>\n.\r\ntwo\n\r\n.\r\nQUIT\r\n")

    assert codes(replies) == ["250", "250", "354", "250", "221"]
    assert stored(server)[0].endswith(b"one\n.\nMAIL FROM:<evil@b>\n.\r\ntwo\n\r\n")


def test_a_message_that_is_cut_off_is_not_stored(server: Server, say: Dialogue) -> None:
    replies = say(TO_DATA + b"Subject: x\r\n\r\nhalf")

    assert codes(replies) == ["250", "250", "354"]
    assert stored(server) == []


def test_a_maildir_that_cannot_be_written_is_a_temporary_failure(server: Server, say: Dialogue) -> None:
    (server.maildir / "tmp").rmdir()
    replies = say(TO_DATA + b"x\r\n.\r\nQUIT\r\n")

    assert codes(replies) == ["250", "250", "354", "451", "221"]
