"""Connections on their way from one process to another."""

import os
import resource
import socket
from collections.abc import Iterator

import pytest

from prefork.ipc.ferry import Ferry, FerryError, Passenger

PASSENGER = Passenger("tcp://127.0.0.1:9999", ["192.0.2.7", 4711], 12.5, b"state", {"version": 2, "alpn": b"\xff"})


@pytest.fixture
def ferry() -> Iterator[Ferry]:
    ferry = Ferry(4)
    yield ferry
    ferry.close()


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_connection_arrives_with_what_is_known_of_it(
    ferry: Ferry, connection: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = connection
    assert ferry.receive() is None

    assert ferry.send(PASSENGER, ours.fileno())
    ours.close()
    received = ferry.receive()

    assert received is not None
    passenger, arrived = received
    assert passenger == PASSENGER
    arrived.sendall(b"here")
    assert theirs.recv(10) == b"here"
    assert not os.get_inheritable(arrived.fileno())  # a program that a handler starts does not get it
    arrived.close()


def test_without_room_it_is_not_sent(ferry: Ferry, connection: tuple[socket.socket, socket.socket]) -> None:
    sent = 0
    while ferry.send(PASSENGER, connection[0].fileno()):
        sent += 1

    received = 0
    while (one := ferry.receive()) is not None:
        one[1].close()
        received += 1
    assert received == sent > 10


@pytest.mark.parametrize(
    ("passenger", "problem"),
    [
        (Passenger("tcp://:1", "", 0.0, bytes(70_000)), "its state has 70000 bytes, which is too much"),
        (Passenger("unix:x", "\udcff", 0.0, b""), "cannot be written down: .*surrogates"),
    ],
)
def test_what_can_never_be_sent_is_said(
    ferry: Ferry, connection: tuple[socket.socket, socket.socket], passenger: Passenger, problem: str
) -> None:
    with pytest.raises(FerryError, match=problem):
        ferry.send(passenger, connection[0].fileno())


def test_a_process_without_room_for_a_descriptor_leaves_it_where_it_is(
    ferry: Ferry, connection: tuple[socket.socket, socket.socket]
) -> None:
    ferry.send(PASSENGER, connection[0].fileno())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            ferry.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    received = ferry.receive()
    assert received is not None
    received[1].close()


def test_nonsense_is_an_error_and_leaves_nothing_open(
    ferry: Ferry, connection: tuple[socket.socket, socket.socket]
) -> None:
    with socket.socket(fileno=os.dup(ferry.sending_end())) as end:
        socket.send_fds(end, [b"nonsense"], [connection[0].fileno()])
        end.send(b"no connection")
    ferry.send(PASSENGER, connection[0].fileno())
    connection[0].close()

    with pytest.raises(FerryError, match="8 bytes came that are no connection"):
        ferry.receive()
    with pytest.raises(FerryError, match="came without one"):
        ferry.receive()
    received = ferry.receive()
    assert received is not None
    received[1].close()
    assert connection[1].recv(1) == b""


def test_one_that_somebody_shut_down_says_so(ferry: Ferry, connection: tuple[socket.socket, socket.socket]) -> None:
    with socket.socket(fileno=os.dup(ferry.sending_end())) as end:
        end.shutdown(socket.SHUT_RDWR)

    with pytest.raises(OSError, match="shutdown"):
        ferry.receive()
    with pytest.raises(FerryError, match="broken pipe"):
        ferry.send(PASSENGER, connection[0].fileno())


def test_the_fewest_is_of_the_others_that_read(ferry: Ferry) -> None:
    for slot in range(3):
        ferry.clear(slot)
    assert ferry.fewest(0) is None

    ferry.show(0, 5)
    ferry.show(1, 70)
    ferry.show(2, 30)
    assert [ferry.fewest(slot) for slot in range(3)] == [30, 5, 5]
    ferry.show(0, None)
    ferry.clear(2)
    assert [ferry.fewest(slot) for slot in range(3)] == [70, None, 70]
