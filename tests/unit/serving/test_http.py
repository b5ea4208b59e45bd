"""Handlers of `http.server`, unchanged: parked between requests if nobody can tell."""

import http.client
import http.server
import os
import socket
from typing import Any

import pytest

from prefork.serving import ThreadPoolTCPServer
from prefork.serving.http import is_parkable
from tests.unit.serving.conftest import PATIENCE, Bench, make_server


class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"hello {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Old(Hello):
    protocol_version = "HTTP/1.0"


class WithTimeout(Hello):
    timeout = 60


class WithHandle(Hello):
    def handle(self) -> None:
        super().handle()


def client_of(bench: Bench) -> http.client.HTTPConnection:
    host, port = bench.servers[0].server_address
    client = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    bench.stack.callback(client.close)
    return client


def ask(client: http.client.HTTPConnection, path: str) -> bytes:
    client.request("GET", path)
    return client.getresponse().read()


def test_more_kept_connections_than_threads_are_served(bench: Bench) -> None:
    pool = bench.pool(make_server(Hello, ThreadPoolTCPServer), threads=1)
    clients = [client_of(bench) for _ in range(10)]
    for number in range(3):
        assert [ask(client, f"/{number}") for client in clients] == [b"hello /%d" % number] * 10
    while len(pool._parking) != 10:
        os.sched_yield()

    assert pool.open_connections == 10
    clients[0].request("POST", "/", body=b"x" * 100_000)
    assert clients[0].getresponse().read() == b"x" * 100_000


def test_requests_that_came_together_are_all_served(bench: Bench) -> None:
    bench.pool(make_server(Hello, ThreadPoolTCPServer), threads=1)
    client = bench.connect()
    client.sendall(b"GET /a HTTP/1.1\r\n\r\n" * 50 + b"GET /b HTTP/1.1\r\nConnection: close\r\n\r\n")

    with client.makefile("rb") as answers:
        assert answers.read().count(b"hello /") == 51


def test_what_asks_for_the_end_gets_it(bench: Bench) -> None:
    pool = bench.pool(make_server(Old, ThreadPoolTCPServer))
    client = bench.connect()
    client.sendall(b"GET /a HTTP/1.0\r\n\r\n")

    with client.makefile("rb") as answer:
        assert answer.read().endswith(b"hello /a")
    pool.drain()
    assert pool.ended.wait(PATIENCE)


def test_a_client_that_leaves_between_requests_is_forgotten(bench: Bench) -> None:
    pool = bench.pool(make_server(Hello, ThreadPoolTCPServer))
    client = client_of(bench)
    ask(client, "/")
    client.close()
    pool.drain()

    assert pool.ended.wait(PATIENCE)
    assert bench.notes.lines[-1] == ("closed", bench.notes.lines[-1][1], False)


def test_the_socket_is_closed_at_the_end(bench: Bench) -> None:
    closed: list[socket.socket] = []

    class Server(ThreadPoolTCPServer):
        def close_request(self, request: Any) -> None:
            super().close_request(request)
            closed.append(request)

    pool = bench.pool(make_server(Hello, Server))
    client = client_of(bench)
    ask(client, "/")
    client.close()
    pool.drain()
    assert pool.ended.wait(PATIENCE)

    assert [request.fileno() for request in closed] == [-1]


@pytest.mark.parametrize(
    ("handler", "parkable"),
    [
        (Hello, True),
        (Old, True),
        (http.server.SimpleHTTPRequestHandler, True),
        (WithTimeout, False),
        (WithHandle, False),
        (int, False),
    ],
)
def test_only_what_cannot_tell_is_parked(handler: Any, parkable: bool) -> None:
    assert is_parkable(handler) is parkable
