"""Our mix-ins in front of the standard servers, and standard handlers behind ours."""

import http.server
import queue
import socketserver as standard
from typing import Any

from prefork import socketserver
from tests.conformance.actors import LOOPBACK, PATIENCE, connected, serving


def test_the_limit_holds_in_front_of_a_standard_server() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    class Server(socketserver.ForkingMixIn, http.server.HTTPServer):
        max_children = 1

        def process_request(self, request: Any, client_address: Any) -> None:
            super().process_request(request, client_address)
            children.put(len(self.active_children or ()))

    children: queue.Queue[int] = queue.Queue()
    with Server(LOOPBACK, Handler) as server, connected(server) as first, connected(server) as second:
        with serving(server):
            for client in (first, second):
                assert children.get(timeout=PATIENCE) == 1
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert client.recv(12) == b"HTTP/1.0 200"


def test_threads_in_front_of_a_standard_server_are_waited_for() -> None:
    class Server(socketserver.ThreadingMixIn, standard.TCPServer):
        pass

    served = []
    handler: Any = lambda *args: served.append(args)  # noqa: E731  any callable will do
    with Server(LOOPBACK, handler) as server, connected(server):
        server.handle_request()
        server.server_close()

    assert len(served) == 1


def test_a_handler_of_the_standard_module_is_served() -> None:
    class Handler(standard.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.readline())

    with socketserver.ThreadingTCPServer(LOOPBACK, Handler) as server, serving(server), connected(server) as client:
        client.sendall(b"a line\n")

        assert client.recv(20) == b"a line\n"
