"""The limits: how many connections the whole server has, how many one address, and how long one may be silent."""

import os
import signal
import socket
from pathlib import Path

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.support.addresses import host_and_port
from tests.support.application import write_application
from tests.support.clients import TIME_LIMIT, LineClient, ask_once, eventually, steady_load
from tests.support.processes import cpu_seconds


def hold(server: Server, count: int) -> list[LineClient]:
    """Clients that are being served."""
    held = [LineClient(server.address) for _ in range(count)]
    for client in held:
        assert client.ask("echo held") == "held"
    return held


def from_address(server: Server, source: str) -> LineClient:
    """A client with this loopback address as its own."""
    return LineClient(server.address, source=(source, 0))


def test_at_the_limit_of_the_whole_server_connections_wait_until_one_ends(serve: Serve) -> None:
    with serve(workers=3, limit_connections=5) as server:
        held = hold(server, 5)
        waiting = [LineClient(server.address) for _ in range(5)]
        for client in waiting:
            client.send("echo at last")
        server.wait_for_log("no room: ")
        assert server.status()["totals"]["accepted"] == 5

        for client, successor in zip(held, waiting, strict=True):
            client.close()
            assert successor.read() == "at last"
        for client in waiting:
            client.close()


def test_an_overload_is_announced_once_for_all_workers_and_its_end_too(serve: Serve) -> None:
    with serve(workers=3, limit_connections=4) as server:
        held = hold(server, 4)
        waiting = [LineClient(server.address) for _ in range(20)]
        for client in waiting:
            client.send("echo x")
        server.wait_for_log("no room")
        for client in held:
            client.close()
        for client in waiting:
            assert client.read() == "x"
            client.close()
        server.wait_for_log("room again")
        assert ask_once(server.address, "echo still") == "still"
        server.stop()

        assert server.log.count("no room") == 1
        assert server.log.count("room again") == 1


def test_a_server_at_its_limit_costs_no_cpu(serve: Serve) -> None:
    with serve(workers=2, limit_connections=2) as server:
        held = hold(server, 2)
        waiting = [LineClient(server.address) for _ in range(10)]
        server.wait_for_log("no room")
        pids = [worker["pid"] for worker in server.workers()]
        before = sum(map(cpu_seconds, pids))
        idle = LineClient(server.address)
        idle._socket.settimeout(2)
        with pytest.raises(TimeoutError):
            idle.ask("echo nobody listens for two seconds")

        assert sum(map(cpu_seconds, pids)) - before < 0.4
        for client in [*held, *waiting, idle]:
            client.close()


def test_the_places_of_a_killed_worker_are_free_again(serve: Serve) -> None:
    with serve(workers=2, limit_connections=4, limit_per_peer=4) as server:
        held = hold(server, 4)
        slots = {client: client.ask("pid") for client in held}
        victim = slots[held[0]]
        lost = [client for client in held if slots[client] == victim]
        waiting = [LineClient(server.address) for _ in range(len(lost))]
        for client in waiting:
            client.send("echo in its place")
        server.wait_for_log("no room")

        os.kill(int(victim), signal.SIGKILL)

        for client in waiting:
            assert client.read() == "in its place"
        for client in held:
            if client not in lost:
                assert client.ask("echo x") == "x"
        for client in [*held, *waiting]:
            client.close()


def test_connections_that_an_old_generation_still_has_count(serve: Serve) -> None:
    with serve(workers=2, limit_connections=3, limit_per_peer=3) as server:
        held = hold(server, 3)
        server.reload()
        assert held[0].ask("generation") == "1"
        with LineClient(server.address) as waiting:
            waiting.send("generation")
            server.wait_for_log("no room: ")
            held[0].close()

            assert waiting.read() == "2"
        for client in held:
            client.close()


def test_a_peer_with_too_many_connections_is_refused_one_more_and_others_are_served(serve: Serve) -> None:
    with serve(workers=3, limit_per_peer=4, access_log="-") as server:
        held = hold(server, 4)
        for _ in range(10):
            with LineClient(server.address) as surplus, pytest.raises(ConnectionError):
                surplus.ask("echo x")
        with from_address(server, "127.0.0.2") as other:
            assert other.ask("echo other") == "other"
        eventually(lambda: server.status()["connections"][0]["refused"] == 10)
        held.pop().close()
        eventually(lambda: _is_served(server))
        refused = server.status()["connections"][0]["refused"]  # or more, until the end of the other was noticed

        for client in held:
            assert client.ask("echo x") == "x"
            client.close()
        server.stop()
        assert server.log.count("peer refused") == 1
        assert server.log.count("connection refused") == refused
        assert "127.0.0.1" in server.wait_for_log("peer refused")


