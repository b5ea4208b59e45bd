"""Servers of every kind get the stages that their listeners demand, or do not start."""

from typing import Any

import pytest

from prefork.address import parse_bind
from prefork.config.settings import Settings
from prefork.errors import ApplicationError
from prefork.worker.stages import wanted_stages
from tests.support.proxies import TEXT_HEADER
from tests.unit.worker.conftest import Workshop

SOURCE = """
    import socketserver
    from prefork.serving import ThreadPoolMixIn, ThreadPoolTCPServer

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            header = self.server.proxy_header(self.request)
            self.request.sendall(f"{self.client_address[0]} {header is not None}".encode())

    class Pooled(ThreadPoolTCPServer):
        def __init__(self, address):
            super().__init__(address, Handler)

        def process_request(self, request, client_address):
            request.sendall(b"my own way: ")
            super().process_request(request, client_address)

    class Mixed(ThreadPoolMixIn, socketserver.TCPServer):
        def __init__(self, address):
            super().__init__(address, Handler)

    class OwnLoop(socketserver.TCPServer):
        def __init__(self, address):
            super().__init__(address, Handler)

    def make(address):
        return [Mixed(address)]
"""
PROXIES: dict[str, Any] = {"proxy_protocol": "on", "trusted_proxies": ("127.0.0.1/32", "unix")}


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("app:Handler", b"203.0.113.7 True"),
        ("app:Pooled", b"my own way: 203.0.113.7 True"),
        ("app:Mixed", b"203.0.113.7 True"),
        ("app:make", b"203.0.113.7 True"),
    ],
)
def test_servers_with_our_pool_receive_headers(workshop: Workshop, target: str, answer: bytes) -> None:
    workshop.module(SOURCE)
    workshop.listen("tcp://127.0.0.1:0")
    workshop.run(target, **PROXIES)

    with workshop.connect() as client, client.makefile("rb") as answers:
        client.sendall(TEXT_HEADER)
        assert answers.read() == answer


def test_without_a_proxy_handlers_find_no_header(workshop: Workshop) -> None:
    workshop.module(SOURCE)
    workshop.listen("tcp://127.0.0.1:0")
    workshop.run("app:Handler")

    assert workshop.ask() == b"127.0.0.1 False"


def test_a_server_keeps_its_name(workshop: Workshop) -> None:
    workshop.module(SOURCE)
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run("app:Pooled", **PROXIES)

    server = running.services[0]._servers[0][0]  # type: ignore[attr-defined]  # of the service of our servers
    assert f"{type(server).__module__}.{type(server).__qualname__}" == "app.Pooled"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            PROXIES,
            "cannot have the PROXY protocol, which tcp://127.0.0.1:{port} demands.* give that listener proxy=off",
        ),
        ({"tls_cert": ("c.pem",)}, "cannot have TLS, which .* give that listener tls=off"),
        ({**PROXIES, "tls_cert": ("c.pem",)}, "cannot have TLS or the PROXY protocol.* tls=off and proxy=off"),
    ],
)
def test_a_server_with_its_own_loop_is_refused(workshop: Workshop, options: dict[str, Any], complaint: str) -> None:
    workshop.module(SOURCE)
    (listener,) = workshop.listen("tcp://127.0.0.1:0")

    with pytest.raises(ApplicationError, match=complaint.format(port=listener.address.port)):
        workshop.build("app:OwnLoop", **options)


def test_an_inherited_socket_of_datagrams_is_refused_a_stage(workshop: Workshop) -> None:
    workshop.module(SOURCE)
    (listener,) = workshop.listen("udp://127.0.0.1:0")
    listener.address = parse_bind("fd://3?tls=on")

    with pytest.raises(ApplicationError, match=r"fd://3\?tls=on passes datagrams"):
        workshop.build("app:Handler", tls_cert=("c.pem",))


def test_datagrams_pass_no_stages(workshop: Workshop) -> None:
    settings = Settings(tls_cert=("c.pem",), **PROXIES)

    assert wanted_stages(parse_bind("udp://:1"), settings) == []
    assert wanted_stages(parse_bind("tcp://:1"), settings) == ["TLS", "the PROXY protocol"]
