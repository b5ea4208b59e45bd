"""Asks the admin helper of a server."""

import json
import socket
from typing import Any

from prefork.address import parse_bind
from prefork.testing import Address, Server, _reachable
from tests.support.clients import connect


def address_of(server: Server, purpose: str = "admin") -> Address:
    """Return where the admin helper listens, or answers agent checks."""
    return _reachable(parse_bind(server.status()[purpose]))


def url_of(server: Server) -> str:
    """Return where a browser finds the status page."""
    address: str = server.status()["admin"]
    return address.replace("tcp://", "http://") + "/"


def exchange(address: Address, sent: bytes) -> bytes:
    """Send bytes and return all that comes until the connection ends."""
    with connect(address) as client:
        client.sendall(sent)
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    """Return what comes until the connection ends."""
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    return received


def fetch(address: Address, path: str) -> tuple[int, str]:
    """Return the status and the body of a page."""
    answer = exchange(address, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def fetch_json(address: Address, path: str) -> Any:
    """Return what a page of JSON holds."""
    status, body = fetch(address, path)
    assert status == 200, body
    return json.loads(body)


def metrics(address: Address) -> dict[str, float]:
    """Return every sample by its name and labels."""
    lines = fetch(address, "/metrics")[1].splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def total(samples: dict[str, float], name: str) -> float:
    """Add up the samples of a family."""
    return sum(value for sample, value in samples.items() if sample.partition("{")[0] == name)
