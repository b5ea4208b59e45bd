"""Servers that bind in every way there is, and listeners that must not suffer from it."""

import os
import socket
import subprocess
import sys
import textwrap

import pytest

from prefork.errors import ApplicationError
from tests.support import tools
from tests.unit.worker.conftest import PATIENCE, Workshop

BASE = """
    import os, socket, socketserver, ssl, threading
    from socket import create_server, socket as Socket
    import prefork.socketserver

    class Echo(socketserver.BaseRequestHandler):
        def handle(self):
            while data := self.request.recv(100):
                self.request.sendall(data)
"""

# Each makes a class or factory `target`; BASE is in front.
NASTY = {
    "server_bind overridden": """
        class target(socketserver.TCPServer):
            def __init__(self, address): super().__init__(address, Echo)
            def server_bind(self):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self.socket.bind(self.server_address)
                self.server_address = self.socket.getsockname()
                self.server_name, self.server_port = self.server_address
    """,
    "server_activate overridden": """
        class target(socketserver.TCPServer):
            def __init__(self, address): super().__init__(address, Echo)
            def server_activate(self): self.socket.listen(1)
    """,
    "get_request overridden": """
        class target(socketserver.ThreadingTCPServer):
            daemon_threads = True
            def __init__(self, address): super().__init__(address, Echo)
            def get_request(self):
                connection, address = self.socket.accept()
                connection.settimeout(30)
                return connection, address
    """,
    "serve_forever wrapped": """
        class target(socketserver.TCPServer):
            def __init__(self, address): super().__init__(address, Echo)
            def serve_forever(self):
                try: super().serve_forever(0.1)
                finally: self.server_close()
    """,
    "serve_forever of its own over handle_request": """
        class target(socketserver.TCPServer):
            stopped = False
            def __init__(self, address): super().__init__(address, Echo)
            def serve_forever(self):
                while not self.stopped: self.handle_request()
            def shutdown(self): self.stopped = True
    """,
    "serve_forever of its own over accept": """
        class target(socketserver.TCPServer):
            def __init__(self, address): super().__init__(address, Echo)
            def serve_forever(self):
                while True:
                    try: connection, address = self.socket.accept()
                    except OSError: break
                    self.process_request(connection, address)
            def shutdown(self): pass
    """,
    "serve_forever of its own with a time-out on the listener": """
        class target(socketserver.TCPServer):
            stopped = False
            def __init__(self, address):
                super().__init__(address, Echo)
                self.socket.settimeout(0.05)
            def serve_forever(self):
                while not self.stopped:
                    try: connection, address = self.socket.accept()
                    except TimeoutError: continue
                    except OSError: break
                    self.process_request(connection, address)
            def shutdown(self): self.stopped = True
    """,
    "constructor without arguments": """
        class target(socketserver.TCPServer):
            def __init__(self): super().__init__(("0.0.0.0", 80), Echo)
    """,
    "constructor with a configuration": """
        class target(socketserver.TCPServer):
            def __init__(self, config=None): super().__init__(("", 8000), Echo, bind_and_activate=True)
    """,
    "time-out on the listener": """
        class target(socketserver.TCPServer):
            def __init__(self, address):
                super().__init__(address, Echo)
                self.socket.settimeout(30)
                assert self.socket.gettimeout() == 30 and self.socket.timeout == 30
                self.socket.setblocking(True)
                assert self.socket.getblocking()
    """,
    "server_close called twice, and shutdown of the listener": """
        class target(socketserver.TCPServer):
            def __init__(self, address): super().__init__(address, Echo)
            def server_close(self):
                for _ in range(2):
                    try: self.socket.shutdown(socket.SHUT_RDWR)
                    except OSError: pass
                    super().server_close()
    """,
    "bound by hand": """
        def target():
            server = socketserver.ThreadingTCPServer(("", 8000), Echo, bind_and_activate=False)
            server.daemon_threads = server.allow_reuse_address = True
            server.server_bind()
            server.server_activate()
            return server
    """,
    "socket.create_server in server_bind": """
        class target(socketserver.TCPServer):
            def __init__(self, address): super().__init__(address, Echo)
            def server_bind(self):
                self.socket.close()
                self.socket = socket.create_server(self.server_address, backlog=1)
            def server_activate(self): pass
    """,
    "a socket class imported by name": """
        class target(socketserver.TCPServer):
            def __init__(self, address):
                socketserver.BaseServer.__init__(self, address, Echo)
                self.socket = Socket(self.address_family, self.socket_type)
                self.server_bind()
                self.server_activate()
    """,
    "a socket put in from outside": """
        def target(address):
            server = socketserver.TCPServer(address, Echo, bind_and_activate=False)
            server.socket.close()
            server.socket = create_server(address)
            return server
    """,
    "a socket class of its own": """
        class Mine(socket.socket):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                self.note = "mine"
        class target(socketserver.TCPServer):
            def __init__(self, address):
                super().__init__(address, Echo, bind_and_activate=False)
                self.socket.close()
                self.socket = Mine()
                self.server_bind()
                self.server_activate()
                assert self.socket.note == "mine" and isinstance(self.socket, Mine)
    """,
    "a copy of the listener": """
        class target(socketserver.TCPServer):
            def __init__(self, address):
                super().__init__(address, Echo)
                first = self.socket
                self.socket = socket.fromfd(first.fileno(), socket.AF_INET, socket.SOCK_STREAM)
                first.close()
    """,
    "dup of the listener": """
        class target(socketserver.TCPServer):
            def __init__(self, address):
                super().__init__(address, Echo)
                first = self.socket
                self.socket = first.dup()
                first.close()
    """,
    "a first server that is thrown away": """
        def target():
            socketserver.TCPServer(("", 8000), Echo).server_close()
            return socketserver.TCPServer(("", 8000), Echo)
    """,
    "signal handlers installed by serve_forever": """
        import signal
        class target(socketserver.TCPServer):
            def __init__(self, address): super().__init__(address, Echo)
            def serve_forever(self, *args, **kwargs):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                super().serve_forever(*args, **kwargs)
    """,
    "slots": """
        class target(socketserver.TCPServer):
            __slots__ = ()
            def __init__(self, address): super().__init__(address, Echo)
    """,
    "our lineage": """
        class target(prefork.socketserver.ThreadingTCPServer):
            daemon_threads = True
            def __init__(self, address): super().__init__(address, Echo)
    """,
    "our lineage with a loop of its own": """
        class target(prefork.socketserver.TCPServer):
            stopped = False
            def __init__(self, address): super().__init__(address, Echo)
            def serve_forever(self):
                while not self.stopped: self.handle_request()
            def shutdown(self): self.stopped = True
    """,
    "our pool under a serve_forever of its own": """
        import prefork.serving
        class target(prefork.serving.ThreadPoolTCPServer):
            def __init__(self, address): super().__init__(address, Echo)
            def serve_forever(self, poll_interval=0.5):
                try: super().serve_forever(poll_interval)
                finally: self.finished = True
    """,
    "our pool in front of the standard library": """
        import prefork.serving
        class target(prefork.serving.ThreadPoolMixIn, socketserver.TCPServer):
            def __init__(self, address): super().__init__(address, Echo)
    """,
    "a client's socket besides": """
        class target(socketserver.TCPServer):
            def __init__(self, address):
                self.upstream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                self.upstream.bind(("127.0.0.1", 0))
                self.upstream.close()
                super().__init__(address, Echo)
    """,
    "draining is a property": """
        class target(socketserver.TCPServer):
            draining = property(lambda self: False)
            def __init__(self, address): super().__init__(address, Echo)
    """,
}


