"""As much HTTP as a page of numbers needs: what is served, and everything else refused."""

import pytest

from prefork.admin.http import Refused, Request, Response, encode_head, parse_head, split_head

HOST = b"\r\nHost: localhost"


def refusal(head: bytes) -> int:
    with pytest.raises(Refused) as refused:
        parse_head(head)
    return int(refused.value.response.status)


@pytest.mark.parametrize(
    ("head", "request_"),
    [
        (b"GET / HTTP/1.0", Request("GET", "/", {})),
        (b"HEAD /metrics?x=1#y HTTP/1.1\r\nhost:a:1", Request("HEAD", "/metrics", {"host": "a:1"})),
        (b"GET /a HTTP/1.1\r\nHost: \t b \t\r\nX-Empty:", Request("GET", "/a", {"host": "b", "x-empty": ""})),
        (b"GET / HTTP/1.0\r\nAccept: a\r\nACCEPT: b, c", Request("GET", "/", {"accept": "a, b, c"})),
    ],
)
def test_a_plain_request_is_understood(head: bytes, request_: Request) -> None:
    assert parse_head(head) == request_


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"get", b"PRI"])
def test_other_methods_are_not_allowed(method: bytes) -> None:
    assert refusal(method + b" / HTTP/1.1" + HOST) == 405


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET /",
        b"GET  / HTTP/1.1" + HOST,
        b"GET / HTTP/2.0" + HOST,
        b"GET / HTTP/1.1 " + HOST,
        b"GET http://a/ HTTP/1.1" + HOST,
        b"GET * HTTP/1.1" + HOST,
        b"GET /\x00 HTTP/1.1" + HOST,
        b"GET /\xe9 HTTP/1.1" + HOST,
        b"GET / HTTP/1.1",  # no host
        b"GET / HTTP/1.1" + HOST + HOST,
        b"GET / HTTP/1.1" + HOST + b"\r\nContent-Length: 0",
        b"GET / HTTP/1.1" + HOST + b"\r\nTransfer-Encoding: chunked",
        b"GET / HTTP/1.1" + HOST + b"\r\ntransfer-encoding:\tx",
        b"GET / HTTP/1.1" + HOST + b"\r\nTransfer-Encoding : chunked",
        b"GET / HTTP/1.1" + HOST + b"\r\n folded: line",
        b"GET / HTTP/1.1" + HOST + b"\r\nX: a\nContent-Length: 4",
        b"GET / HTTP/1.1" + HOST + b"\r\nX: a\rb",
        b"GET / HTTP/1.1" + HOST + b"\r\nX: a\x00b",
        b"GET / HTTP/1.1" + HOST + b"\r\nno colon",
        b"GET / HTTP/1.1" + HOST + b"\r\n: no name",
        b"GET / HTTP/1.1\nHost: localhost",
    ],
)
def test_what_others_might_read_otherwise_is_refused(head: bytes) -> None:
    assert refusal(head) == 400


def test_what_follows_a_head_is_kept_apart() -> None:
    assert split_head(b"GET / HTTP/1.0\r\n\r\nGET /second") == (b"GET / HTTP/1.0", b"GET /second")


def test_a_head_is_waited_for_until_it_is_too_long() -> None:
    assert split_head(b"GET / HTTP/1.0\r\n\r") is None
    with pytest.raises(Refused) as refused:
        split_head(b"x" * 4096)
    assert refused.value.response.status == 431


def test_an_answer_says_what_it_is_and_that_it_is_the_only_one() -> None:
    lines = encode_head(Response(b"12345", "text/html", headers={"Allow": "GET"})).decode().split("\r\n")

    assert lines[0] == "HTTP/1.1 200 OK"
    assert {"Content-Length: 5", "Content-Type: text/html", "Connection: close", "Allow: GET"} <= set(lines)
    assert {"X-Content-Type-Options: nosniff", "Cache-Control: no-store"} <= set(lines)
