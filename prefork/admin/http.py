"""As much HTTP as a page of numbers needs, and nothing more: GET and HEAD, one request a connection, no body.

A request that could mean one thing to us and another to somebody before us is refused: a body or the announcement of
one, more bytes after the head, line ends other than CR LF, folded lines, two hosts. All of it has two seconds and four
kilobytes.
"""

from __future__ import annotations

import email.utils
import ipaddress
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from prefork.serving.messages import MessageRequestHandler

_HEAD_BYTES = 4096
REQUEST_TIME = 2.0  # seconds for all of a request
_ANSWER_TIME = 5.0  # nearly every answer fits into the kernel's buffer, so that no thread waits for its reader
_ANSWER_BUFFER = 1 << 20
_END_OF_HEAD = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[\x21-\x7e]*) HTTP/1\.([01])")
_HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e\x80-\xff](?:[ \t\x21-\x7e\x80-\xff]*)?|)")
_NO_SURPRISES = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for; the names of the headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """The request is not answered as asked."""

    def __init__(self, status: HTTPStatus, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.response = Response(f"{reason}\n".encode(), status=status, headers=headers)


def _too_late() -> Refused:
    return Refused(HTTPStatus.REQUEST_TIMEOUT, f"the request took longer than {REQUEST_TIME:g} seconds")


class HttpHandler(MessageRequestHandler):
    """Serves one request from `server.pages`. While it waits for a head, or the rest of it, no thread waits with it."""

    rbufsize = 0  # what has come is kept here
    request: socket.socket
    server: Any

    def setup(self) -> None:
        """Make room for an answer, so that no thread waits for its reader."""
        super().setup()
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ANSWER_BUFFER)
        self._deadline = time.monotonic() + REQUEST_TIME
        self._received = b""
        self._refused = False

    def handle_message(self) -> None:
        """Take what has come, and answer when the head is complete."""
        try:
            self._take()
        except OSError:
            self.close_connection = True  # it has gone, or does not read

    def finish(self) -> None:
        """Tell a client whose head did not come in time."""
        if self._received and not self._refused and not self.close_connection:
            try:
                self._refuse(_too_late())
            except OSError:
                pass
        super().finish()

    def _take(self) -> None:
        chunk = self.request.recv(_HEAD_BYTES - len(self._received))
        late = time.monotonic() > self._deadline
        if not chunk or (self._refused and late):
            self.close_connection = True
        elif not self._refused:  # else it is only read: closing while something is unread would take the answer back
            self._received += chunk
            try:
                self._serve(late)
            except Refused as refused:
                self._refuse(refused)

    def _serve(self, late: bool) -> None:
        found = split_head(self._received)
        if found is None:
            if late:
                raise _too_late()
            return
        request = parse_head(found[0])
        if found[1]:
            raise Refused(HTTPStatus.BAD_REQUEST, "more came after the request: one is served, without a body")
        if _is_loopback(self.request):
            _check_host(request)
        self._send(self.server.pages.respond(request), with_body=request.method != "HEAD")
        self.close_connection = True

    def _refuse(self, refused: Refused) -> None:
        self._refused = True
        self._received = b""
        self._send(refused.response)
        self.request.shutdown(socket.SHUT_WR)

    def _send(self, response: Response, with_body: bool = True) -> None:
        self.request.settimeout(_ANSWER_TIME)
        self.request.sendall(encode_head(response) + (response.body if with_body else b""))


def split_head(received: bytes) -> tuple[bytes, bytes] | None:
    """Return the head of a request and what came after it, or None if it is not complete. Raise Refused."""
    head, end, more = received.partition(_END_OF_HEAD)
    if end:
        return head, more
    if len(received) >= _HEAD_BYTES:
        raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is longer than 4 KB")
    return None


def parse_head(head: bytes) -> Request:
    """Take the head of a request apart. Raise Refused."""
    line, *header_lines = head.split(b"\r\n")
    asked = _REQUEST_LINE.fullmatch(line)
    if asked is None:
        raise Refused(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1")
    method = asked[1].decode()
    if method not in ("GET", "HEAD"):
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are served", Allow="GET, HEAD")
    headers = _parse_headers(header_lines)
    if "content-length" in headers or "transfer-encoding" in headers:
        raise Refused(HTTPStatus.BAD_REQUEST, "a request has no body here")
    if asked[3] == b"1" and "host" not in headers:
        raise Refused(HTTPStatus.BAD_REQUEST, "a host is missing")
    return Request(method, asked[2].decode().partition("?")[0], headers)


def _parse_headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        parts = _HEADER_LINE.fullmatch(line)
        if parts is None:
            raise Refused(HTTPStatus.BAD_REQUEST, "a header is malformed")
        name = parts[1].decode().lower()
        if name in headers and name == "host":
            raise Refused(HTTPStatus.BAD_REQUEST, "more than one host")
        value = parts[2].decode("latin-1").rstrip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def encode_head(response: Response) -> bytes:
    """Write the head of an answer."""
    fields = {
        "Date": email.utils.formatdate(usegmt=True),
        "Content-Type": response.content_type,
        "Content-Length": str(len(response.body)),
        **_NO_SURPRISES,
        **response.headers,
    }
    lines = [f"HTTP/1.1 {response.status.value} {response.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _is_loopback(connection: Any) -> bool:
    if connection.family == socket.AF_UNIX:
        return False
    address = ipaddress.ip_address(connection.getsockname()[0])
    # A listener at [::] sees who came to 127.0.0.1 as ::ffff:127.0.0.1, which Python before 3.13 does not look into.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _check_host(request: Request) -> None:
    """Refuse a foreign name for this machine itself: a page of that name would read us in a browser (DNS rebinding)."""
    host = request.headers.get("host", "localhost")
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        if name.lower() != "localhost":
            reason = "this is a local address: ask for it by number, or as localhost"
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, reason) from None
