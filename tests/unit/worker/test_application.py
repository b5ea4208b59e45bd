"""What a target turns out to be, and what servers get before they bind."""

import os
import socket

import pytest

from prefork.errors import ApplicationError
from prefork.worker.application import load
from tests.unit.worker.conftest import PATIENCE, Workshop

SOURCE = """
    import functools, socketserver
    import prefork.serving

    class Echo(socketserver.BaseRequestHandler):
        greeting = b""
        def handle(self):
            while data := self.request.recv(100):
                self.request.sendall(data)

    class Reply(socketserver.BaseRequestHandler):
        def handle(self):
            data, sock = self.request
            sock.sendto(data.upper(), self.client_address)

    class Both(socketserver.BaseRequestHandler):
        def handle(self):
            (Echo if self.server.socket_type == 1 else Reply).handle(self)

    class Server(socketserver.ThreadingTCPServer): daemon_threads = True
    class DefaultServer(Server):
        def __init__(self, server_address, RequestHandlerClass=Echo):
            super().__init__(server_address, RequestHandlerClass)
    class AttributeServer(Server):
        RequestHandlerClass = Echo
    class ReadyServer(Server):
        def __init__(self): super().__init__(("0.0.0.0", 8000), Echo)
    class PoolServer(prefork.serving.ThreadPoolTCPServer): pass
    class HostPortServer(Server):
        def __init__(self, host, port): super().__init__((host, port), Echo)

    partial = functools.partial(Echo)
    def make(): return DefaultServer(("", 0))
    def make_at(address): return [DefaultServer(address)]
    def make_both(where): return (c(where, Both) for c in (socketserver.UDPServer, Server))
    def make_handler(kind="plain"): return Both
    def make_named(kind): return {"echo": Echo}[kind]
    def make_nothing(): return None
    def make_number(): return 3
    def make_none(): return []
    def handle(request, client_address, server): pass
    number = 3
"""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Echo", "handler class"),
        ("partial", "handler class"),
        ("Server", "server class"),
        ("PoolServer", "server class"),
        ("make", "factory"),
        ("make()", "factory"),
        ("Echo()", "factory"),
        ("handle", "factory"),
    ],
)
def test_the_kinds_are_told_apart(workshop: Workshop, name: str, kind: str) -> None:
    workshop.module(SOURCE)

    assert workshop.load(f"app:{name}").kind == kind


def test_an_instance_is_told_apart(workshop: Workshop) -> None:
    workshop.module(SOURCE + "\n    server = DefaultServer(('', 8000))\n")
    workshop.listen("tcp://127.0.0.1:0")

    application = workshop.load("app:server")

    assert application.kind == "server instance"
    application.found.server_close()  # type: ignore[attr-defined]  # is a server


def test_what_is_nothing_of_that_is_refused(workshop: Workshop) -> None:
    workshop.module(SOURCE)

    with pytest.raises(ApplicationError, match="app:number is of type int: no handler class"):
        workshop.load("app:number")


@pytest.mark.parametrize("name", ["Echo", "partial", "DefaultServer", "AttributeServer", "ReadyServer"])
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "tcp://[::1]:0"])
def test_classes_are_served(workshop: Workshop, name: str, address: str) -> None:
    workshop.module(SOURCE)
    workshop.listen(address)
    workshop.run(f"app:{name}")

    assert workshop.ask() == b"x"


@pytest.mark.parametrize("name", ["Server", "PoolServer", "DefaultServer"])
def test_a_server_class_takes_the_handler_it_is_given(workshop: Workshop, name: str) -> None:
    workshop.module(SOURCE)
    workshop.module("from app import Echo as Other", "handlers")
    workshop.listen("tcp://127.0.0.1:0")
    workshop.run(f"app:{name}", handler="handlers:Other")

    assert workshop.ask() == b"x"


@pytest.mark.parametrize(
    "name", ["make", "make()", "make_at", "make_handler", "make_handler('x')", "make_named('echo')"]
)
def test_factories_are_called_in_the_worker(workshop: Workshop, name: str) -> None:
    workshop.module(SOURCE)
    workshop.listen("tcp://127.0.0.1:0")
    workshop.run(f"app:{name}")

    assert workshop.ask() == b"x"


