"""What speaks against forking: found, named, and nothing else."""

import os
import select
import socket
import threading
from collections.abc import Iterator

import pytest

from prefork.worker.hazards import find_hazards, open_descriptors


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def hazards_since(before: dict[int, str], listeners: tuple[int, ...] = ()) -> list[str]:
    """What is found beyond the threads that the test runner has."""
    return [hazard for hazard in find_hazards(before, listeners) if "thread" not in hazard or "stranger" in hazard]


def test_nothing_new_is_no_hazard() -> None:
    assert hazards_since(open_descriptors()) == []


def test_a_thread_is_named(gate: threading.Event) -> None:
    thread = threading.Thread(target=gate.wait, name="stranger")
    thread.start()

    assert hazards_since(open_descriptors()) == ["thread 'stranger'"]
    gate.set()
    thread.join()


def test_a_socket_and_an_epoll_descriptor_are_named() -> None:
    before = open_descriptors()
    with socket.socket() as opened, select.epoll() as epoll:
        found = hazards_since(before)

        assert any(f"descriptor {opened.fileno()} (socket:" in hazard for hazard in found)
        assert any(f"descriptor {epoll.fileno()} (anon_inode:[eventpoll])" in hazard for hazard in found)


def test_an_epoll_descriptor_that_was_there_before_is_no_hazard() -> None:
    with select.epoll():
        assert hazards_since(open_descriptors()) == []


def test_a_file_is_no_hazard(tmp_path: os.PathLike[str]) -> None:
    before = open_descriptors()
    with open(os.path.join(tmp_path, "log"), "w"):
        assert hazards_since(before) == []


def test_a_copy_of_a_listener_is_meant_to_be_shared() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        before = {number: what for number, what in open_descriptors().items() if number != listener.fileno()}
        with listener.dup():
            assert hazards_since(before, (listener.fileno(),)) == []
