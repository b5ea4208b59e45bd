"""The pool: who accepts, who carries, and what a drain leaves behind."""

import ctypes
import errno
import logging
import math
import os
import socket
import socketserver
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from prefork.serving import accepting, promotion, shortage
from prefork.serving.pool import Pool
from prefork.serving.poolthread import PoolThread
from tests.unit.serving.conftest import PATIENCE, Bench, Echo, make_server


def threads_of(pool: Pool) -> list[PoolThread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, PoolThread) and thread.pool is pool]


def queue(bench: Bench, count: int) -> list[socket.socket]:
    """Clients that have been accepted by the kernel, and sent a byte, but by nobody else."""
    clients = [bench.connect() for _ in range(count)]
    for client in clients:
        client.sendall(b"q")
    return clients


class Fails(Exception):
    pass


def test_connections_are_carried_at_the_same_time(bench: Bench) -> None:
    pool = bench.pool(make_server())
    first, second = bench.hold(), bench.hold()

    assert bench.talk(first, b"1") == b"1"
    assert bench.talk(second, b"2") == b"2"
    assert pool.open_connections == 2


def test_a_thread_is_started_only_when_no_other_is_free(bench: Bench) -> None:
    pool = bench.pool(make_server(), threads=40)
    for _ in range(40):
        with bench.hold() as client:
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
    # Some connections may still be ending when the next is accepted, but never all of them.
    assert len(threads_of(pool)) < 40


def test_nothing_is_accepted_without_a_free_thread(bench: Bench) -> None:
    pool = bench.pool(make_server(), threads=1)
    held = bench.hold()
    [waiting] = queue(bench, 1)
    waiting.setblocking(False)
    with pytest.raises(BlockingIOError):
        waiting.recv(1)
    assert pool.open_connections == 1

    held.close()
    waiting.settimeout(PATIENCE)
    assert waiting.recv(1) == b"q"


def test_a_drain_stops_accepting_and_leaves_open_connections_alone(bench: Bench) -> None:
    pool = bench.pool(make_server())
    held = bench.hold()

    pool.drain()

    assert bench.changes.wait_until(lambda: not pool.accepting)
    assert bench.talk(held, b"still") == b"still"
    assert pool.open_connections == 1
    held.close()
    assert bench.changes.wait_until(lambda: pool.open_connections == 0)


def test_a_drain_of_a_pool_whose_threads_are_all_busy_takes_effect_at_once(bench: Bench) -> None:
    pool = bench.pool(make_server(), threads=2)
    bench.hold()
    bench.hold()

    pool.drain()

    assert not pool.accepting
    assert bench.changes.count == 1


def test_what_is_left_to_others_is_left_when_the_leader_knows(bench: Bench) -> None:
    left, kept = make_server(), make_server()
    pool = bench.pool(left, kept)
    bench.hold(left)

    pool.leave_to_others(frozenset({0}))

    assert bench.changes.wait_until(pool.has_left)
    waiting = bench.connect(left)
    assert bench.talk(bench.hold(kept)) == b"x"
    pool.leave_to_others(frozenset())
    assert bench.talk(waiting) == b"x"
    assert bench.changes.wait_until(pool.has_left)


def test_what_is_left_to_others_is_left_at_once_while_all_threads_are_busy(bench: Bench) -> None:
    left, kept = make_server(), make_server()
    pool = bench.pool(left, kept, threads=1)
    held = bench.hold(left)
    waiting = bench.connect(left)

    pool.leave_to_others(frozenset({0}))

    assert pool.has_left()
    held.close()
    assert bench.talk(bench.hold(kept)) == b"x"
    waiting.setblocking(False)
    with pytest.raises(BlockingIOError):
        waiting.recv(1)


