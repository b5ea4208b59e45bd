"""Servers at work behind their services: drained without loss, woken at once, ended in order."""

import errno
import os
import re
import socket
import threading
from typing import Any

import pytest

from prefork.worker import services
from prefork.worker.gate import Gate, State, gates
from prefork.worker.services import ServerEnded
from tests.unit.worker.conftest import PATIENCE, Workshop

SOURCE = """
    import socketserver, threading
    import prefork.serving
    import prefork.socketserver

    begun, go_on = threading.Semaphore(0), threading.Event()

    class Echo(socketserver.BaseRequestHandler):
        def handle(self):
            while data := self.request.recv(100):
                self.request.sendall(data)

    class Gated(socketserver.BaseRequestHandler):
        def handle(self):
            begun.release()
            go_on.wait(30)
            self.request[1].sendto(self.request[0].upper(), self.client_address)

    class Leaver(socketserver.StreamRequestHandler):
        def handle(self):
            for line in self.rfile: self.wfile.write(line)
        def on_drain(self): self.wfile.write(b"421 bye\\n")

    class Threading(socketserver.ThreadingTCPServer):
        daemon_threads = True
        def __init__(self, address, handler=Echo): super().__init__(address, handler)
    class Ours(prefork.socketserver.ThreadingTCPServer):
        daemon_threads = True
        def __init__(self, address, handler=Echo): super().__init__(address, handler)
    class Pool(prefork.serving.ThreadPoolTCPServer):
        def __init__(self, address, handler=Echo): super().__init__(address, handler)
    class OwnLoop(Pool):
        def serve_forever(self, poll_interval=0.5): super().serve_forever(poll_interval)
    class Unix(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True
        def __init__(self, address, handler=Echo): super().__init__(address, handler)
    class UnixOwnLoop(Unix):
        def serve_forever(self):
            while True:
                try: connection, address = self.socket.accept()
                except OSError: break
                self.process_request(connection, address)
        def shutdown(self): pass
    class UnixPool(prefork.serving.ThreadPoolUnixStreamServer):
        def __init__(self, address, handler=Echo): super().__init__(address, handler)

    class Datagrams(socketserver.ThreadingUDPServer):
        daemon_threads = True
        def __init__(self, address, handler=Gated): super().__init__(address, handler)
    class PlainDatagrams(prefork.socketserver.UDPServer):
        def __init__(self, address, handler=Gated): super().__init__(address, handler)
    class ThreadlessDatagrams(socketserver.UDPServer):
        def __init__(self, address, handler=Gated): super().__init__(address, handler)
        def process_request(self, request, client_address):
            threading.Thread(target=self.finish_request, args=(request, client_address), daemon=True).start()
    class PoolDatagrams(prefork.serving.ThreadPoolUDPServer):
        def __init__(self, address, handler=Gated): super().__init__(address, handler)

    class Ends(Threading):
        def serve_forever(self): self.handle_request()
    class Fails(Threading):
        def serve_forever(self):
            self.handle_request()
            raise OSError("no more")
"""

STREAMS = pytest.mark.parametrize("name", ["Threading", "Ours", "Pool", "OwnLoop"])
DATAGRAMS = pytest.mark.parametrize("name", ["Datagrams", "PlainDatagrams", "ThreadlessDatagrams", "PoolDatagrams"])


@pytest.fixture(autouse=True)
def no_loop_polls_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """So whatever ends in time was woken."""
    monkeypatch.setattr(services, "POLL_INTERVAL", 3600.0)


def application() -> Any:
    import app  # type: ignore[import-not-found]  # made by these tests

    return app


def loops() -> list[threading.Thread]:
    """The threads in which servers run their own loops."""
    return [thread for thread in threading.enumerate() if re.fullmatch(r"prefork-server-\d+", thread.name)]


@STREAMS
def test_an_idle_server_leaves_at_once(workshop: Workshop, name: str) -> None:
    workshop.module(SOURCE)
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run(f"app:{name}")

    running.drain()

    assert running.wait_until_empty()
    running.leave()
    assert loops() == []


