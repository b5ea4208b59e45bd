"""shutdown() takes effect at once, from wherever it is called."""

import gc
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from prefork import socketserver
from tests.conformance.actors import FOR_EVER, LOOPBACK, PATIENCE, connected, descriptors, serving
from tests.support.clients import eventually


@contextmanager
def handled(number: signal.Signals, handler: Callable[..., object]) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def test_shutdown_does_not_wait_for_the_poll_interval() -> None:
    with socketserver.TCPServer(LOOPBACK, print) as server:
        with serving(server, poll_interval=FOR_EVER), connected(server):
            pass


def test_shutdown_from_a_signal_handler_in_the_serving_thread_ends_the_loop() -> None:
    def interrupt() -> None:
        served.wait(PATIENCE)
        eventually(interrupted_once_more)

    def interrupted_once_more() -> bool:
        # Again: Python runs the handler of a signal that comes just before the wait when the wait is over.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        return bool(orders)

    def shut_down(*_: object) -> None:
        server.shutdown()
        orders.append("shutdown")

    served = threading.Event()
    orders: list[str] = []
    with socketserver.TCPServer(LOOPBACK, lambda *_: served.set()) as server, connected(server):
        with handled(signal.SIGUSR1, shut_down):
            interrupter = threading.Thread(target=interrupt)
            interrupter.start()
            server.serve_forever(FOR_EVER)
            interrupter.join(PATIENCE)


@pytest.mark.parametrize("moment", ["clear", "set"])
def test_shutdown_from_a_signal_handler_while_the_loop_begins_or_ends_does_not_wait(moment: str) -> None:
    class Interrupted(threading.Event):
        """Is interrupted in the moment."""

        def clear(self) -> None:
            self._reach("clear")
            super().clear()

        def set(self) -> None:
            self._reach("set")
            super().set()

        def _reach(self, now: str) -> None:
            if now == moment:
                signal.raise_signal(signal.SIGUSR1)

    with socketserver.TCPServer(LOOPBACK, lambda request, address, server: server.shutdown()) as server:
        server._BaseServer__is_shut_down = Interrupted()  # type: ignore[attr-defined]  # what the loop sets at its end
        with connected(server), handled(signal.SIGUSR1, lambda *_: server.shutdown()):
            server.serve_forever(FOR_EVER)


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