def test_who_is_about_to_take_a_request_has_not_left(bench: Bench) -> None:
    class Slow(socketserver.TCPServer):
        taking, go_on = threading.Event(), threading.Event()

        def get_request(self) -> Any:
            self.taking.set()
            assert self.go_on.wait(PATIENCE)
            return super().get_request()

    server = make_server(server_class=Slow)
    pool = bench.pool(server)
    client = bench.connect()
    assert server.taking.wait(PATIENCE)

    pool.leave_to_others(frozenset({0}))

    assert not pool.has_left()
    server.go_on.set()
    assert bench.talk(client) == b"x"
    assert bench.changes.wait_until(pool.has_left)


def test_threads_leave_after_a_drain(bench: Bench) -> None:
    pool = bench.pool(make_server())
    bench.hold().close()
    bench.hold().close()
    threads = threads_of(pool)

    pool.drain()

    for thread in threads:
        thread.join(PATIENCE)
    assert threads_of(pool) == []


def test_a_drain_may_serve_what_is_queued_first(bench: Bench) -> None:
    pool = bench.pool(make_server(), threads=1)
    held = bench.hold()
    queued = queue(bench, 3)

    pool.drain({0})

    assert pool.accepting
    held.close()
    for client in queued:
        assert client.recv(1) == b"q"
        client.close()
    assert bench.changes.wait_until(lambda: not pool.accepting and not pool.open_connections)


def test_a_second_drain_hurries(bench: Bench) -> None:
    pool = bench.pool(make_server(), threads=1)
    bench.hold()
    queue(bench, 1)
    pool.drain({0})
    assert pool.accepting

    pool.drain()

    assert not pool.accepting


def test_a_second_drain_does_not_take_up_what_the_first_has_left(bench: Bench) -> None:
    pool = bench.pool(make_server(), make_server(), threads=1)
    bench.hold()
    pool.drain({1})

    pool.drain({0, 1})

    assert [intake.finishing for intake in pool._intakes] == [False, True]


def test_a_sealed_unix_listener_is_left_when_its_queue_is_empty(bench: Bench, tmp_path: Path) -> None:
    server = make_server(server_class=socketserver.UnixStreamServer, address=str(tmp_path / "socket"))
    pool = bench.pool(server, threads=1)
    held = bench.hold()
    [queued] = queue(bench, 1)
    server.socket.shutdown(socket.SHUT_RD)  # how the master seals it: readable for ever after

    pool.drain({0})

    held.close()
    assert queued.recv(1) == b"q"
    queued.close()
    assert bench.changes.wait_until(lambda: not pool.accepting and not pool.open_connections)


def test_a_connection_that_shook_hands_while_its_listener_was_sealed_is_heard(bench: Bench) -> None:
    server = make_server()
    pool = bench.pool(server, threads=1)
    held = bench.hold()
    server.socket.setsockopt(socket.IPPROTO_IP, 21, 255)  # IP_MINTTL, as the master seals it without CAP_NET_ADMIN
    with socket.socket() as late:
        late.settimeout(PATIENCE)
        late.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        late.connect(server.server_address)
        late.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
        late.sendall(b"q")

        pool.drain({0})

        held.close()
        assert late.recv(1) == b"q"


def test_every_listener_is_served_and_named(bench: Bench) -> None:
    servers = [make_server(), make_server()]
    bench.pool(*servers)
    for server in servers:
        bench.hold(server)

    assert [line[2] for line in bench.notes.lines] == [0, 1]


def test_a_row_belongs_to_one_connection_at_a_time(bench: Bench) -> None:
    bench.pool(make_server())
    bench.hold()
    bench.hold()

    assert {line[1] for line in bench.notes.lines} == {0, 1}


