"""The variables of a service manager, and messages to one that reads late or not at all."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefork.system.notify import Notifier, ServiceManager, take_service_manager


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        yield receiver


def say(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_what_the_service_manager_said_is_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    pid = str(os.getpid())
    say(monkeypatch, NOTIFY_SOCKET="@notify", WATCHDOG_USEC="3000000", WATCHDOG_PID=pid, FDSTORE="7")

    assert take_service_manager() == ServiceManager("@notify", 3.0, 7)
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE"} & set(os.environ)
    assert take_service_manager() == ServiceManager()


def test_a_watchdog_of_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, NOTIFY_SOCKET="/run/notify", WATCHDOG_USEC="3000000", WATCHDOG_PID="1")

    assert take_service_manager() == ServiceManager("/run/notify")


def test_messages_wait_in_order_for_a_service_manager_that_does_not_read(heard: socket.socket) -> None:
    notifier = Notifier(heard.getsockname())
    sent = 0
    while not notifier.pending:
        notifier.send(f"STATUS={sent}")
        sent += 1
    notifier.send("READY=1", "STATUS=done")
    read: list[bytes] = []
    while len(read) <= sent:
        read.append(heard.recv(100))
        notifier.flush()
    notifier.close()

    assert read == [*(f"STATUS={number}".encode() for number in range(sent)), b"READY=1\nSTATUS=done"]


def test_a_service_manager_that_has_gone_is_not_waited_for(heard: socket.socket) -> None:
    notifier = Notifier(heard.getsockname())
    heard.close()
    notifier.send("READY=1")

    assert not notifier.pending
    notifier.close()


def test_a_service_manager_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Notifier(str(tmp_path / "missing"))


def test_a_socket_that_was_closed_before_its_message_could_be_sent_is_not_sent(heard: socket.socket) -> None:
    notifier = Notifier(heard.getsockname())
    with socket.socket() as closed:
        pass
    notifier.send("FDSTORE=1", descriptor=closed)

    with pytest.raises(BlockingIOError):
        heard.recv(100)
    notifier.close()
