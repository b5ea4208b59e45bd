"""What waits in a listener: of which sockets the kernel tells that, and what it is when it does not."""

import errno
import os
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from prefork.system import unix_diag
from prefork.system.queues import Queue, queue_of
from prefork.system.unix_diag import accept_queue, find_queue
from tests.support import tools
from tests.support.capabilities import NET_ADMIN, without_capability


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A Unix socket that listens, with three clients in its queue of at most seven."""
    tools.require_unix_queues()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("")  # the kernel chooses an abstract name (unix(7), autobind)
        listening.listen(7)
        clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for client in clients:
            client.connect(listening.getsockname())
        yield listening
        for client in clients:
            client.close()


@contextmanager
def without_free_descriptors() -> Iterator[None]:
    """Leave this process no descriptor beyond those that it has; the limit is one of numbers, see getrlimit(2)."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_one = os.open("/dev/null", os.O_RDONLY)
    os.close(next_one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_queue_of_a_unix_listener_is_told_to_anybody(listener: socket.socket) -> None:
    with without_capability(NET_ADMIN):
        queue = queue_of(listener)

    assert queue == Queue(waiting=3, limit=7)


def test_a_queue_that_is_sealed_is_told_as_well(listener: socket.socket) -> None:
    listener.shutdown(socket.SHUT_RD)
    listener.accept()[0].close()

    assert queue_of(listener).waiting == 2


def test_of_what_the_kernel_knows_nothing_it_is_asked_once() -> None:
    with socket.socket(socket.AF_INET) as other:  # as it knows nothing of Unix sockets without its module
        inode = os.fstat(other.fileno()).st_ino

        assert accept_queue(other) is None
        assert inode in unix_diag._untold
        assert accept_queue(other) is None


def test_without_a_free_descriptor_nothing_is_told_for_now(listener: socket.socket) -> None:
    with without_free_descriptors():
        during = accept_queue(listener)

    assert (during, accept_queue(listener)) == (None, (3, 7))


REFUSAL = struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -errno.ENOENT)
QUEUE = struct.pack("=HHII", 12, 4, 3, 7)


def answer(attributes: bytes, length: int | None = None) -> bytes:
    whole = 32 + len(attributes) if length is None else length
    return struct.pack("=IHHII", whole, 20, 0, 1, 0) + bytes(16) + attributes


@pytest.mark.parametrize(
    ("said", "queue"),
    [
        (b"", None),
        (REFUSAL, None),
        (answer(b""), None),
        (answer(QUEUE), (3, 7)),
        (answer(struct.pack("=HHB3x", 5, 6, 0) + QUEUE), (3, 7)),
        (answer(struct.pack("=HH", 0, 6) + QUEUE), (3, 7)),
        (answer(QUEUE[:8]), None),
        (answer(QUEUE, length=40), None),
        (answer(QUEUE, length=4000), (3, 7)),
    ],
    ids=[
        "nothing",
        "refused",
        "bare",
        "the queue",
        "after another",
        "an empty one",
        "cut off",
        "too short",
        "too long",
    ],
)
def test_an_answer_is_read_with_care(said: bytes, queue: tuple[int, int] | None) -> None:
    assert find_queue(said) == queue