def nasty(workshop: Workshop, case: str) -> None:
    workshop.module(textwrap.dedent(BASE) + textwrap.dedent(NASTY[case]))


@pytest.mark.parametrize("case", NASTY)
def test_it_is_served_and_drained(workshop: Workshop, case: str) -> None:
    nasty(workshop, case)
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run("app:target")
    assert workshop.ask() == b"x"
    assert running.notes.wait_until_quiet()
    with workshop.connect() as held:
        held.sendall(b"1")
        assert held.recv(1) == b"1"
        running.drain()
        assert running.wait_until_stopped()
        assert running.open_connections == 1
        held.sendall(b"2")
        assert held.recv(1) == b"2"
    assert running.wait_until_empty()

    # Another worker could go on: the listener is as it was.
    listener = workshop.listeners[0].socket
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    assert not os.get_blocking(listener.fileno())


@pytest.mark.parametrize("case", NASTY)
def test_it_serves_what_is_queued_before_it_leaves(workshop: Workshop, case: str) -> None:
    nasty(workshop, case)
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run("app:target", threads=1)
    with workshop.connect() as held:
        held.sendall(b"1")
        assert held.recv(1) == b"1"
        queued = [workshop.connect() for _ in range(3)]
        for client in queued:
            client.sendall(b"q")
        running.drain(0)
    for client in queued:
        assert client.recv(1) == b"q"
        client.close()

    assert running.wait_until_empty()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("tls") / "both.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    tools.run([*command.split(), "-keyout", path, "-out", path + ".crt"])
    with open(path, "a") as both, open(path + ".crt") as crt:
        both.write(crt.read())
    return path


