"""Code written for a program of its own, served unchanged: by all workers, through a reload, to the end of a stop."""

import http.client
import signal
import socket
import urllib.request
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from prefork.testing import Address, Server
from tests.process.conftest import Serve
from tests.support import tools
from tests.support.addresses import host_and_port
from tests.support.clients import LineClient, ask_once, eventually
from tests.support.visits import DatagramVisit, DnsOverTcp, DnsOverUdp, StreamVisit, Visit, steady_visits

ELSEWHERE = '''
import concurrent.futures
import socket
import socketserver
import wsgiref.simple_server
import xmlrpc.server

import dnslib
import dnslib.server
import werkzeug.serving

import app
import prefork.serving
import prefork.socketserver


class QuietCalls(xmlrpc.server.SimpleXMLRPCRequestHandler):
    def log_message(self, *args):
        pass


class QuietPages(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *args):
        pass


def make_calls(port=8000):
    server = xmlrpc.server.SimpleXMLRPCServer(("127.0.0.1", port), QuietCalls)
    server.register_function(str.upper, "upper")
    return server


def page(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"hello, world\\n"]


def make_pages():
    return wsgiref.simple_server.make_server("", 8000, page, handler_class=QuietPages)


def make_werkzeug():
    return werkzeug.serving.make_server("127.0.0.1", 8000, page, threaded=True)


class Resolver:
    def resolve(self, request, handler):
        reply = request.reply()
        reply.add_answer(*dnslib.RR.fromZone(f"{request.q.qname} 60 A 192.0.2.7"))
        return reply


resolver = Resolver()
logger = dnslib.server.DNSLogger("-request,-reply")


class OwnServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Is called with what it likes, and binds as it likes."""

    daemon_threads = True

    def __init__(self, address, greeting="hello"):
        self.greeting = greeting
        super().__init__(address, app.Handler, bind_and_activate=False)
        self.server_bind()
        self.server_activate()

    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()


class PoolOfItsOwn(socketserver.TCPServer):
    """Starts its threads when it is made."""

    def __init__(self, *args):
        self.executor = concurrent.futures.ThreadPoolExecutor(4)
        list(self.executor.map(str, range(8)))
        super().__init__(*args)

    def process_request(self, request, client_address):
        self.executor.submit(self.work, request, client_address)

    def work(self, request, client_address):
        self.finish_request(request, client_address)
        self.shutdown_request(request)


class OursThreading(prefork.socketserver.ThreadingTCPServer):
    daemon_threads = True


class OursPooled(prefork.serving.ThreadPoolTCPServer):
    threads = 4
'''
INSTANCE = "from elsewhere import make_calls\n\nserver = make_calls(0)\n"

ECHO = "echo hello, world\n"
PAGE = "GET /greeting.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
CALL = xmlrpc.client.dumps(("hello, world",), "upper")
POST = (
    f"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\nContent-Length: {len(CALL)}\r\n"
    f"Connection: close\r\n\r\n{CALL}"
)


@dataclass(frozen=True)
class Case:
    """What is served, how a client visits it, and what is part of every answer."""

    target: str
    request: str
    answer: str = "hello, world"
    options: dict[str, Any] = field(default_factory=dict)
    bind: str = "tcp://127.0.0.1:0"
    kind: Callable[[Address, Any], Visit] = StreamVisit

    def __str__(self) -> str:
        return self.target

    def begin(self, server: Server) -> Visit:
        return self.kind(server.address, self.request)


