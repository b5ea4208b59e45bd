"""Connections ended under their handlers' hands."""

import socket
import ssl

import pytest

from prefork.serving.cutting import cut, discard


class Wrapper:
    """Like a socket of another library: only its descriptor is known."""

    def __init__(self, wrapped: socket.socket) -> None:
        self.wrapped = wrapped

    def fileno(self) -> int:
        return self.wrapped.fileno()


@pytest.mark.parametrize("wrap", [lambda ours: ours, Wrapper], ids=["socket", "wrapper"])
def test_both_ends_see_the_end(wrap: type[Wrapper]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        cut(wrap(ours))

        assert ours.recv(1) == b""
        assert theirs.recv(1) == b""
        assert ours.fileno() >= 0


def test_tls_is_left_to_the_handler() -> None:
    ours, theirs = socket.socketpair()
    with (
        theirs,
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_socket(
            ours, server_side=True, do_handshake_on_connect=False
        ) as wrapped,
    ):
        layer = wrapped._sslobj  # type: ignore[attr-defined]  # the layer itself

        cut(wrapped)

        assert theirs.recv(1) == b""
        assert wrapped._sslobj is layer  # type: ignore[attr-defined]


@pytest.mark.parametrize("request_", [None, (b"data", None), object()])
def test_what_cannot_be_cut_is_left_alone(request_: object) -> None:
    cut(request_)


def test_a_closed_socket_is_left_alone() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        cut(ours)
        cut(Wrapper(ours))


def test_discard_also_closes() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        discard(ours)

        assert ours.fileno() == -1
