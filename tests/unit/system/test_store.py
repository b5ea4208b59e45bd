"""Names of kept listeners: what systemd allows, and what the next start of the service finds."""

import socket
from pathlib import Path

import pytest

from prefork.address import parse_bind
from prefork.system.inherited import Inherited
from prefork.system.notify import Notifier
from prefork.system.store import Store


@pytest.mark.parametrize("text", ["tcp://[::1]:80", "unix:@name", "unix:PATH", "unix:" + "/ü" * 30])
def test_a_name_has_no_colon_and_is_found_again(tmp_path: Path, text: str) -> None:
    address = parse_bind(text.replace("PATH", f"{tmp_path}/socket"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, socket.socket() as kept:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier(manager.getsockname())
        store = Store((), 1)
        store.begin(notifier)
        assert store.keep(address, kept)
        message = dict(line.split("=", 1) for line in manager.recv(1000).decode().splitlines())
        notifier.close()

        name = message["FDNAME"]
        assert name.isascii()
        assert name.isprintable()
        assert ":" not in name
        assert len(name) <= 255
        found = Store([Inherited(kept.detach(), name)], 1).take(address)
        assert found is not None
        found.close()


def test_what_a_socket_unit_passed_is_told_from_what_was_kept() -> None:
    passed = Inherited(3, "web")

    assert Store.passed([passed, Inherited(4, "bind=tcp%3A//0.0.0.0%3A80")]) == [passed]


def test_without_a_service_manager_nothing_is_kept() -> None:
    with socket.socket() as listener:
        assert not Store((), 1).keep(parse_bind("tcp://127.0.0.1:80"), listener)