TLS = {
    "the listener wrapped after the constructor": """
        class target(socketserver.ThreadingTCPServer):
            daemon_threads = True
            def __init__(self, address):
                super().__init__(address, Echo)
                self.socket = context.wrap_socket(self.socket, server_side=True)
    """,
    "the listener wrapped before it listens": """
        class target(socketserver.ThreadingTCPServer):
            daemon_threads = True
            def __init__(self, address): super().__init__(address, Echo)
            def server_bind(self):
                super().server_bind()
                self.socket = context.wrap_socket(self.socket, server_side=True)
    """,
    "each connection wrapped in get_request": """
        class target(socketserver.ThreadingTCPServer):
            daemon_threads = True
            def __init__(self, address): super().__init__(address, Echo)
            def get_request(self):
                connection, address = super().get_request()
                return context.wrap_socket(connection, server_side=True), address
    """,
    "each connection wrapped by its handler": """
        class Wrapping(Echo):
            def setup(self): self.request = context.wrap_socket(self.request, server_side=True)
            def finish(self): self.request.close()
        class target(socketserver.ThreadingTCPServer):
            daemon_threads = True
            def __init__(self, address): super().__init__(address, Wrapping)
    """,
    "the listener of our pool wrapped": """
        import prefork.serving
        class target(prefork.serving.ThreadPoolTCPServer):
            def __init__(self, address):
                super().__init__(address, Echo)
                self.socket = context.wrap_socket(self.socket, server_side=True)
    """,
}


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("case", TLS)
def test_tls_is_served_counted_and_drained(workshop: Workshop, case: str, certificate: str) -> None:
    import ssl

    prepare = f"context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\ncontext.load_cert_chain({certificate!r})\n"
    workshop.module(textwrap.dedent(BASE) + prepare + textwrap.dedent(TLS[case]))
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run("app:target")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificate)
    with context.wrap_socket(workshop.connect(), server_hostname="localhost") as client:
        client.sendall(b"1")
        assert client.recv(1) == b"1"
        assert not os.get_blocking(workshop.listeners[0].socket.fileno())
        running.drain()
        assert running.wait_until_stopped()
        assert running.open_connections == 1
        client.sendall(b"2")
        assert client.recv(1) == b"2"

    assert running.wait_until_empty()


def test_several_listeners_are_matched_by_their_port_else_in_order(workshop: Workshop) -> None:
    first, second, third = workshop.listen(*["tcp://127.0.0.1:0"] * 3)
    workshop.module(BASE)
    workshop.module(
        f"""
        import app, socketserver
        def target():
            addresses = ("0.0.0.0", {third.address.port}), ("", 8000), ("localhost", {second.address.port})
            return [socketserver.TCPServer(address, app.Echo) for address in addresses]
        """,
        "several",
    )
    running = workshop.run("several:target")

    indices = [service._gate.index for service in running.services]  # type: ignore[attr-defined]  # foreign ones
    assert indices == [third.index, first.index, second.index]


def test_a_missing_listener_is_explained(workshop: Workshop) -> None:
    workshop.module(
        BASE
        + """
    made = []
    def target():
        for port in (8000, 8001):
            made.append(socketserver.TCPServer(("", port), Echo))
        return made
    """
    )
    [listener] = workshop.listen("tcp://127.0.0.1:0")

    with pytest.raises(ApplicationError) as caught:
        workshop.build("app:target")
    assert str(caught.value) == (
        "socketserver.TCPServer wants to listen on tcp://:8001, but the listeners are "
        f"{listener.address} (taken by socketserver.TCPServer); add --bind tcp://:8001"
    )


def test_a_server_that_listens_by_itself_is_explained(workshop: Workshop) -> None:
    workshop.module(
        BASE
        + """
    own = Socket(socket.AF_UNIX)
    own.bind("")
    own.listen()
    def target():
        server = socketserver.TCPServer(("", 0), Echo, bind_and_activate=False)
        server.socket.close()
        server.socket = own
        return server
    """
    )
    workshop.listen("tcp://127.0.0.1:0")

    with pytest.raises(ApplicationError, match=r"TCPServer listens on unix:@\w+ by itself, which workers cannot share"):
        workshop.build("app:target")
    import app  # type: ignore[import-not-found]  # made by this test

    app.own.close()


def test_a_private_server_on_any_port_is_left_alone(workshop: Workshop) -> None:
    workshop.module(
        BASE
        + """
    def target():
        server = socketserver.TCPServer(("", 8000), Echo)
        server.private = socketserver.TCPServer(("127.0.0.1", 0), Echo)
        server.server_close = lambda: (server.private.server_close(), server.socket.close())
        return server
    """
    )
    workshop.listen("tcp://127.0.0.1:0")
    workshop.run("app:target")

    assert workshop.ask() == b"x"


