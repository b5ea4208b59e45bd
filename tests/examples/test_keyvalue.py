import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.addresses import host_and_port
from tests.support.clients import eventually
from tests.support.serving import serve_calmly

Cli = Callable[..., bytes]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, int]]:
    database = str(tmp_path / "store.sqlite")
    with serve_calmly(
        "examples.keyvalue:KeyValueHandler", workers=2, bind=["tcp://127.0.0.1:0"], server={"database": database}
    ) as server:
        yield host_and_port(server)


def test_clients_stay_connected_through_reloads(tmp_path: Path) -> None:
    options = {"bind": ["tcp://127.0.0.1:0"], "server": {"database": str(tmp_path / "store.sqlite")}}
    with serve_calmly("examples.keyvalue:KeyValueHandler", workers=2, drain_timeout=600, **options) as server:
        clients = [socket.create_connection(host_and_port(server), timeout=60) for _ in range(20)]
        for clock in range(1, 4):
            for client in clients:
                client.sendall(b"INCR clock\r\nGET cl")
            assert {client.recv(100)[:1] for client in clients} == {b":"}
            server.reload()
            for client in clients:
                client.sendall(b"ock\r\n")
            assert {client.recv(100) for client in clients} == {b"$%d\r\n%d\r\n" % (2 + (clock > 4), 20 * clock)}
            eventually(lambda: not server.workers("draining"))
        for client in clients:
            client.close()


@pytest.fixture
def cli(address: tuple[str, int]) -> Cli:
    host, port = address

    def redis_cli(*arguments: str, stdin: bytes = b"") -> bytes:
        return tools.run(["redis-cli", "-h", host, "-p", str(port), *arguments], stdin=stdin).stdout.rstrip(b"\n")

    return redis_cli


def test_redis_cli_stores_and_finds(cli: Cli) -> None:
    assert cli("SET", "greeting", "hello world") == b"OK"
    assert cli("GET", "greeting") == b"hello world"
    assert cli("DEL", "greeting", "absent") == b"1"
    assert cli("GET", "greeting") == b""


def test_redis_cli_shows_errors(cli: Cli) -> None:
    assert cli("FLY", "away") == b"ERR unknown command 'FLY', with args beginning with: 'away'"
    assert cli("GET") == b"ERR wrong number of arguments for 'get' command"


def test_a_value_may_be_any_bytes(cli: Cli) -> None:
    value = bytes(range(256)) * 1000
    assert cli("-x", "SET", "bytes", stdin=value) == b"OK"

    assert cli("GET", "bytes") == value


def test_redis_cli_loads_many_commands_at_once(cli: Cli) -> None:
    commands = b"".join(b"*3\r\n$3\r\nSET\r\n$4\r\n%04d\r\n$4\r\n%04d\r\n" % (n, n) for n in range(1000))
    report = cli("--pipe", stdin=commands)

    assert b"errors: 0, replies: 1000" in report
    assert cli("GET", "0999") == b"0999"


def test_all_workers_count_in_the_same_store(address: tuple[str, int]) -> None:
    clients = [socket.create_connection(address, timeout=60) for _ in range(8)]
    for client in clients:
        client.sendall(b"INCR n\r\n" * 50)
    counts = []
    for client in clients:
        with client, client.makefile("rb") as replies:
            counts += [int(replies.readline()[1:]) for _ in range(50)]

    assert sorted(counts) == list(range(1, 401))


@pytest.mark.parametrize("options", [[], ["-P", "16"], ["-k", "0"]], ids=["kept", "pipelined", "new"])
def test_redis_benchmark_finds_nothing_to_complain_of(address: tuple[str, int], options: list[str]) -> None:
    host, port = address
    tests = "ping_inline,ping_mbulk,set,get,incr"
    command = ["redis-benchmark", "-h", host, "-p", str(port), "-t", tests, "-n", "500", "-c", "10", "--csv", *options]
    done = tools.run(command)

    assert done.stdout.count(b"\n") == 1 + len(tests.split(","))
    assert b"rror" not in done.stdout + done.stderr
    assert b"Could not fetch server CONFIG" not in done.stdout + done.stderr
