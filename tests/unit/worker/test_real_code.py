"""Servers and handlers that others have written, served as they are."""

import http.client
import socket
import subprocess
import sys
import xmlrpc.client
from typing import Any

import dnslib
import pytest

from tests.unit.worker.conftest import PATIENCE, Workshop


def fetch(workshop: Workshop, path: str = "/") -> tuple[int, bytes]:
    address = workshop.listeners[0].socket.getsockname()
    connection = http.client.HTTPConnection(address[0], address[1], timeout=PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


PAGES = """
    import http.server, socketserver
    class Pages(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def do_GET(self):
            body = f"{self.path} at {self.server.server_port}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def log_message(self, *_): pass
"""


@pytest.mark.parametrize("target", ["app:Pages", "http.server:ThreadingHTTPServer", "http.server:HTTPServer"])
def test_http_server(workshop: Workshop, target: str) -> None:
    workshop.module(PAGES)
    [listener] = workshop.listen("tcp://127.0.0.1:0")
    workshop.run(target, handler=None if target.startswith("app") else "app:Pages")

    assert fetch(workshop, "/here") == (200, f"/here at {listener.address.port}".encode())


def test_simple_http_request_handler(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    (workshop.directory / "page").write_text("hello")
    monkeypatch.chdir(workshop.directory)
    workshop.listen("tcp://127.0.0.1:0")
    workshop.run("http.server:SimpleHTTPRequestHandler")

    assert fetch(workshop, "/page") == (200, b"hello")


def test_wsgiref(workshop: Workshop) -> None:
    workshop.module(
        """
        from wsgiref.simple_server import make_server, WSGIRequestHandler
        class Quiet(WSGIRequestHandler):
            def log_message(self, *_): pass
        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [environ["SERVER_PORT"].encode()]
        def make(): return make_server("", 8000, app, handler_class=Quiet)
        """
    )
    [listener] = workshop.listen("tcp://127.0.0.1:0")
    workshop.run("app:make")

    assert fetch(workshop) == (200, str(listener.address.port).encode())


@pytest.mark.parametrize("target", ["app:server", "app:make"])
def test_xmlrpc(workshop: Workshop, target: str) -> None:
    workshop.module(
        """
        from xmlrpc.server import SimpleXMLRPCServer
        def make():
            server = SimpleXMLRPCServer(("localhost", 8000), logRequests=False)
            server.register_function(pow)
            return server
        """
    )
    if target == "app:server":
        workshop.module("from app import make\nserver = make()", "instance")
        target = "instance:server"
    [listener] = workshop.listen("tcp://127.0.0.1:0")
    workshop.run(target)
    with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{listener.address.port}") as proxy:
        assert proxy.pow(2, 3) == 8


ZONE = """
    from dnslib import RR
    from dnslib.server import BaseResolver, DNSLogger, TCPServer, UDPServer, DNSHandler
    class Resolver(BaseResolver):
        def resolve(self, request, handler):
            reply = request.reply()
            reply.add_answer(*RR.fromZone(f"{request.q.qname} 60 A 1.2.3.4"))
            return reply
    resolver = Resolver()
    logger = DNSLogger("-request,-reply,-recv,-send")
    def make(address):
        servers = [cls(address, DNSHandler) for cls in (UDPServer, TCPServer)]
        for server in servers:
            server.resolver, server.logger = resolver, logger
        return servers
"""


@pytest.mark.parametrize(
    ("target", "attributes"),
    [
        ("dnslib.server:DNSHandler", {"resolver": "@zone:resolver"}),
        ("dnslib.server:DNSHandler", {"resolver": "@zone:resolver", "logger": "@zone:logger"}),
        ("zone:make", {}),
    ],
)
def test_dnslib(workshop: Workshop, target: str, attributes: dict[str, object]) -> None:
    workshop.module(ZONE, "zone")
    [tcp] = workshop.listen("tcp://127.0.0.1:0")
    workshop.listen(f"udp://127.0.0.1:{tcp.address.port}")
    workshop.run(target, server=attributes)
    question = dnslib.DNSRecord.question("example.org")

    for over_tcp in (False, True):
        answer = question.send("127.0.0.1", tcp.address.port, tcp=over_tcp, timeout=PATIENCE)
        assert str(dnslib.DNSRecord.parse(answer).a.rdata) == "1.2.3.4"


@pytest.mark.parametrize("threaded", [False, True])
def test_werkzeug(workshop: Workshop, threaded: bool) -> None:
    workshop.module(
        f"""
        from werkzeug.serving import make_server, WSGIRequestHandler
        class Quiet(WSGIRequestHandler):
            def log(self, *_): pass
        def app(environ, start_response):
            start_response("200 OK", [("Content-Length", "2")])
            return [b"ok"]
        def make(): return make_server("0.0.0.0", 8000, app, threaded={threaded}, request_handler=Quiet)
        """
    )
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run("app:make")
    assert fetch(workshop) == (200, b"ok")

    running.drain()
    assert running.wait_until_empty()


def test_werkzeug_leaves_the_socket_file(workshop: Workshop) -> None:
    workshop.module(
        """
        from werkzeug.serving import make_server
        def make(address): return make_server(f"unix://{address}", 0, lambda environ, start_response: [])
        """
    )
    path = workshop.directory / "socket"
    workshop.listen(f"unix:{path}")
    workshop.run("app:make")

    assert path.exists()


def test_a_forking_server_is_served_and_its_children_are_counted(workshop: Workshop) -> None:
    script = f"""
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from tests.unit.worker.conftest import *
workshop = Workshop(Path({str(workshop.directory)!r}))
workshop.module(\"\"\"
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(100):
            self.request.sendall(data)
\"\"\")
workshop.listen("tcp://127.0.0.1:0")
running = workshop.build("socketserver:ForkingTCPServer", handler="app:Echo")
running.start()
client = workshop.connect()
client.sendall(b"x")
print(client.recv(1), running.open_connections >= 1)
running.drain()
print(running.wait_until(lambda: not running.accepting and running.open_connections == 1), running.open_connections)
client.sendall(b"y")
print(client.recv(1))
client.shutdown(socket.SHUT_WR)  # the child has a copy of this end, too
print(running.wait_until_empty())
for service in running.services:
    service.close()
print(running.notes.count("opened"), running.notes.count("closed"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE)

    assert done.stderr == ""
    assert done.stdout.splitlines() == ["b'x' True", "True 1", "b'y'", "True", "1 1"]


def test_the_children_of_a_forking_server_are_killed_in_the_end(workshop: Workshop) -> None:
    script = f"""
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from tests.unit.worker.conftest import *
workshop = Workshop(Path({str(workshop.directory)!r}))
workshop.module("def stuck(request, *_): request.sendall(b'x'); request.recv(1)\\n")
workshop.listen("tcp://127.0.0.1:0")
running = workshop.build("socketserver:ForkingTCPServer", handler="app:stuck")
running.start()
client = workshop.connect()
print(client.recv(1))
running.leave()
print(client.recv(1))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE)

    assert (done.stdout, done.stderr) == ("b'x'\nb''\n", "")


def test_one_after_another_in_one_thread_is_what_a_plain_server_does(workshop: Workshop) -> None:
    workshop.module(PAGES)
    workshop.listen("tcp://127.0.0.1:0")
    running: Any = workshop.run("http.server:HTTPServer", handler="app:Pages")
    for _ in range(5):
        assert fetch(workshop)[0] == 200

    assert running.services[0]._thread.name.startswith("prefork-server-")
    assert isinstance(workshop.listeners[0].socket, socket.socket)