def test_datagrams_are_carried_at_the_same_time(bench: Bench) -> None:
    class Pair(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            meeting.wait(PATIENCE)
            data, sock = self.request
            sock.sendto(data, self.client_address)

    meeting = threading.Barrier(2)
    server = make_server(Pair, socketserver.UDPServer)
    bench.pool(server)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.sendto(b"1", server.server_address)
        client.sendto(b"2", server.server_address)

        assert sorted([client.recv(10), client.recv(10)]) == [b"1", b"2"]


def test_a_datagram_counts_while_it_is_handled(bench: Bench) -> None:
    class Gated(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            begun.set()
            go_on.wait(PATIENCE)

    begun, go_on = threading.Event(), threading.Event()
    server = make_server(Gated, socketserver.UDPServer)
    pool = bench.pool(server)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"1", server.server_address)
    assert begun.wait(PATIENCE)

    pool.drain()
    assert bench.changes.wait_until(lambda: not pool.accepting)
    assert pool.open_connections == 1
    go_on.set()
    assert bench.changes.wait_until(lambda: pool.open_connections == 0)


def test_abort_ends_what_a_handler_waits_for(bench: Bench) -> None:
    pool = bench.pool(make_server())
    clients = [bench.hold(), bench.hold()]

    pool.abort()

    assert [client.recv(1) for client in clients] == [b"", b""]
    assert bench.changes.wait_until(lambda: pool.open_connections == 0)


def test_one_connection_is_cut_if_it_is_still_the_one_that_is_meant(bench: Bench) -> None:
    pool = bench.pool(make_server())
    first, second = bench.hold(), bench.hold()
    first_row = min(thread.row for thread in pool._busy)

    pool.cut_row(first_row, lambda: False)
    pool.cut_row(first_row, lambda: True)

    assert first.recv(1) == b""
    second.sendall(b"x")
    assert second.recv(1) == b"x"


@pytest.mark.parametrize(
    "raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=lambda e: type(e).__name__
)
def test_what_no_hook_catches_ends_its_connection_only(
    bench: Bench, raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    class Raises(Echo):
        def handle(self) -> None:
            super().handle()
            raise raised

    pool = bench.pool(make_server(Raises), threads=1)
    with bench.hold() as client:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    bench.hold()

    assert pool.open_connections == 1
    assert len(caplog.records) == 1


def test_a_verify_request_that_raises_ends_its_connection_only(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Server(socketserver.TCPServer):
        answers = iter([Fails("unsure")])

        def verify_request(self, request: Any, client_address: Any) -> bool:
            for answer in self.answers:
                raise answer
            return True

    pool = bench.pool(make_server(server_class=Server), threads=1)
    assert bench.connect().recv(1) == b""
    bench.hold()

    assert pool.open_connections == 1
    assert "Fails: unsure" in caplog.text


@pytest.mark.parametrize("hook", ["handle_error", "shutdown_request"])
def test_a_hook_for_the_end_that_raises_ends_its_connection_only(
    bench: Bench, hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Server(socketserver.TCPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            if hook == "handle_error":
                raise Fails(hook)

        def shutdown_request(self, request: Any) -> None:
            if hook == "shutdown_request":
                raise Fails(hook)
            super().shutdown_request(request)

    class Raises(Echo):
        def handle(self) -> None:
            super().handle()
            raise ValueError

    pool = bench.pool(make_server(Raises, Server), threads=1)
    with bench.hold() as client:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    bench.hold()

    assert pool.open_connections == 1
    assert f"Fails: {hook}" in caplog.text


def test_get_request_that_raises_anything_does_not_end_the_service(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "_CALM", 0.01)

    class Server(socketserver.TCPServer):
        failures = iter([Fails("odd"), SystemExit()])

        def get_request(self) -> Any:
            for failure in self.failures:
                raise failure
            return super().get_request()

    bench.pool(make_server(server_class=Server), threads=1)
    bench.hold()

    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


def test_an_oserror_of_get_request_loses_that_request_only(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Server(socketserver.TCPServer):
        failures = iter([ConnectionAbortedError(errno.ECONNABORTED, "gone"), PermissionError(errno.EPERM, "no")])

        def get_request(self) -> Any:
            request, client_address = super().get_request()
            for failure in self.failures:
                request.close()
                raise failure
            return request, client_address

    bench.pool(make_server(server_class=Server))
    for _ in range(2):
        assert bench.connect().recv(1) == b""
    bench.hold()

    assert caplog.records == []


def test_a_shortage_is_said_once_and_the_listener_rests_alone(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Starved(socketserver.TCPServer):
        attempts = 0

        def get_request(self) -> Any:
            self.attempts += 1
            if self.attempts < 3:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return super().get_request()

    starved, healthy = make_server(server_class=Starved), make_server()
    bench.pool(starved, healthy)
    client = bench.connect(starved)
    bench.hold(healthy)

    assert bench.talk(client) == b"x"
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_a_full_queue_is_finished_in_spite_of_a_shortage(bench: Bench) -> None:
    class Starved(socketserver.TCPServer):
        short = False

        def get_request(self) -> Any:
            if self.short:
                self.short = False
                raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
            return super().get_request()

    server = make_server(server_class=Starved)
    pool = bench.pool(server, threads=1)
    held = bench.hold()
    [queued] = queue(bench, 1)
    server.short = True

    pool.drain({0})
    held.close()

    assert queued.recv(1) == b"q"
    queued.close()
    assert bench.changes.wait_until(lambda: not pool.accepting)


def test_what_nobody_else_takes_is_taken_after_a_moment(bench: Bench) -> None:
    bench.notes.advice = 1.0
    pool = bench.pool(make_server())

    assert [bench.talk(bench.hold()) for _ in range(3)] == [b"x"] * 3
    assert pool.open_connections == 3


def test_what_somebody_else_takes_is_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefork.serving.spread.MOMENTS", (PATIENCE,))
    bench.notes.advice = 1.0
    server = make_server()
    pool = bench.pool(server)
    with bench.connect() as client:
        assert bench.notes.asked.wait(PATIENCE)
        taken, _ = server.socket.accept()
        with taken:
            taken.sendall(b"mine")
            assert client.recv(10) == b"mine"
    bench.notes.advice = 0.0

    pool.drain()  # which ends the moment
    assert bench.changes.wait_until(lambda: not pool.accepting)
    assert bench.notes.lines == []


def test_threads_without_work_leave(bench: Bench) -> None:
    pool = bench.pool(make_server(), idle_time=0.01)
    held = [bench.hold() for _ in range(3)]
    threads = threads_of(pool)
    assert len(threads) == 4

    for client in held:
        client.close()
    for thread in threads:
        if thread is not pool._leader:
            thread.join(PATIENCE)

    assert len(threads_of(pool)) == 1
    assert [bench.hold() for _ in range(3)]


def test_rows_and_names_are_not_shared_by_living_threads(bench: Bench) -> None:
    pool = bench.pool(make_server())
    assert [bench.hold() for _ in range(3)]
    threads = threads_of(pool)

    assert sorted(thread.row for thread in threads) == [0, 1, 2, 3]
    assert len({thread.name for thread in threads}) == 4
    assert all(thread.daemon and thread.name.startswith("prefork-") for thread in threads)


def test_the_row_of_a_thread_that_has_left_is_used_again(bench: Bench) -> None:
    pool = bench.pool(make_server(), threads=2, idle_time=0.01)
    for _ in range(3):
        held = bench.hold()
        threads = threads_of(pool)
        held.close()
        for thread in threads:
            if thread is not pool._leader:
                thread.join(PATIENCE)

    assert {line[1] for line in bench.notes.lines} <= {0, 1}


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=repr)
def test_without_new_threads_those_there_are_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def cannot_start(self: threading.Thread) -> None:
        raise error

    pool = bench.pool(make_server())
    monkeypatch.setattr(PoolThread, "start", cannot_start)
    for _ in range(3):
        bench.hold().close()
    held = bench.hold()
    assert len([record for record in caplog.records if "cannot start a thread" in record.message]) == 1

    monkeypatch.undo()
    held.close()
    assert [bench.hold() for _ in range(3)]
    assert pool.open_connections >= 3


def test_accepting_goes_on_once_threads_can_be_started_again_although_every_connection_stays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def cannot_start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    now = 100.0
    monkeypatch.setattr(shortage, "monotonic", lambda: now)
    pool = bench.pool(make_server())
    with monkeypatch.context() as scarce:
        scarce.setattr(PoolThread, "start", cannot_start)
        held = bench.hold()
        pool.tend()
        pool.tend()
        [waiting] = queue(bench, 1)

    pool.tend()

    assert waiting.recv(1) == b"q"
    assert bench.talk(held) == b"x"
    now += 1
    pool.tend()
    pool.tend()
    said = [record.message.split(":")[0] for record in caplog.records]
    assert said == ["cannot start a thread", "threads can be started again"]


def test_a_drain_while_no_thread_can_be_started_takes_effect(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def drains_instead(self: threading.Thread) -> None:
        pool.drain()
        raise RuntimeError("can't start new thread")

    pool = bench.pool(make_server())
    monkeypatch.setattr(PoolThread, "start", drains_instead)
    bench.hold()

    assert not pool.accepting


def test_a_leader_that_is_killed_is_replaced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    pool = bench.pool(make_server())
    bench.hold().close()
    leader = pool._leader
    assert leader is not None
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(leader.ident or 0), ctypes.py_object(Fails)) == 1
    bench.connect().close()  # whoever takes this one dies
    leader.join(PATIENCE)

    bench.hold()
    assert leader not in pool._busy  # by identity: what it had not accepted yet, its successor serves meanwhile


def test_an_idle_pool_does_not_wake_up(bench: Bench) -> None:
    pool = bench.pool(make_server(), idle_time=0.01)
    bench.hold().close()
    for thread in threads_of(pool):
        if thread is not pool._leader:
            thread.join(PATIENCE)
    [leader] = threads_of(pool)

    assert system_call_of(leader).split()[3] == "0xffffffff"  # poll(2): no time-out


def system_call_of(thread: threading.Thread) -> str:
    """What the thread is blocked in: the number and arguments of proc(5), /proc/pid/syscall."""
    path = Path(f"/proc/self/task/{thread.native_id}/syscall")
    if not os.access(path, os.R_OK) or os.uname().machine != "x86_64":
        pytest.skip("the kernel does not tell system calls")
    while not (text := path.read_text()).startswith("7 "):
        pass  # on its way there
    return text


@pytest.mark.parametrize("tick", [promotion.TICK, math.inf], ids=["as it is", "everything is quick"])
def test_drains_at_any_moment_lose_no_connection_that_was_accepted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tick: float
) -> None:
    monkeypatch.setattr(promotion, "TICK", tick)
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(15):
            drain_under_load(bench)
    finally:
        sys.setswitchinterval(switch_interval)


def drain_under_load(bench: Bench) -> None:
    """Several clients connect and talk while the pool drains: each hears its answer, or was never accepted."""
    server = make_server(Once)
    pool = bench.pool(server, threads=3)
    results: list[bytes] = []
    warm = threading.Semaphore(0)

    def visit() -> None:
        for _ in range(10):
            try:
                with socket.create_connection(server.server_address, PATIENCE) as client:
                    client.sendall(b"x")
                    results.append(client.recv(1))
                    warm.release()
            except ConnectionError:
                return  # it was in the queue; to serve that, too, is what finishing is for

    visitors = [threading.Thread(target=visit) for _ in range(3)]
    for visitor in visitors:
        visitor.start()
    for _ in range(5):
        assert warm.acquire(timeout=PATIENCE)
    pool.drain()
    assert bench.changes.wait_until(lambda: not pool.accepting)
    server.server_close()
    for visitor in visitors:
        visitor.join(PATIENCE)
    assert bench.changes.wait_until(lambda: pool.open_connections == 0)
    assert len(results) == len([line for line in bench.notes.lines if line[0] == "closed"])
    bench.notes.lines.clear()


class Once(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(self.request.recv(1))