FILES = {"handler": "http.server:SimpleHTTPRequestHandler"}
LINES = {"handler": "app:Handler"}
CASES = [
    Case("http.server:SimpleHTTPRequestHandler", PAGE),
    Case("http.server:ThreadingHTTPServer", PAGE, options=FILES),
    Case("http.server:HTTPServer", PAGE, options=FILES),
    Case("elsewhere:make_calls", POST, "HELLO, WORLD"),
    Case("instance:server", POST, "HELLO, WORLD"),
    Case("elsewhere:make_pages", PAGE),
    Case("elsewhere:make_werkzeug", PAGE),
    Case("elsewhere:OwnServer", ECHO),
    Case("elsewhere:PoolOfItsOwn", ECHO, options=LINES),
    Case("elsewhere:OursThreading", ECHO, options=LINES),
    Case("elsewhere:OursPooled", ECHO, options=LINES),
    Case("socketserver:TCPServer", ECHO, options=LINES),
    Case("socketserver:ForkingTCPServer", ECHO, options=LINES),
    Case("socketserver:ThreadingUnixStreamServer", ECHO, options=LINES, bind="unix:elsewhere"),
    Case(
        "socketserver:ThreadingUDPServer",
        "hello, world",
        options={"handler": "app:Datagrams"},
        bind="udp://127.0.0.1:0",
        kind=lambda address, text: DatagramVisit(address, text.encode()),
    ),
    Case(
        "dnslib.server:DNSHandler",
        "www.example.test",
        "192.0.2.7",
        options={"server": {"resolver": "@elsewhere:resolver", "logger": "@elsewhere:logger"}},
        bind="udp://127.0.0.1:0",
        kind=DnsOverUdp,
    ),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.fixture(autouse=True)
def _code_from_elsewhere(project: Path) -> None:
    (project / "elsewhere.py").write_text(ELSEWHERE)
    (project / "instance.py").write_text(INSTANCE)
    (project / "greeting.txt").write_text("hello, world\n")


@contextmanager
def serve_case(serve: Serve, case: Case) -> Iterator[Server]:
    with serve(case.target, bind=[case.bind], **case.options) as server:
        yield server


@every_case
def test_every_worker_serves_it_and_a_reload_loses_nothing(serve: Serve, case: Case) -> None:
    with serve_case(serve, case) as server:
        with steady_visits(lambda: case.begin(server).finish(), case.answer) as visitors:
            eventually(lambda: all(worker["accepted"] for worker in server.workers()))
            server.reload()
            visitors.wait_for_more()
            eventually(lambda: all(worker["accepted"] for worker in server.workers()))

        assert visitors.failures == []
        assert {worker["generation"] for worker in server.workers()} == {2}


@every_case
def test_a_stop_answers_what_is_open(serve: Serve, case: Case) -> None:
    with serve_case(serve, case) as server:
        visits = [case.begin(server) for _ in range(6)]
        server.signal(signal.SIGTERM)
        server.wait_for_log("draining worker", count=2)

        for visit in visits:
            assert case.answer in visit.finish()
        assert server.wait() == 0
        assert complaints_of(server) == []


def complaints_of(server: Server) -> list[str]:
    lines = [line for line in server.log.splitlines() if " WARN " in line or " ERROR " in line]
    return [line for line in lines if "forks a child" not in line]


def test_files_are_served_to_curl_and_urllib(serve: Serve) -> None:
    with serve("http.server:SimpleHTTPRequestHandler") as server:
        url = "http://{}:{}/greeting.txt".format(*host_and_port(server))

        assert tools.run(["curl", "--silent", "--show-error", "--fail", url]).stdout == b"hello, world\n"
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.read() == b"hello, world\n"


KEEPING = """
import http.server


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
"""


@pytest.mark.parametrize(
    "options",
    [{"target": "keeping:Handler"}, {"target": "http.server:ThreadingHTTPServer", "handler": "keeping:Handler"}],
    ids=["pooled", "foreign"],
)
def test_a_connection_kept_alive_outlives_a_reload_and_a_stop(
    serve: Serve, project: Path, options: dict[str, str]
) -> None:
    (project / "keeping.py").write_text(KEEPING)
    with serve(workers=1, **options) as server:
        kept = http.client.HTTPConnection(*host_and_port(server), timeout=30)
        ask(kept)
        own_end = kept.sock.getsockname()
        server.reload()
        ask(kept)
        server.signal(signal.SIGTERM)
        server.wait_for_log("closed listener")
        ask(kept)

        assert kept.sock.getsockname() == own_end, "it was another connection"
        kept.close()
        assert server.wait() == 0


def ask(kept: http.client.HTTPConnection) -> None:
    kept.request("GET", "/greeting.txt")
    answer = kept.getresponse()
    assert (answer.status, answer.read()) == (200, b"hello, world\n")


@pytest.mark.parametrize("target", ["elsewhere:make_calls", "instance:server"])
def test_procedures_are_called_by_xmlrpc_client(serve: Serve, target: str) -> None:
    with serve(target) as server:
        with xmlrpc.client.ServerProxy("http://{}:{}/".format(*host_and_port(server))) as proxy:
            assert proxy.upper("hello") == "HELLO"
            with pytest.raises(xmlrpc.client.Fault, match="not supported"):
                proxy.lower("hello")


def test_names_are_served_over_udp_and_tcp_on_one_port(serve: Serve) -> None:
    with one_port() as (stream, datagrams):
        descriptors = (stream.fileno(), datagrams.fileno())
        with serve(
            "dnslib.server:DNSHandler",
            server={"resolver": "@elsewhere:resolver"},
            bind=[f"fd://{descriptor}" for descriptor in descriptors],
            pass_descriptors=descriptors,
        ) as server:
            assert server.addresses[0] == server.addresses[1]
            assert DnsOverUdp(server.address, "a.test").finish() == "192.0.2.7"
            assert DnsOverTcp(server.address, "a.test").finish() == "192.0.2.7"
            dig = ["dig", "@127.0.0.1", "-p", str(host_and_port(server)[1]), "+tries=1", "+time=30", "+short", "a.test"]
            assert tools.run(dig).stdout == tools.run([*dig, "+tcp"]).stdout == b"192.0.2.7\n"


@contextmanager
def one_port() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP and a UDP socket on the same port, which the kernel chose."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            try:
                datagrams.bind(stream.getsockname())
            except OSError:
                continue  # somebody else has that port for UDP
            yield stream, datagrams
            return


def test_an_open_name_query_over_tcp_is_answered_by_a_stopping_server(serve: Serve) -> None:
    with serve("dnslib.server:DNSHandler", server={"resolver": "@elsewhere:resolver"}) as server:
        query = DnsOverTcp(server.address, "a.test")
        eventually(lambda: sum(worker["open"] for worker in server.workers()) == 1)
        server.signal(signal.SIGTERM)
        server.wait_for_log("draining worker", count=2)

        assert query.finish() == "192.0.2.7"
        assert server.wait() == 0


def test_a_server_that_forks_is_warned_about(serve: Serve) -> None:
    with serve("socketserver:ForkingTCPServer", handler="app:Handler") as server:
        server.wait_for_log("forks a child for each request")
        pids = {str(worker["pid"]) for worker in server.workers()}

        assert ask_once(server.address, "pid") not in pids


FACTORIES = """
import socketserver

from app import Handler


def at(bind_address):
    class Server(socketserver.ThreadingTCPServer):
        address_given = bind_address
        daemon_threads = True
    return Server(bind_address, Handler)


def two():
    return [socketserver.ThreadingTCPServer(("127.0.0.1", port), Handler) for port in (8001, 8002)]


def make(stage, *, debug=False):
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 8000), Handler)
    server.stage = stage, debug
    return server
"""


@pytest.fixture
def factories(project: Path) -> None:
    (project / "factories.py").write_text(FACTORIES)


@pytest.mark.usefixtures("factories")
def test_a_factory_is_given_each_address(serve: Serve) -> None:
    with serve("factories:at", bind=["tcp://127.0.0.1:0", "tcp://127.0.0.2:0"]) as server:
        given = [ask_once(address, "eval self.server.address_given") for address in server.addresses]

        assert given == [str(address) for address in server.addresses]


@pytest.mark.usefixtures("factories")
def test_a_factory_makes_two_servers(serve: Serve) -> None:
    with serve("factories:two", bind=["tcp://127.0.0.1:0", "tcp://127.0.0.2:0"]) as server:
        assert [ask_once(address, "echo x") for address in server.addresses] == ["x", "x"]


@pytest.mark.usefixtures("factories")
def test_a_factory_is_called_as_it_is_written(serve: Serve) -> None:
    with serve("factories:make('prod', debug=True)") as server:
        assert ask_once(server.address, "eval self.server.stage") == "('prod', True)"


@pytest.mark.parametrize(
    "target", [{"target": "app:Handler"}, {"target": "socketserver:ThreadingTCPServer", **LINES}], ids=str
)
def test_attributes_are_set(serve: Serve, target: dict[str, str]) -> None:
    attributes = {"number": 3, "words": ["a", "b"], "text": "plain", "other": "@app:VERSION"}
    with serve(**target, server=attributes) as server:
        shown = "eval [self.server.number, self.server.words, self.server.text, self.server.other]"

        assert ask_once(server.address, shown) == "[3, ['a', 'b'], 'plain', '1']"


@pytest.mark.parametrize(
    "target", [{"target": "app:Handler"}, {"target": "socketserver:ThreadingTCPServer", **LINES}], ids=str
)
def test_a_handler_finds_out_where_it_is(serve: Serve, target: dict[str, str]) -> None:
    with serve(**target, workers=1, threads=7, drain_timeout=10) as server, LineClient(server.address) as client:
        worker = "self.server.worker.slot, self.server.worker.generation, self.server.worker.pid == os.getpid()"
        assert client.ask(f"eval [{worker}]") == "[0, 1, True]"
        assert client.ask("eval self.server.settings.threads") == "7"
        assert client.ask("eval self.server.tag('the tag')") == "None"
        (request,) = server.workers()[0]["requests"]
        assert request["tag"] == "the tag"
        assert client.ask("draining") == "False"
        server.reload()

        eventually(lambda: client.ask("draining") == "True")


HOOKS = """
import app


def note(line):
    with open("noted", "a") as file:
        file.write(line + "\\n")


class Hooked(app.Handler):
    @classmethod
    def on_worker_start(cls, server):
        note(f"start {server.worker.slot}")

    @classmethod
    def on_worker_stop(cls, server):
        note(f"stop {server.worker.slot}")

    def on_drain(self):
        self.wfile.write(b"bye\\n")


class Server(app.socketserver.ThreadingTCPServer):
    daemon_threads = True

    def on_worker_start(self):
        note(f"start {self.worker.slot}")

    def on_worker_stop(self):
        note(f"stop {self.worker.slot}")

    def on_drain(self):
        note("drain")
"""


def test_the_hooks_of_a_handler_are_called(serve: Serve, project: Path) -> None:
    (project / "hooks.py").write_text(HOOKS)
    with serve("hooks:Hooked") as server, LineClient(server.address) as client:
        client.ask("pid")
        assert noted(project) == ["start 0", "start 1"]
        server.signal(signal.SIGTERM)

        assert client.read() == "bye"
        assert client.ask("draining") == "True"
        client.close()
        assert server.wait() == 0
        assert noted(project) == ["start 0", "start 1", "stop 0", "stop 1"]


def test_the_hooks_of_a_server_are_called(serve: Serve, project: Path) -> None:
    (project / "hooks.py").write_text(HOOKS)
    with serve("hooks:Server", handler="app:Handler") as server:
        assert ask_once(server.address, "echo x") == "x"

        assert server.stop() == 0
        assert noted(project) == ["drain", "drain", "start 0", "start 1", "stop 0", "stop 1"]


def noted(project: Path) -> list[str]:
    return sorted((project / "noted").read_text().split("\n"))[1:]
