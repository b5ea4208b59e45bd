"""A forking server at its limit of children goes on, and waits for its own children only."""

import gc
import os
import socket
import subprocess
import sys
import threading
from typing import Any

from prefork import socketserver
from tests.conformance.actors import FOR_EVER, LOOPBACK, PATIENCE, connected, descriptors, serving


class Limited(socketserver.ForkingTCPServer):
    """Serves one connection at a time, each in a child that answers when its client says so."""

    max_children = 1
    turns = 0

    def __init__(self) -> None:
        super().__init__(LOOPBACK, echo)
        self.turned = threading.Condition()

    def service_actions(self) -> None:
        super().service_actions()
        with self.turned:
            self.turns += 1
            self.turned.notify_all()


def echo(request: socket.socket, client_address: object, server: object) -> None:
    request.settimeout(PATIENCE)
    request.sendall(b"began ")
    request.sendall(request.recv(100))


def test_the_loop_goes_on_while_children_are_at_their_limit() -> None:
    with Limited() as server, serving(server), connected(server) as first, connected(server) as second:
        assert first.recv(100) == b"began "
        with server.turned:
            seen = server.turns
            assert server.turned.wait_for(lambda: server.turns > seen + 3, PATIENCE)
        first.sendall(b"first")
        assert first.recv(100) == b"first"
        second.sendall(b"second")

        assert second.recv(6) + second.recv(100) == b"began second"


def test_the_end_of_a_child_makes_room_at_once() -> None:
    with Limited() as server, serving(server, FOR_EVER), connected(server) as first, connected(server) as second:
        first.sendall(b"first")
        second.sendall(b"second")

        assert second.recv(6) + second.recv(100) == b"began second"


def test_waiting_for_children_leaves_no_descriptors() -> None:
    gc.collect()  # what others forgot to close is not ours to count
    before = descriptors()
    with Limited() as server, serving(server):
        for _ in range(3):
            with connected(server) as first, connected(server) as second:
                first.sendall(b"first")
                second.sendall(b"second")
                assert second.recv(6) + second.recv(100) == b"began second"

    assert descriptors() == before


def test_a_child_that_calls_shutdown_does_not_disturb_its_parent() -> None:
    class Server(Limited):
        def finish_request(self, request: Any, client_address: Any) -> None:
            self.shutdown()
            super().finish_request(request, client_address)

    with Server() as server, serving(server, FOR_EVER):
        for _ in range(3):
            with connected(server) as client:
                client.sendall(b"hello")
                assert client.recv(6) + client.recv(100) == b"began hello"

        assert server.turns < 20


def test_shutdown_takes_effect_while_children_are_at_their_limit() -> None:
    with Limited() as server:
        with connected(server) as client:
            with serving(server, FOR_EVER):
                assert client.recv(100) == b"began "

            assert len(server.active_children or ()) == 1
            client.sendall(b"the child may end")


def test_children_of_others_are_left_to_them() -> None:
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"]) as stranger:
        os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOWAIT)
        with Limited() as server, serving(server), connected(server) as first, connected(server) as second:
            first.sendall(b"first")
            second.sendall(b"second")
            assert second.recv(6) + second.recv(100) == b"began second"

        assert stranger.wait(PATIENCE) == 7


def test_children_make_room_although_service_actions_are_overridden() -> None:
    class Server(Limited):
        def service_actions(self) -> None:
            pass

    with Server() as server, serving(server, FOR_EVER), connected(server) as first, connected(server) as second:
        first.sendall(b"first")
        second.sendall(b"second")

        assert second.recv(6) + second.recv(100) == b"began second"
