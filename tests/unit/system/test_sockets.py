"""Listeners: bound, shared, sealed, and never taken from somebody who lives there."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from prefork.address import BindAddress, parse_bind
from prefork.errors import ListenerError
from prefork.system.inherited import Inherited
from prefork.system.sockets import Listener, describe_socket, open_listeners
from tests.support.capabilities import NET_ADMIN, without_capability


def of_this_process(text: str) -> str:
    """Name an abstract address that no other process has; the parameters of a test are the same in all of them."""
    return text.replace("PID", str(os.getpid()))


def open_one(text: str) -> Listener:
    return open_listeners(parse_bind(of_this_process(text)), 64, ())[0]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "socket")


def connect(listener: Listener, timeout: float = 5.0) -> socket.socket:
    client = socket.socket(listener.socket.family, listener.socket.type)
    client.settimeout(timeout)
    try:
        client.connect(listener.socket.getsockname())
    except BaseException:
        client.close()
        raise
    return client


STREAMS = ["tcp://127.0.0.1:0", "tcp://[::1]:0", "unix:@prefork-test-PID-stream"]
DATAGRAMS = ["udp://127.0.0.1:0", "udp://[::1]:0", "unixgram:@prefork-test-PID-datagram"]


@pytest.mark.parametrize("text", STREAMS + DATAGRAMS)
def test_a_listener_is_non_blocking_and_says_where_it_is(text: str) -> None:
    listener = open_one(text)

    assert not os.get_blocking(listener.socket.fileno())
    assert describe_socket(listener.socket).startswith(of_this_process(text).removesuffix("0"))
    listener.close()


@pytest.mark.parametrize("text", STREAMS)
def test_a_sealed_stream_listener_serves_its_queue_and_nobody_new(text: str) -> None:
    listener = open_one(text)
    queued = [connect(listener) for _ in range(5)]
    for client in queued:
        client.send(b"hello")
    listener.seal()

    with pytest.raises((TimeoutError, ConnectionRefusedError)):
        connect(listener, timeout=0.2)
    for client in queued:
        accepted, _ = listener.socket.accept()
        accepted.setblocking(True)
        assert accepted.recv(100) == b"hello"
        accepted.send(b"goodbye")
        assert client.recv(100) == b"goodbye"
        accepted.close()
        client.close()
    with pytest.raises(BlockingIOError):
        listener.socket.accept()
    listener.close()


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:0", "tcp://[::1]:0", "tcp://[::]:0"])
def test_a_listener_is_sealed_without_the_powers_of_root(text: str) -> None:
    listener = open_one(text)
    port = listener.socket.getsockname()[1]
    queued = connect(listener)
    with without_capability(NET_ADMIN):
        listener.seal()

    for host in ("127.0.0.1", "::1"):
        with pytest.raises((TimeoutError, ConnectionRefusedError)):
            socket.create_connection((host, port), 0.2)
    accepted, _ = listener.socket.accept()
    queued.send(b"hello")
    accepted.setblocking(True)
    assert accepted.recv(100) == b"hello"
    for each in (accepted, queued):
        each.close()
    listener.close()


@pytest.mark.parametrize("text", DATAGRAMS)
def test_a_sealed_datagram_listener_keeps_what_it_has_and_takes_nothing_new(text: str) -> None:
    listener = open_one(text)
    client = connect(listener)
    client.send(b"before")
    listener.seal()
    client.send(b"after")

    assert listener.socket.recv(100) == b"before"
    with pytest.raises(BlockingIOError):
        listener.socket.recv(100)
    client.close()
    listener.close()


def test_the_wildcard_of_ipv6_takes_ipv4_unless_told_otherwise() -> None:
    both, only = open_one("tcp://[::]:0"), open_one("tcp://[::]:0?ipv6only=on")

    socket.create_connection(("127.0.0.1", both.socket.getsockname()[1]), 5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", only.socket.getsockname()[1]), 5)
    both.close()
    only.close()


def test_a_host_name_with_both_kinds_of_address_is_bound_as_ipv4() -> None:
    listener = open_one("tcp://localhost:0")

    assert listener.socket.family == socket.AF_INET
    listener.close()


@pytest.mark.parametrize(("query", "mode"), [("", 0o600), ("?mode=0666", 0o666)])
def test_a_socket_file_has_its_mode_whatever_the_umask(path: str, query: str, mode: int) -> None:
    previous = os.umask(0o077)
    listener = open_one(f"unix:{path}{query}")
    os.umask(previous)

    assert stat.S_IMODE(os.stat(path).st_mode) == mode
    listener.close()


def test_a_stale_socket_file_is_replaced(path: str) -> None:
    open_one(f"unix:{path}").close()
    listener = open_one(f"unix:{path}")

    connect(listener).close()
    listener.close()


@pytest.mark.parametrize("kind", ["unix", "unixgram"])
def test_a_socket_file_of_a_living_server_is_not_taken(path: str, kind: str) -> None:
    living = open_one(f"{kind}:{path}")

    with pytest.raises(ListenerError, match="another server listens there"):
        open_one(f"{kind}:{path}")
    connect(living).close()
    living.close()


def test_a_server_with_a_full_queue_counts_as_living(path: str) -> None:
    living = open_one(f"unix:{path}?backlog=1")
    clients = []
    with pytest.raises(BlockingIOError):
        while True:
            clients.append(socket.socket(socket.AF_UNIX))
            clients[-1].setblocking(False)
            clients[-1].connect(path)

    with pytest.raises(ListenerError, match="another server listens there"):
        open_one(f"unix:{path}")
    for client in clients:
        client.close()
    living.close()


def test_a_file_that_is_no_socket_is_left_alone(path: str) -> None:
    Path(path).write_text("precious")

    with pytest.raises(ListenerError, match="no socket"):
        open_one(f"unix:{path}")
    assert Path(path).read_text() == "precious"


def test_only_the_socket_file_that_we_made_is_removed(path: str) -> None:
    ours = open_one(f"unix:{path}")
    os.unlink(path)
    theirs = open_one(f"unix:{path}")
    ours.unlink()

    assert os.path.exists(path)
    theirs.unlink()
    assert not os.path.exists(path)
    ours.close()
    theirs.close()


def test_a_busy_port_is_an_error_that_names_it() -> None:
    first = open_one("tcp://127.0.0.1:0")
    port = first.socket.getsockname()[1]

    with pytest.raises(ListenerError, match=rf"cannot bind tcp://127\.0\.0\.1:{port}: address already in use"):
        open_one(f"tcp://127.0.0.1:{port}")
    first.close()


def test_a_passed_descriptor_is_adopted_and_not_unlinked_or_sealed() -> None:
    passed = socket.create_server(("127.0.0.1", 0))
    listener = open_listeners(BindAddress("fd", fd=passed.fileno()), 64, ())[0]
    listener.seal()

    connect(listener).close()
    assert not listener.sealed
    listener.close()
    passed.close()


@pytest.mark.parametrize(
    ("family", "kind"), [(socket.AF_UNIX, socket.SOCK_SEQPACKET), (socket.AF_NETLINK, socket.SOCK_DGRAM)]
)
def test_a_passed_socket_of_a_kind_that_nobody_serves_is_an_error(family: int, kind: int) -> None:
    with (
        socket.socket(family, kind) as passed,
        pytest.raises(ListenerError, match="is no stream or datagram socket of TCP, UDP or Unix"),
    ):
        open_listeners(BindAddress("fd", fd=passed.fileno()), 64, ())


@pytest.mark.parametrize("kind", ["a file", "a stream socket that does not listen", "nothing"])
def test_a_passed_descriptor_that_cannot_be_served_is_an_error(kind: str) -> None:
    idle = socket.socket()
    reader, writer = os.pipe()
    number = {"a file": reader, "a stream socket that does not listen": idle.fileno(), "nothing": 3000}[kind]

    with pytest.raises(ListenerError, match=f"cannot bind fd://{number}"):
        open_listeners(BindAddress("fd", fd=number), 64, ())
    idle.close()
    os.close(reader)
    os.close(writer)


def test_sockets_of_the_service_manager_are_chosen_by_name() -> None:
    web, dns = socket.create_server(("127.0.0.1", 0)), socket.socket(type=socket.SOCK_DGRAM)
    inherited = [Inherited(web.fileno(), "web"), Inherited(dns.fileno(), "dns")]

    (chosen,) = open_listeners(BindAddress("systemd", name="dns"), 64, inherited)
    every = open_listeners(BindAddress("systemd"), 64, inherited)

    assert chosen.socket.type == socket.SOCK_DGRAM
    assert len(every) == 2
    with pytest.raises(ListenerError, match="passed: dns, web"):
        open_listeners(BindAddress("systemd", name="ftp"), 64, inherited)
    for listener in (chosen, *every):
        listener.close()
    web.close()
    dns.close()


def test_an_unknown_owner_is_an_error_and_leaves_no_socket_file(path: str) -> None:
    with pytest.raises(ListenerError, match="no such user or group"):
        open_one(f"unix:{path}?owner=nobody-has-this-name")
    assert not os.path.exists(path)


def test_the_ways_out_know_their_errors() -> None:
    assert (errno.EADDRINUSE, errno.EADDRNOTAVAIL) == (98, 99)


@pytest.mark.parametrize("place", ["tcp://127.0.0.1:0", "tcp://[::1]:0"])
def test_accepted_connections_inherit_the_tcp_options_of_their_listener(place: str) -> None:
    listener = open_one(f"{place}?keepalive=60&user_timeout=30&nodelay=on")
    client = connect(listener)
    listener.socket.setblocking(True)
    accepted, _ = listener.socket.accept()

    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    tcp = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT, socket.TCP_NODELAY]
    assert [accepted.getsockopt(socket.IPPROTO_TCP, option) for option in tcp] == [30, 10, 3, 30_000, 1]
    for one in (accepted, client, listener):
        one.close()


@pytest.mark.parametrize("text", STREAMS)
def test_a_stream_listener_tells_how_many_wait(text: str) -> None:
    listener = open_one(text)
    clients = [connect(listener) for _ in range(7)]
    waiting = listener.queued()
    listener.socket.accept()[0].close()

    assert (waiting, listener.queued()) == (7, 6)
    for client in clients:
        client.close()
    listener.close()


@pytest.mark.parametrize("text", DATAGRAMS)
def test_nobody_knows_how_many_wait_elsewhere(text: str) -> None:
    listener = open_one(text)

    assert listener.queued() == 0
    listener.close()