@STREAMS
def test_an_idle_server_has_nothing_to_finish(workshop: Workshop, name: str) -> None:
    workshop.module(SOURCE)
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run(f"app:{name}")

    running.drain(0)

    assert running.wait_until_empty()


@STREAMS
def test_a_server_that_was_drained_before_its_loop_began_leaves(workshop: Workshop, name: str) -> None:
    workshop.module(SOURCE)
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.build(f"app:{name}")
    running.start()
    running.leave()

    assert not running.accepting


@STREAMS
def test_who_leaves_does_not_keep_the_port(workshop: Workshop, name: str) -> None:
    workshop.module(SOURCE)
    [listener] = workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run(f"app:{name}")
    with workshop.connect() as held:
        held.sendall(b"x")
        assert held.recv(1) == b"x"
        running.drain()
        assert running.wait_until_stopped()
        assert running.wait_until(lambda: all(gate.state is State.LEFT for gate in gates.values()))
        listener.socket.close()
        for loop in loops():
            loop.join(PATIENCE)  # its wait holds the listener until it wakes up

        with socket.create_server(("127.0.0.1", listener.address.port)):
            held.sendall(b"y")
            assert held.recv(1) == b"y"


@pytest.mark.parametrize("name", ["Unix", "UnixOwnLoop", "UnixPool"])
def test_a_sealed_unix_listener_is_finished(workshop: Workshop, name: str) -> None:
    workshop.module(SOURCE)
    [listener] = workshop.listen(f"unix:@prefork-sealed-{os.getpid()}")
    running = workshop.run(f"app:{name}", threads=1)
    held = workshop.connect()
    held.sendall(b"x")
    assert held.recv(1) == b"x"
    queued = [workshop.connect() for _ in range(3)]
    for client in queued:
        client.sendall(b"q")
    listener.socket.shutdown(socket.SHUT_RD)

    running.drain(0)

    held.close()
    for client in queued:
        assert client.recv(1) == b"q"
        client.close()
    assert running.wait_until_empty()


@STREAMS
def test_abort_cuts_what_is_open(workshop: Workshop, name: str) -> None:
    workshop.module(SOURCE)
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run(f"app:{name}")
    clients = [workshop.connect() for _ in range(2)]
    for client in clients:
        client.sendall(b"x")
        assert client.recv(1) == b"x"

    for service in running.services:
        service.abort()

    assert [client.recv(1) for client in clients] == [b"", b""]
    assert running.wait_until_empty()


@DATAGRAMS
def test_datagrams_count_while_they_are_handled(workshop: Workshop, name: str) -> None:
    workshop.module(SOURCE)
    workshop.listen("udp://127.0.0.1:0")
    running = workshop.run(f"app:{name}")
    client = workshop.connect()
    client.send(b"x")
    assert application().begun.acquire(timeout=PATIENCE)

    running.drain()
    if name != "PlainDatagrams":  # serves in its loop
        assert running.wait_until_stopped()
    assert running.open_connections == 1
    application().go_on.set()
    assert client.recv(1) == b"X"
    assert running.wait_until_empty()
    assert running.notes.wait_until_quiet()
    assert running.notes.count("opened") == 1


@DATAGRAMS
def test_datagrams_that_are_queued_are_served_before_the_server_leaves(workshop: Workshop, name: str) -> None:
    workshop.module(SOURCE)
    workshop.listen("udp://127.0.0.1:0")
    running = workshop.run(f"app:{name}", threads=1)
    client = workshop.connect()
    client.send(b"first")
    assert application().begun.acquire(timeout=PATIENCE)
    for _ in range(3):
        client.send(b"queued")

    running.drain(0)
    application().go_on.set()

    assert sorted(client.recv(10) for _ in range(4)) == [b"FIRST"] + [b"QUEUED"] * 3
    assert running.wait_until_empty()


