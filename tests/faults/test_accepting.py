"""Faults of accepting: what the system, the queue or the clients do to it."""

import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.support.addresses import host_and_port
from tests.support.clients import TIME_LIMIT, LineClient, ask_once, eventually, steady_load
from tests.support.processes import cpu_seconds, suspended, without_descriptors
from tests.support.strace import injected

SHORTAGES = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]
LOST_CONNECTIONS = ["ECONNABORTED", "EPROTO", "ENETDOWN", "EPERM", "EHOSTUNREACH"]


def only_worker(server: Server) -> int:
    [worker] = server.workers()
    pid: int = worker["pid"]
    return pid


@pytest.mark.fault("emfile")
@pytest.mark.root
def test_emfile_neither_spins_nor_floods_the_log_nor_harms_whom_is_served_and_is_recovered_from(serve: Serve) -> None:
    with serve(workers=1, threads=256) as server, ExitStack() as clients:
        held = clients.enter_context(LineClient(server.address))
        assert held.ask("echo x") == "x"
        pid = only_worker(server)
        with without_descriptors(pid):
            waiting = [clients.enter_context(LineClient(server.address)) for _ in range(200)]
            for client in waiting:
                client.send("echo at last")
            server.wait_for_log("cannot accept")
            before = cpu_seconds(pid)
            waiting[0]._socket.settimeout(3)
            with pytest.raises(TimeoutError):
                waiting[0]._socket.recv(1, socket.MSG_PEEK)

            assert cpu_seconds(pid) - before < 0.2 * 3
            assert server.log.count("cannot accept") <= 1
            assert held.ask("echo x") == "x"
        waiting[0]._socket.settimeout(TIME_LIMIT)

        assert {client.read() for client in waiting} == {"at last"}


@pytest.mark.fault("failing-accept")
@pytest.mark.parametrize("error", SHORTAGES)
def test_a_shortage_reported_by_accept_lets_the_listener_rest_and_is_over_by_itself(
    serve: Serve, tmp_path: Path, error: str
) -> None:
    with serve(workers=1) as server:
        with injected(only_worker(server), f"accept4:error={error}:when=1..2", tmp_path) as injection:
            assert ask_once(server.address, "echo x") == "x"

            assert injection.count == 2
        server.wait_for_log("cannot accept")
        assert server.log.count("cannot accept") == 1


@pytest.mark.fault("failing-accept")
@pytest.mark.parametrize("error", LOST_CONNECTIONS)
def test_an_error_of_one_connection_reported_by_accept_delays_nobody(serve: Serve, tmp_path: Path, error: str) -> None:
    with serve(workers=1) as server:
        with injected(only_worker(server), f"accept4:error={error}:when=1..2", tmp_path) as injection:
            assert ask_once(server.address, "echo x") == "x"

            assert injection.count == 2
        assert "cannot accept" not in server.log


@pytest.mark.fault("slow-accept")
def test_a_stop_while_every_accept_is_slow_and_raced_for_ends_in_time_and_loses_nobody(
    serve: Serve, tmp_path: Path
) -> None:
    with serve(workers=3) as server, ExitStack() as tracers:
        for worker in server.workers():
            tracers.enter_context(injected(worker["pid"], "accept4:delay_enter=100000", tmp_path))
        with steady_load(server.address, clients=8) as crowd:
            crowd.wait_for_more(30)
            started = time.monotonic()
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            assert time.monotonic() - started < 25  # less than the drain may take: nothing hung
            crowd.wait_until_refused()

        assert {failure.partition("(")[0] for failure in crowd.failures} == {"ConnectionRefusedError"}


@pytest.mark.fault("full-queue")
def test_a_full_queue_makes_clients_try_again_and_all_are_served(serve: Serve) -> None:
    with serve(workers=1, backlog=1) as server, ExitStack() as clients:
        pid = only_worker(server)
        before = listen_overflows()
        address = host_and_port(server)
        with suspended(pid):
            connecting = [clients.enter_context(socket.socket()) for _ in range(6)]
            for client in connecting:
                client.setblocking(False)
                client.connect_ex(address)
            eventually(lambda: listen_overflows() > before)

        for client in connecting:
            assert select.select([], [client], [], TIME_LIMIT)[1]
            client.settimeout(TIME_LIMIT)
            client.sendall(b"echo served\n")
            assert client.recv(100) == b"served\n"


def listen_overflows() -> int:
    """Return how often the kernel has found an accept queue full."""
    names, values = [line.split() for line in Path("/proc/net/netstat").read_text().splitlines()[:2]]
    return int(values[names.index("ListenOverflows")])


