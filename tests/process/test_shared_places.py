"""Several sockets at one place (`?sockets=N`): what one client sends comes to one worker, and nothing is lost."""

import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from prefork import testing
from tests.process.conftest import Serve
from tests.process.test_upgrade import stopping, upgrade
from tests.support.addresses import free_port, host_and_port
from tests.support.application import write_application
from tests.support.clients import LineClient, ask_once, connect, eventually, steady_load

PLACE = "udp://127.0.0.1:0?sockets=8"
CLIENTS = 150  # of which each of 8 sockets has some: that one has none happens once in 60 million times
WHO = """

class Who(socketserver.DatagramRequestHandler):
    def handle(self):
        self.rfile.read()
        self.wfile.write(b"%d" % os.getpid())
"""


@pytest.fixture(autouse=True)
def _who(project: Path) -> None:
    write_application(project, extra=WHO)


class Clients:
    """Many, each with a port of its own, so that the kernel spreads them over the sockets."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets

    def ask(self) -> list[int]:
        """Return which process answers each."""
        for client in self._sockets:
            client.send(b"who?")
        return [int(client.recv(100)) for client in self._sockets]


@contextmanager
def clients_of(address: testing.Address) -> Iterator[Clients]:
    with ExitStack() as opened:
        clients = [opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(CLIENTS)]
        for client in clients:
            client.settimeout(30)
            client.connect(address)
        yield Clients(clients)


def pids(server: testing.Server) -> set[int]:
    return {worker["pid"] for worker in server.workers()}


def sockets_of(server: testing.Server) -> list[int]:
    """Return how many sockets each worker has claimed, fewest first (/proc/locks: proc(5))."""
    claimed = Counter(dict.fromkeys(pids(server), 0))
    for line in Path("/proc/locks").read_text().splitlines():
        _, *kind, pid, _, start, end = line.split()
        if kind == ["POSIX", "ADVISORY", "WRITE"] and int(pid) in claimed and int(start) < 1 << 32:
            claimed[int(pid)] += int(end) - int(start) + 1
    return sorted(claimed.values())


def shared_by_all(server: testing.Server, sockets: int = 8) -> None:
    """Wait until each worker has its part of the sockets: the first one had all of them at first."""
    eventually(lambda: sum(claimed := sockets_of(server)) == sockets and claimed[-1] - claimed[0] <= 1)


def test_what_one_client_sends_comes_to_one_worker_and_every_worker_has_clients(serve: Serve) -> None:
    with serve("app:Who", workers=4, bind=[PLACE]) as server, clients_of(server.address) as clients:
        shared_by_all(server)
        who = clients.ask()

        assert set(who) == pids(server)
        for _ in range(20):
            assert clients.ask() == who


def test_reloads_lose_nothing_and_every_new_worker_has_clients(serve: Serve) -> None:
    with serve("app:Who", workers=4, bind=[PLACE], canary_time=0) as server, clients_of(server.address) as clients:
        shared_by_all(server)
        old = pids(server)
        for number in range(1, 6):
            server.signal(signal.SIGHUP)
            clients.ask()
            server.wait_for_log(" reload complete: ", count=number)
            assert not set(clients.ask()) & old
            shared_by_all(server)
            old = pids(server)
            assert set(clients.ask()) == old


def test_the_clients_of_a_killed_worker_are_served_by_others(serve: Serve) -> None:
    with serve("app:Who", workers=4, bind=[PLACE]) as server, clients_of(server.address) as clients:
        shared_by_all(server)
        before = clients.ask()
        os.kill(before[0], signal.SIGKILL)
        server.wait_for_log("killed by SIGKILL")

        after = clients.ask()
        assert before[0] not in after
        eventually(lambda: len(pids(server)) == 4)
        shared_by_all(server)
        assert set(clients.ask()) == pids(server)


def test_nobody_waits_for_a_worker_that_is_not_replaced(serve: Serve, project: Path) -> None:
    with serve("app:Who", workers=2, preload="never", bind=[PLACE]) as server, clients_of(server.address) as clients:
        shared_by_all(server)
        write_application(project, extra="\nraise ValueError('broken by now')\n")
        gone = clients.ask()[0]
        os.kill(gone, signal.SIGKILL)
        server.wait_for_log("broken by now")

        (left,) = set(clients.ask())
        assert left != gone


def test_what_is_scaled_up_gets_its_part_and_what_is_scaled_down_leaves_its_own(serve: Serve) -> None:
    with serve("app:Who", workers=1, bind=[PLACE]) as server, clients_of(server.address) as clients:
        for workers in (3, 8, 2, 1):
            server.scale(workers)
            shared_by_all(server)
            assert len(who := set(clients.ask())) == workers
            assert who == pids(server)


def test_more_workers_than_sockets_leave_some_without_clients(serve: Serve) -> None:
    bind = "udp://127.0.0.1:0?sockets=2"
    with serve("app:Who", workers=4, bind=[bind]) as server, clients_of(server.address) as clients:
        eventually(lambda: len(set(clients.ask())) == 2)


def test_a_stop_answers_everything_that_the_kernel_had_taken(serve: Serve) -> None:
    with serve("app:Who", workers=3, threads=2, bind=[PLACE]) as server:
        address = server.address
        with ExitStack() as opened:
            sockets = [opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(CLIENTS)]
            for client in sockets:
                client.settimeout(30)
                client.sendto(b"who?", address)
            server.signal(signal.SIGTERM)
            for client in sockets:
                assert client.recv(100)
        assert server.wait() == 0


def test_a_place_that_another_server_has_is_not_shared_by_mistake(serve: Serve) -> None:
    with serve("app:Who", workers=1, bind=[PLACE]) as server:
        host, port = host_and_port(server)
        for options in ("", "?sockets=2"):
            bind = [f"udp://{host}:{port}{options}"]
            with serve("app:Who", workers=1, bind=bind, wait_until_ready=False) as second:
                assert second.wait() == 4
                assert "address already in use (stop the server that has it" in second.log


@pytest.mark.parametrize(("before", "after"), [("", "?sockets=4"), ("?sockets=4", ""), ("?sockets=4", "?sockets=6")])
def test_a_place_keeps_as_many_as_it_has_until_the_next_start(
    serve: Serve, project: Path, before: str, after: str
) -> None:
    settings = project / "prefork.toml"
    place = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    settings.write_text(f"bind = '{place}{before}'\n")
    with serve("app:Who", bind=[], config=str(settings)) as server, clients_of(server.address) as clients:
        there = server.status()["listeners"]
        settings.write_text(f"bind = '{place}{after}'\n")
        server.reload()
        server.wait_for_log(
            f"listener not changed: {place}{after} keeps its sockets ({len(there)}) until the next start"
        )
        assert set(clients.ask()) <= pids(server)
        assert server.status()["listeners"] == there

        with stopping(upgrade(server)):
            clients.ask()
            assert server.process.wait(30) == 0
            clients.ask()
            assert server.log.count("listener not changed: ") == 2


def test_an_upgrade_goes_on_with_the_same_sockets(serve: Serve) -> None:
    with serve("app:Who", workers=2, bind=[PLACE]) as server, clients_of(server.address) as clients:
        shared_by_all(server)
        old = set(clients.ask())
        with stopping(upgrade(server)):
            clients.ask()
            assert server.process.wait(30) == 0
            new = set(clients.ask())
            assert not new & old
            eventually(lambda: len(set(clients.ask())) == 2)


def test_a_server_with_a_loop_of_its_own_cannot_have_them(serve: Serve) -> None:
    with serve(
        "socketserver:ThreadingUDPServer", handler="app:Who", workers=1, bind=[PLACE], wait_until_ready=False
    ) as server:
        assert server.wait() == 3

    assert "ThreadingUDPServer accepts with its own loop and cannot leave sockets to other workers" in server.log


def test_each_socket_is_counted_for_itself(serve: Serve) -> None:
    with serve("app:Who", workers=2, bind=[PLACE]) as server, clients_of(server.address) as clients:
        clients.ask()

        place = "udp://{}:{}".format(*host_and_port(server))
        names = [listener["address"] for listener in server.status()["listeners"]]
        assert names == [place, *(f"{place}#{number}" for number in range(2, 9))]
        taken: Counter[str] = Counter()

        def all_counted() -> bool:
            taken.clear()
            for one in server.status()["connections"]:
                taken[one["listener"]] += one["accepted"]
            return taken.total() == CLIENTS

        eventually(all_counted)
        assert set(taken) == set(names)


STREAMS = "tcp://127.0.0.1:0?sockets=4"


def test_connections_are_taken_by_every_worker_and_none_is_lost_by_reloads(serve: Serve) -> None:
    with serve(workers=4, bind=[STREAMS], canary_time=0) as server, steady_load(server.address) as crowd:
        for number in range(1, 8):
            shared_by_all(server, sockets=4)
            assert {int(ask_once(server.address, "pid")) for _ in range(200)} == pids(server)
            server.signal(signal.SIGHUP)
            server.wait_for_log(" reload complete: ", count=number)
            crowd.wait_for_more()

        assert crowd.failures == []


def test_scaling_and_an_upgrade_lose_no_connection(serve: Serve) -> None:
    with serve(workers=1, bind=[STREAMS], canary_time=0) as server, steady_load(server.address) as crowd:
        for workers in (4, 2, 3):
            server.scale(workers)
            shared_by_all(server, sockets=4)
            crowd.wait_for_more()
        with stopping(upgrade(server)):
            assert server.process.wait(30) == 0
            crowd.wait_for_more()

            assert crowd.failures == []


def test_a_stop_answers_or_refuses_every_connection(serve: Serve) -> None:
    with serve(workers=2, bind=[STREAMS]) as server, steady_load(server.address) as crowd:
        shared_by_all(server, sockets=4)
        crowd.wait_for_more()
        assert server.stop() == 0
        crowd.wait_until_refused()

        assert {failure.partition("(")[0] for failure in crowd.failures} == {"ConnectionRefusedError"}


def test_who_waits_for_a_worker_that_is_killed_is_served_by_another(serve: Serve) -> None:
    with serve(workers=2, threads=1, bind=[STREAMS]) as server, ExitStack() as opened:
        shared_by_all(server, sockets=4)
        holder = opened.enter_context(LineClient(server.address))
        busy = int(holder.ask("pid"))
        waiting = [opened.enter_context(connect(server.address)) for _ in range(CLIENTS)]  # half of them for `busy`
        for client in waiting:
            client.sendall(b"pid\n")
            client.shutdown(socket.SHUT_WR)
        os.kill(busy, signal.SIGKILL)

        for client in waiting:
            assert client.recv(100).strip() not in (b"", b"%d" % busy)