@DATAGRAMS
def test_a_datagram_listener_never_blocks_its_receiver_but_its_sender(workshop: Workshop, name: str) -> None:
    workshop.module(SOURCE)
    [listener] = workshop.listen("udp://127.0.0.1:0")
    workshop.run(f"app:{name}")

    assert os.get_blocking(listener.socket.fileno())
    # The rest of the workers share the flag, so who loses the race for a datagram must not depend on it.
    workshop.connect().send(b"x")
    assert application().begun.acquire(timeout=PATIENCE)
    application().go_on.set()


def test_handlers_of_the_pool_are_told_of_a_drain(workshop: Workshop) -> None:
    workshop.module(SOURCE)
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run("app:Leaver")
    client = workshop.connect()
    client.sendall(b"x\n")
    assert client.recv(10) == b"x\n"

    running.drain()

    assert client.recv(10) == b"421 bye\n"


@pytest.mark.parametrize(("name", "failure"), [("Ends", ServerEnded), ("Fails", OSError)])
def test_a_server_that_ends_by_itself_is_a_failure(workshop: Workshop, name: str, failure: type[Exception]) -> None:
    workshop.module(SOURCE)
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run(f"app:{name}")
    workshop.ask()

    assert running.wait_until_stopped()
    assert isinstance(running.services[0].failure, failure)


def test_a_server_that_is_shut_down_by_its_handler_is_a_failure(workshop: Workshop) -> None:
    workshop.module(
        SOURCE
        + """
    class Stop(socketserver.BaseRequestHandler):
        def handle(self): self.server.shutdown()
    """
    )
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run("app:Threading", handler="app:Stop")
    workshop.connect()
    # The standard loop looks at the next connection only.
    workshop.connect()

    assert running.wait_until_stopped()
    assert isinstance(running.services[0].failure, ServerEnded)


@pytest.mark.parametrize("name", ["Threading", "Ours"])
def test_a_foreign_loop_does_not_spin_when_the_system_is_exhausted(
    workshop: Workshop, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve(self: Any, once: Any) -> Any:
        attempts.append(1)
        if len(attempts) <= 2:
            raise_shortage = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return take_once(self, lambda: _raise(raise_shortage))
        return take_once(self, once)

    attempts: list[int] = []
    take_once = Gate._take_once
    monkeypatch.setattr(Gate, "_take_once", starve)
    workshop.module(SOURCE)
    workshop.listen("tcp://127.0.0.1:0")
    workshop.run(f"app:{name}")

    assert workshop.ask() == b"x"
    assert len(attempts) == 3
    assert "rests" in caplog.text


def _raise(error: OSError) -> None:
    raise error


def test_close_does_not_wait_for_a_thread_that_never_ends(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_LAST_WAIT", 0.01)
    workshop.module(
        SOURCE
        + """
    class Stuck(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(b"x")
            go_on.wait(30)
    class Server(socketserver.ThreadingTCPServer):
        def __init__(self, address): super().__init__(address, Stuck)
    """
    )
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.build("app:Server")
    running.start()
    assert workshop.ask() == b"x"
    running.drain()
    assert running.wait_until_stopped()

    running.services[0].close()

    assert running.open_connections == 1
    application().go_on.set()
    assert running.wait_until_empty()


def test_a_shutdown_that_raises_is_logged(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    workshop.module(SOURCE + "\n    class Bad(Threading):\n        def shutdown(self): raise ValueError('no')\n")
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.build("app:Bad")
    running.start()
    running.leave()
    running.services[0]._gate.dismissed.wait(PATIENCE)  # type: ignore[attr-defined]  # of a foreign service

    assert "shutdown failed: ValueError: no" in caplog.text


def test_a_client_that_resets_its_connection_in_the_queue_harms_nobody(workshop: Workshop) -> None:
    workshop.module(SOURCE)
    workshop.listen("tcp://127.0.0.1:0")
    running = workshop.run("app:Pool", threads=1)
    held = workshop.connect()
    held.sendall(b"x")
    assert held.recv(1) == b"x"
    resetting = workshop.connect()
    resetting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    resetting.close()
    held.close()

    assert workshop.ask() == b"x"
    assert running.accepting