@pytest.mark.fault("full-queue")
def test_a_backlog_that_the_kernel_clamps_is_warned_about_at_the_start(serve: Serve) -> None:
    with serve(workers=1, backlog=2**31 - 1) as server:
        assert "net.core.somaxconn" in server.wait_for_log("clamped")


@pytest.mark.fault("slow-drip")
@pytest.mark.timeout(600)
def test_a_slow_drip_of_twice_as_many_attackers_as_threads_leaves_a_good_client_served_within_a_second(
    serve: Serve,
) -> None:
    workers, recommended = 2, {"threads": 128, "limit_per_peer": 32, "idle_timeout": 60}  # by docs/operating.md
    with serve(workers=workers, **recommended) as server, dripping(server, 2 * workers * 128) as attack:
        times = []
        for _ in range(10_000):
            started = time.monotonic()
            assert ask_once(server.address, "echo good") == "good"
            times.append(time.monotonic() - started)

        # A busy machine holds one or the other up; an attack that worked would hold up nearly all.
        assert sorted(times)[-100] < 1
        assert attack.fewest_at_work >= ATTACKING_HOSTS * 32
        assert server.status()["totals"]["refused"] > 0


@pytest.mark.fault("slow-drip")
def test_attackers_that_say_nothing_from_wherever_they_come_hold_a_thread_for_idle_timeout_only(serve: Serve) -> None:
    with serve(workers=2, threads=2, idle_timeout=1) as server, ExitStack() as clients:
        for number in range(8):
            clients.enter_context(LineClient(server.address, (f"127.0.1.{number + 1}", 0)))
        started = time.monotonic()

        assert ask_once(server.address, "echo good") == "good"
        assert time.monotonic() - started < 10  # two rounds of attackers, each of which may take a second


ATTACKING_HOSTS = 4


class Drip:
    """Attackers from a few addresses, each of which sends a byte a second and comes again when it is cut."""

    def __init__(self, server: Server, attackers: int) -> None:
        self.fewest_at_work = attackers
        """How many at least could send their byte, in any second since all had their turn."""
        self.at_work = threading.Event()
        self._address = host_and_port(server)
        self._stop = threading.Event()
        self._hosts = [f"127.0.2.{number % ATTACKING_HOSTS + 1}" for number in range(attackers)]
        self._connections: list[socket.socket | None] = [None] * attackers
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(1):
            sent = sum(self._take_turn(number) for number in range(len(self._hosts)))
            if self.at_work.is_set():
                self.fewest_at_work = min(self.fewest_at_work, sent)
            elif sent >= ATTACKING_HOSTS * 32:
                self.at_work.set()
        for connection in self._connections:
            if connection is not None:
                connection.close()

    def _take_turn(self, number: int) -> bool:
        """Let one attacker send its byte, or come again; tell whether it is served."""
        connection = self._connections[number]
        if connection is None:
            with suppress(OSError):
                self._connections[number] = socket.create_connection(
                    self._address, TIME_LIMIT, (self._hosts[number], 0)
                )
            return False
        with suppress(OSError):
            connection.sendall(b"e")
            if not select.select([connection], [], [], 0)[0]:  # to half a line nobody says anything
                return True
        connection.close()
        self._connections[number] = None
        return False

    def stop(self) -> None:
        self._stop.set()
        self.thread.join(2 * TIME_LIMIT)


@contextmanager
def dripping(server: Server, attackers: int) -> Iterator[Drip]:
    drip = Drip(server, attackers)
    drip.thread.start()
    try:
        assert drip.at_work.wait(2 * TIME_LIMIT)
        yield drip
    finally:
        drip.stop()


@pytest.mark.fault("kept-threads")
def test_connections_that_keep_every_thread_of_a_worker_leave_the_next_one_to_its_sibling(serve: Serve) -> None:
    with serve(workers=2, threads=2) as server, ExitStack() as clients:
        slots: list[str] = []
        while not any(slots.count(slot) == 2 for slot in slots):
            slots.append(clients.enter_context(LineClient(server.address)).ask("slot"))
        full = max(slots, key=slots.count)

        assert ask_once(server.address, "slot") != full


@pytest.mark.fault("flood")
def test_a_flood_from_one_peer_is_capped_and_nobody_else_notices(serve: Serve) -> None:
    with serve(workers=2, threads=64, limit_per_peer=40) as server, ExitStack() as clients:
        with steady_load(server.address, clients=2) as crowd:
            crowd.wait_for_more(20)
            for _ in range(200):
                clients.enter_context(LineClient(server.address, ("127.0.0.2", 0)))
            eventually(lambda: server.status()["totals"]["refused"] >= 160)
            crowd.wait_for_more(50)

        assert crowd.failures == [], server.log
        assert server.status()["totals"]["refused"] == 160