def _is_served(server: Server) -> bool:
    try:
        return ask_once(server.address, "echo x") == "x"
    except ConnectionError:
        return False  # the end of the other one has not been noticed yet


def test_a_local_user_is_one_peer(serve: Serve, project: Path) -> None:
    with serve(workers=1, bind=[f"unix:{project}/socket"], limit_per_peer=2) as server:
        held = hold(server, 2)
        with LineClient(server.address) as surplus, pytest.raises(ConnectionError):
            surplus.ask("echo x")

        assert f"uid {os.getuid()}" in server.wait_for_log("peer refused")
        for client in held:
            client.close()


def test_a_stop_at_the_limit_serves_what_is_queued(serve: Serve) -> None:
    with serve(workers=2, limit_connections=2) as server:
        held = hold(server, 2)
        waiting = [LineClient(server.address) for _ in range(4)]
        for client in waiting:
            client.send("echo served")
        server.wait_for_log("no room")
        server.signal(signal.SIGTERM)
        server.wait_for_log("draining")
        for client in held:
            client.close()
        for client in waiting:
            assert client.read() == "served"
            client.close()

        assert server.wait() == 0


def test_a_silent_connection_is_closed_and_that_is_no_failure(serve: Serve) -> None:
    with serve(workers=1, idle_timeout=3) as server, LineClient(server.address) as client:
        assert client.ask("echo x") == "x"
        client.wait_for_end()

        assert "INFO" in server.wait_for_log("connection idle; closed")
        eventually(lambda: server.status()["totals"]["served"] == 1)
        assert server.status()["totals"]["failed"] == 0


def test_a_byte_now_and_then_prolongs_the_idle_timeout_and_not_the_handler_timeout(serve: Serve) -> None:
    with serve(workers=1, idle_timeout=3, handler_timeout=5) as server, LineClient(server.address) as client:
        drip_until_the_end(client)

        server.wait_for_log("handler overdue")
        assert "connection idle" not in server.log
        assert ask_once(server.address, "echo x") == "x"


def drip_until_the_end(client: LineClient) -> None:
    """Send a byte that ends no line every 0.2 s, until the server ends the connection."""
    client._socket.settimeout(0.2)
    for _ in range(int(TIME_LIMIT / 0.2)):
        try:
            client._socket.sendall(b"x")
            if client._socket.recv(1) == b"":
                return
        except TimeoutError:
            pass  # time for the next byte
        except ConnectionError:
            return


def test_a_time_out_of_the_handlers_own_wins(serve: Serve, project: Path) -> None:
    write_application(project, extra="\n\nclass Patient(Handler):\n    timeout = 60\n")
    with serve("app:Patient", workers=1, idle_timeout=0.2) as server, LineClient(server.address) as client:
        assert client.ask("eval self.request.gettimeout()") == "60.0"


def test_a_datagram_server_knows_no_idle_timeout(serve: Serve) -> None:
    with serve("app:Datagrams", workers=1, bind=["udp://127.0.0.1:0"], idle_timeout=5, limit_connections=1) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(TIME_LIMIT)
            client.sendto(b"x", host_and_port(server))

            assert client.recv(100) == b"1 x"


def test_a_server_that_the_limits_do_not_reach_is_warned_about(serve: Serve, project: Path) -> None:
    write_application(project, extra="\n\nclass Server(socketserver.ThreadingTCPServer):\n    pass\n")
    with serve("app:Server", handler="app:Handler", workers=1, limit_per_peer=1) as server:
        assert "Server accepts with its own code" in server.wait_for_log("limits not applied")


def test_an_overload_ends_for_a_worker_that_leaves(serve: Serve) -> None:
    with serve(workers=1, limit_connections=2) as server:
        held = hold(server, 2)
        with LineClient(server.address) as waiting:
            waiting.send("generation")
            server.wait_for_log("no room")
            server.reload()
            held.pop().close()
            assert waiting.read() == "2"
        server.wait_for_log("room again")

        assert held[0].ask("generation") == "1"
        held[0].close()


def test_at_the_limit_for_long_no_client_is_forgotten_and_no_place_is_lost(serve: Serve) -> None:
    with serve(workers=3, limit_connections=4) as server:
        with steady_load(server.address, clients=12) as crowd:
            crowd.wait_for_more(1500)
        assert crowd.failures == []

        for client in hold(server, 4):
            client.close()