@pytest.mark.parametrize("name", ["Both", "make_handler"])
def test_one_handler_serves_listeners_of_every_kind(workshop: Workshop, name: str) -> None:
    workshop.module(SOURCE)
    path = workshop.directory / "socket"
    workshop.listen(
        "tcp://127.0.0.1:0", "udp://127.0.0.1:0", f"unix:{path}", f"unixgram:{path}.d", f"unix:@prefork-t-{os.getpid()}"
    )
    workshop.run(f"app:{name}")

    answers = [workshop.ask(index=index) for index in range(5)]

    assert answers == [b"x", b"X", b"x", b"X", b"x"]
    assert path.exists()


def test_a_factory_makes_the_udp_and_tcp_servers_of_one_address(workshop: Workshop) -> None:
    workshop.module(SOURCE)
    [tcp] = workshop.listen("tcp://127.0.0.1:0")
    workshop.listen(f"udp://127.0.0.1:{tcp.socket.getsockname()[1]}")
    workshop.run("app:make_both")

    assert [workshop.ask(index=0), workshop.ask(index=1)] == [b"x", b"X"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("make_nothing", "app:make_nothing returned nothing"),
        ("make_none", "app:make_none returned nothing"),
        ("make_number", "app:make_number returned a int"),
        ("make_named('bad')", r"calling app:make_named\('bad'\) failed: KeyError: 'bad'"),
        ("handle", r"app:handle\(request, client_address, server\) cannot be called"),
        ("Server", "app:Server needs a handler: give --handler"),
        ("HostPortServer", r"app:HostPortServer\(host, port\) cannot be called with \(server_address\)"),
    ],
)
def test_what_cannot_be_built_is_explained(workshop: Workshop, name: str, reason: str) -> None:
    workshop.module(SOURCE)
    workshop.listen("tcp://127.0.0.1:0")

    with pytest.raises(ApplicationError, match=reason):
        workshop.build(f"app:{name}")


def test_a_constructor_that_raises_is_told_with_its_traceback(workshop: Workshop) -> None:
    workshop.module(
        """
        import socketserver
        class Server(socketserver.TCPServer):
            def __init__(self, *args):
                self.connect()
            def connect(self):
                raise ConnectionError("no database")
        """
    )
    workshop.listen("tcp://127.0.0.1:0")

    with pytest.raises(ApplicationError, match="building app:Server failed: ConnectionError: no database") as caught:
        workshop.build("app:Server", handler="socketserver:BaseRequestHandler")
    assert "in connect" in caught.value.detail
    assert "making.py" not in caught.value.detail


def test_a_server_class_is_not_given_a_listener_of_another_kind(workshop: Workshop) -> None:
    workshop.module(SOURCE)
    workshop.listen("udp://127.0.0.1:0")

    with pytest.raises(ApplicationError, match=r"app:DefaultServer cannot serve udp://.*: it is a server of TCP"):
        workshop.build("app:DefaultServer")


def test_a_listener_that_nobody_serves_is_an_error(workshop: Workshop) -> None:
    workshop.module(SOURCE)
    workshop.listen("tcp://127.0.0.1:0", f"unix:@prefork-unserved-{os.getpid()}")

    with pytest.raises(
        ApplicationError, match=r"nobody serves unix:@prefork-unserved-\d+: app:make made 1 server; drop"
    ):
        workshop.build("app:make")


def test_attributes_are_there_before_the_server_binds_and_after_its_constructor(workshop: Workshop) -> None:
    workshop.module(
        """
        import socketserver
        seen = {}
        class Server(socketserver.TCPServer):
            def __init__(self, address, handler):
                super().__init__(address, handler)
                self.resolver = None
            def server_bind(self):
                seen.update(request_queue_size=self.request_queue_size, worker=self.worker.slot)
                super().server_bind()
        class Resolver: pass
        resolver = Resolver()
        def make_resolver(kind): return kind
        """
    )
    workshop.listen("tcp://127.0.0.1:0")
    given = {
        "request_queue_size": "77",
        "resolver": "@app:resolver",
        "other": "@app:make_resolver('o')",
        "root": "/srv/www",
        "number": 5,
    }
    running = workshop.run("app:Server", handler="socketserver:BaseRequestHandler", server=given)

    import app  # type: ignore[import-not-found]  # made by this test

    server = running.services[0]._server  # type: ignore[attr-defined]  # of a foreign service
    assert app.seen == {"request_queue_size": 77, "worker": 3}
    assert server.resolver is app.resolver
    assert (server.other, server.root, server.number) == ("o", "/srv/www", 5)


