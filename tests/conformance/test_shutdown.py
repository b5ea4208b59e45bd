"""shutdown() takes effect at once, from wherever it is called."""

import gc
import signal
import threading

import pytest

from prefork import socketserver
from tests.conformance.actors import FOR_EVER, LOOPBACK, PATIENCE, connected, descriptors, serving


def test_shutdown_does_not_wait_for_the_poll_interval() -> None:
    with socketserver.TCPServer(LOOPBACK, print) as server:
        with serving(server, poll_interval=FOR_EVER), connected(server):
            pass


def test_shutdown_from_a_signal_handler_in_the_serving_thread_ends_the_loop() -> None:
    def interrupt() -> None:
        served.wait(PATIENCE)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    served = threading.Event()
    with socketserver.TCPServer(LOOPBACK, lambda *_: served.set()) as server, connected(server):
        before = signal.signal(signal.SIGUSR1, lambda *_: server.shutdown())
        try:
            threading.Thread(target=interrupt).start()
            server.serve_forever(FOR_EVER)
        finally:
            signal.signal(signal.SIGUSR1, before)


def test_shutdown_from_a_handler_in_the_serving_thread_ends_the_loop() -> None:
    with socketserver.TCPServer(LOOPBACK, lambda request, address, server: server.shutdown()) as server:
        with connected(server):
            server.serve_forever(FOR_EVER)


def test_the_flag_that_code_sets_itself_still_ends_the_loop() -> None:
    with socketserver.TCPServer(LOOPBACK, print) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        server._BaseServer__shutdown_request = True  # type: ignore[attr-defined]  # a private name that code uses

        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_server_that_does_not_serve_owns_its_listener_alone() -> None:
    gc.collect()  # what others forgot to close is not ours to count
    before = descriptors()
    with socketserver.TCPServer(LOOPBACK, print) as server:
        with serving(server, FOR_EVER):
            pass

        assert descriptors() == before + 1


def test_a_wait_may_be_longer_or_shorter_than_the_poll_interval() -> None:
    class Server(socketserver.TCPServer):
        def _select_timeout(self, poll_interval: float) -> float | None:
            return 0 if poll_interval == FOR_EVER else None

        def service_actions(self) -> None:
            self.shutdown()

    with Server(LOOPBACK, print) as server:
        server.serve_forever(FOR_EVER)


def test_a_replaced_selector_of_few_descriptors_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socketserver, "_ServerSelector", socketserver.selectors.SelectSelector)
    with socketserver.TCPServer(LOOPBACK, lambda request, *_: request.sendall(b"hello")) as server:
        with serving(server, FOR_EVER), connected(server) as client:
            assert client.recv(100) == b"hello"