def test_a_clients_datagram_socket_is_left_alone(workshop: Workshop) -> None:
    workshop.module(
        BASE
        + """
    class target(socketserver.UDPServer):
        def __init__(self, address):
            self.upstream = Socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.upstream.bind(("", 0))
            super().__init__(address, Reply)
        def server_close(self):
            self.upstream.close()
            super().server_close()
    class Reply(socketserver.DatagramRequestHandler):
        def handle(self): self.wfile.write(self.packet.upper())
    """
    )
    workshop.listen("udp://127.0.0.1:0")
    workshop.run("app:target")

    assert workshop.ask() == b"X"


def test_options_that_a_server_sets_before_it_binds_are_set_on_the_listener(workshop: Workshop) -> None:
    workshop.module(
        BASE
        + """
    class target(socketserver.TCPServer):
        allow_reuse_port = True
        def __init__(self, address): super().__init__(address, Echo)
        def server_bind(self):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            super().server_bind()
    """
    )
    [listener] = workshop.listen("tcp://127.0.0.1:0")
    workshop.run("app:target")

    assert listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert not listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)


def test_an_ipv6_listener_serves_a_server_that_wants_ipv4(workshop: Workshop) -> None:
    workshop.module(
        BASE
        + """
    class Tell(socketserver.BaseRequestHandler):
        def handle(self): self.request.sendall(repr(self.client_address[0]).encode())
    def target(): return socketserver.TCPServer(("0.0.0.0", 8000), Tell)
    """
    )
    workshop.listen("tcp://[::1]:0")
    workshop.run("app:target")

    assert workshop.ask() == b"'::1'"


@pytest.mark.parametrize(
    "remove", ["os.unlink(path)", "os.remove(path)", "pathlib.Path(path).unlink()", "unlink(path)"]
)
def test_the_socket_file_stays(workshop: Workshop, remove: str) -> None:
    path = workshop.directory / "socket"
    workshop.listen(f"unix:{path}")
    workshop.module(
        BASE
        + f"""
    import pathlib
    from os import unlink
    path = {str(path)!r}
    class target(socketserver.UnixStreamServer):
        def __init__(self, address):
            if os.path.exists(path): {remove}
            super().__init__(address, Echo)
        def server_close(self):
            super().server_close()
            {remove}
    """
    )
    running = workshop.build("app:target")
    running.start()
    assert workshop.ask() == b"x"
    running.leave()

    assert path.exists()


def test_other_files_are_removed(workshop: Workshop) -> None:
    workshop.listen(f"unix:{workshop.directory}/socket")
    other = workshop.directory / "other"
    other.touch()
    workshop.module(BASE + "\n    class target(socketserver.UnixStreamServer): pass\n")
    workshop.load("app:target")
    os.unlink(other)

    assert not other.exists()
    with pytest.raises(FileNotFoundError):
        os.remove(other)
    with pytest.raises(TypeError):
        os.unlink(None)  # type: ignore[arg-type]  # on purpose


def test_bind_is_as_it_was_afterwards(workshop: Workshop) -> None:
    workshop.module(BASE + "\n    class target(socketserver.TCPServer):\n        RequestHandlerClass = Echo\n")
    workshop.listen("tcp://127.0.0.1:0")
    workshop.run("app:target")

    assert not {"bind", "listen", "setsockopt", "settimeout", "setblocking", "shutdown"} & set(vars(socket.socket))


def test_a_server_that_was_made_by_the_import_before_the_fork_is_served_after_it(workshop: Workshop) -> None:
    workshop.module(BASE + "\n    server = socketserver.TCPServer(('', 8000), Echo)\n")
    workshop.listen("tcp://127.0.0.1:0")
    script = f"""
import os, sys
sys.path.insert(0, {os.getcwd()!r})
from tests.unit.worker.conftest import *
workshop = Workshop(Path({str(workshop.directory)!r}))
workshop.listen("tcp://127.0.0.1:0")
settings = workshop.settings("app:server")
application = load(settings, workshop.listeners)
if (pid := os.fork()) == 0:
    info = WorkerInfo(0, 1, os.getpid())
    services = application.build(workshop.listeners, settings, workshop.notes, info)
    running = Running(application, services, workshop.notes)
    running.start()
    print(workshop.ask(), flush=True)
    running.leave()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE)

    assert (done.stdout, done.stderr) == ("b'x'\n", "")