def test_an_attribute_that_cannot_be_had_or_set_is_an_error(workshop: Workshop) -> None:
    workshop.module(SOURCE + "\n    class Strict(DefaultServer):\n        fixed = property(lambda self: 1)\n")
    workshop.listen("tcp://127.0.0.1:0")

    with pytest.raises(ApplicationError, match="app has no 'missing'"):
        workshop.load("app:Echo", server={"resolver": "@app:missing"})
    with pytest.raises(ApplicationError, match="cannot set fixed of Strict"):
        workshop.build("app:Strict", server={"fixed": "2"})


def test_handlers_find_out_where_they_are(workshop: Workshop) -> None:
    workshop.module(
        """
        import socketserver
        class Tell(socketserver.BaseRequestHandler):
            def handle(self):
                server = self.server
                server.tag("telling")
                server.extend_deadline(60)
                told = server.worker.slot, server.worker.generation, server.settings.threads, server.draining
                self.request.sendall(repr(told).encode())
        class Server(socketserver.TCPServer):
            settings = None
        """
    )
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run("app:Tell")

    assert workshop.ask() == b"(3, 2, 4, False)"
    assert running.notes.wait_for("tagged", 0, "telling")
    assert running.notes.wait_for("extended", 0, 60)


def test_a_name_of_the_servers_own_is_not_hidden(workshop: Workshop) -> None:
    workshop.module(SOURCE + "\n    class Own(DefaultServer):\n        settings = 'own'\n        def tag(self): pass\n")
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run("app:Own")

    server = running.services[0]._server  # type: ignore[attr-defined]  # of a foreign service
    assert server.settings == "own"
    assert server.tag() is None
    assert server.worker.pid == os.getpid()


def test_foreign_handlers_tag_the_row_of_foreign_servers(workshop: Workshop) -> None:
    workshop.module(
        """
        import socketserver
        class Tell(socketserver.BaseRequestHandler):
            def handle(self):
                self.server.tag("telling")
        """
    )
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run("socketserver:TCPServer", handler="app:Tell")
    workshop.ask()

    assert running.notes.wait_for("tagged", 4, "telling")


HOOKS = """
    import socketserver
    told = []
    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(repr(told).encode())
        @classmethod
        def on_worker_start(cls, server): told.append(("handler starts", server.worker.slot))
        @staticmethod
        def on_worker_stop(server): told.append("handler stops")
    class Server(socketserver.TCPServer):
        def on_worker_start(self): told.append(("server starts", self.worker.slot))
        def on_worker_stop(self): told.append("server stops")
        def on_drain(self): told.append("server drains")
        def server_close(self): told.append("closed"); super().server_close()
"""


def test_hooks_of_server_and_handler_are_called(workshop: Workshop) -> None:
    workshop.module(HOOKS)
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run("app:Server", handler="app:Handler")
    assert workshop.ask() == b"[('server starts', 3), ('handler starts', 3)]"

    running.drain()
    assert running.wait_until_empty()
    for service in running.services:
        service.close()

    import app

    assert app.told[2:] == ["server drains", "server stops", "handler stops", "closed"]


def test_a_start_hook_that_raises_fails_the_boot(workshop: Workshop) -> None:
    workshop.module(
        SOURCE + "\n    class Bad(Echo):\n        def on_worker_start(server): raise OSError('no database')\n"
    )
    workshop.listen("tcp://127.0.0.1:0")

    with pytest.raises(ApplicationError, match="on_worker_start failed: OSError: no database") as caught:
        workshop.build("app:Bad")
    assert "in on_worker_start" in caught.value.detail


def test_a_stop_hook_that_raises_is_logged(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    workshop.module(SOURCE + "\n    class Bad(Echo):\n        def on_worker_stop(server): raise OSError('late')\n")
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.build("app:Bad")
    running.start()
    running.leave()

    assert "on_worker_stop failed: OSError: late" in caplog.text


def test_a_server_that_forks_is_warned_about(workshop: Workshop) -> None:
    workshop.module("import socketserver\nclass Server(socketserver.ForkingTCPServer): pass\n")

    [warning] = workshop.load("app:Server", handler="socketserver:BaseRequestHandler").warnings

    assert warning.startswith("app:Server forks a child for each request")


def test_a_handler_for_nobody_is_warned_about(workshop: Workshop) -> None:
    workshop.module(SOURCE)

    [warning] = workshop.load("app:Echo", handler="app:Both").warnings

    assert warning.startswith("handler is not used: app:Echo is a handler class")


def test_loading_without_listeners_disturbs_nobody(workshop: Workshop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        workshop.module(SOURCE + f"\n    server = DefaultServer(('127.0.0.1', {port}))\n")

        application = load(workshop.settings("app:server"))

        assert application.kind == "server instance"
        application.found.server_close()  # type: ignore[attr-defined]  # is a server


def test_a_failed_handler_is_one_record_and_counts_as_failed(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.module(
        """
        import socketserver
        class Fails(socketserver.BaseRequestHandler):
            def handle(self):
                raise ValueError("wrong city")
        """
    )
    workshop.listen("tcp://127.0.0.1:0", "tcp://127.0.0.1:0")
    for target, options, row in (("app:Fails", {}, 0), ("socketserver:TCPServer", {"handler": "app:Fails"}, 4)):
        caplog.clear()
        running = workshop.build(target, **options)
        running.start()
        assert workshop.ask() == b""
        assert running.notes.wait_for("closed", row, True)
        running.leave()
        [record] = caplog.records
        assert record.getMessage() == "handler failed: ValueError: wrong city; connection closed"
        assert record.listener == workshop.listeners[0].actual  # type: ignore[attr-defined]  # an extra of ours
        assert record.exc_info
        workshop.notes.lines.clear()


def test_a_failure_with_a_datagram_says_so(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    workshop.module(
        """
        import socketserver
        class Fails(socketserver.BaseRequestHandler):
            def handle(self):
                raise {b"gone": ConnectionResetError, b"exit": SystemExit, b"fail": ValueError}[self.request[0]]
        """
    )
    caplog.set_level("INFO", "prefork")
    [listener] = workshop.listen("udp://127.0.0.1:0")
    running = workshop.run("app:Fails", threads=1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for word in (b"gone", b"exit", b"fail"):
            client.sendto(word, listener.socket.getsockname())
            assert running.notes.wait_for("closed", 0, True)
            workshop.notes.lines.clear()

    assert [record.getMessage() for record in caplog.records] == [
        "answer lost: ConnectionResetError; datagram dropped",
        "handler called sys.exit(None): the worker goes on; datagram dropped",
        "handler failed: ValueError: ; datagram dropped",
    ]
    assert {record.listener for record in caplog.records} == {listener.actual}  # type: ignore[attr-defined]  # an extra of ours


def test_a_peer_that_went_away_is_no_error(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    workshop.module(
        """
        import socketserver
        class Fails(socketserver.BaseRequestHandler):
            def handle(self):
                raise ConnectionResetError
        """
    )
    caplog.set_level("INFO", "prefork")
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run("app:Fails")
    workshop.ask()
    assert running.notes.wait_for("closed", 0, True)

    [record] = caplog.records
    assert (record.levelname, record.exc_info) == ("INFO", None)


def test_a_pool_and_foreign_servers_work_side_by_side(workshop: Workshop) -> None:
    workshop.module(
        SOURCE
        + "\n    def mixed(address): return (DefaultServer if address[1] == first else PoolServer)(address, Echo)\n"
    )
    listeners = workshop.listen("tcp://127.0.0.1:0", "tcp://127.0.0.1:0")
    workshop.module(f"import app\napp.first = {listeners[0].socket.getsockname()[1]}\nmixed = app.mixed", "mix")
    running = workshop.run("mix:mixed")

    assert [workshop.ask(index=0), workshop.ask(index=1)] == [b"x", b"x"]
    assert running.notes.wait_for("opened", 4, 0)
    assert running.notes.wait_for("opened", 0, 1)
    assert PATIENCE
