"""The admin helper: what it shows is true, and nothing that is done to it reaches the service."""

import os
import re
import select
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from prefork.address import parse_bind
from prefork.testing import Address, Server, _reachable
from tests.process.conftest import Serve
from tests.process.test_control import control
from tests.process.test_deaths import children_of, wait_for_end
from tests.process.test_upgrade import stopping, upgrade
from tests.support import tools
from tests.support.admin import address_of, exchange, fetch, fetch_json, metrics, read_all, total, url_of
from tests.support.application import WAITING_FOR_GO, write_application
from tests.support.clients import LineClient, ask_once, connect, eventually
from tests.support.processes import suspended

ANYWHERE = "tcp://127.0.0.1:0"
PAGES = " admin pages: "


def helper_of(server: Server, number: int = 1) -> int:
    """Wait until the admin helper, or the one that follows it, serves; return its pid."""
    found = re.search(r" pid=(\d+)$", server.wait_for_log(PAGES, count=number).rstrip())
    assert found is not None
    return int(found[1])


def ask_many(address: Address, times: int) -> None:
    """Ask one question on each of so many connections."""

    def ask(count: int) -> None:
        for _ in range(count):
            assert ask_once(address, "version") == "1"

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(ask, [times // 8] * 8))


def shown(admin: Address) -> tuple[float, float]:
    """Return how many connections were served and how many are open, as the metrics tell: those of a second ago."""
    told = metrics(admin)
    return total(told, "prefork_connections_served_total"), total(told, "prefork_connections_open")


def counted(server: Server) -> tuple[int, int]:
    """Return how many connections were served, and how many failed."""
    totals = server.status()["totals"]
    return totals["served"], totals["failed"]


@pytest.mark.needs("promtool", "curl")
@pytest.mark.timeout(600)
def test_the_counts_agree_with_the_clients_after_a_reload_and_a_killed_worker(serve: Serve) -> None:
    with serve(workers=4, admin=ANYWHERE) as server:
        address, admin = server.address, address_of(server)
        ask_many(address, 4000)
        server.reload()
        ask_many(address, 3000)
        with LineClient(address) as doomed, LineClient(address) as failing:
            victim = int(doomed.ask("pid"))
            failing.send("raise a mistake")
            failing.wait_for_end()
            eventually(lambda: counted(server) == (7000, 1))
            os.kill(victim, signal.SIGKILL)
            doomed.wait_for_end()
        server.wait_for_log(" worker lost: ")
        eventually(lambda: len(server.workers()) == 4)
        ask_many(address, 3000)
        with LineClient(address) as held:
            held.ask("version")
            eventually(lambda: counted(server) == (10_000, 1))
            eventually(lambda: shown(admin) == (10_000, 1))

            told = metrics(admin)
            label = f'{{listener="{server.status()["listeners"][0]["address"]}"}}'
            assert told["prefork_connections_served_total" + label] == 10_000
            assert told["prefork_connections_failed_total" + label] == 1
            assert told["prefork_connections_lost_total" + label] == 1
            assert told["prefork_connections_open" + label] == 1
            assert told["prefork_request_duration_seconds_count" + label] == 10_001
            assert told['prefork_worker_restarts_total{reason="killed by SIGKILL that we did not send"}'] == 1
            assert told['prefork_reloads_total{result="complete"}'] == 1
            assert told['prefork_workers{state="serving",generation="2"}'] == 4
            assert told['prefork_threads{state="busy"}'] == 1
            assert total(told, "prefork_worker_resident_bytes") > total(told, "prefork_worker_proportional_bytes") > 0
            scraped = tools.run(["curl", "-sf", f"{url_of(server)}metrics"])
            complaints = tools.run(["promtool", "check", "metrics"], stdin=scraped.stdout)
            assert (complaints.stdout, complaints.stderr) == (b"", b"")


def test_each_listener_is_counted_apart_and_remembered_when_it_is_gone(serve: Serve, project: Path) -> None:
    config = project / "prefork.toml"
    bind = [f"unix:{project}/one", f"unix:{project}/two"]
    config.write_text(f"bind = {bind}\n")
    with serve(bind=[], admin=ANYWHERE) as server:
        ask_once(str(project / "one"), "version")
        ask_once(str(project / "two"), "version")
        ask_once(str(project / "two"), "version")
        admin = address_of(server)
        config.write_text(f"bind = {bind[:1]}\n")
        server.reload()

        counted = "prefork_connections_accepted_total"
        eventually(lambda: total(metrics(admin), counted) == 3)
        assert metrics(admin)[f'{counted}{{listener="{bind[1]}"}}'] == 2


@pytest.mark.parametrize("kind", ["socketserver.ThreadingTCPServer", "socketserver.TCPServer"])
def test_connections_of_foreign_servers_are_timed_one_by_one(serve: Serve, project: Path, kind: str) -> None:
    write_application(project, extra=f"\nclass Server({kind}):\n    RequestHandlerClass = Handler\n")
    with serve("app:Server", workers=1, admin=ANYWHERE) as server:
        started = time.monotonic()
        ask_once(server.address, "version")
        most = 1 if time.monotonic() - started < 1 else 2
        ask_once(server.address, "spin 1.5")
        eventually(lambda: sum(server.status()["connections"][0]["durations"]) == 2)

        assert 1 <= sum(server.status()["connections"][0]["durations"][10:]) <= most  # above a second


@pytest.mark.fault("full-queue")
def test_a_full_queue_and_dropped_datagrams_are_seen(serve: Serve) -> None:
    with serve(bind=[f"{ANYWHERE}?backlog=1", "udp://127.0.0.1:0"], workers=1, admin=ANYWHERE) as server:
        admin, stream, datagrams = address_of(server), *server.addresses
        worker = server.workers()[0]["pid"]
        with suspended(worker), ExitStack() as clients, socket.socket(type=socket.SOCK_DGRAM) as sender:
            for _ in range(4):
                client = clients.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(stream)
            for _ in range(2000):
                sender.sendto(b"x" * 1000, datagrams)

            eventually(lambda: total(metrics(admin), "prefork_datagram_drops_total") > 0)
            told = metrics(admin)
        assert total(told, "prefork_accept_queue_length") == 2  # one more than the backlog
        assert total(told, "prefork_accept_queue_overflows_total") > 0
        assert total(told, "prefork_datagram_queue_bytes") > 0


def test_the_queue_of_a_unix_listener_is_seen(serve: Serve, project: Path) -> None:
    tools.require_unix_queues()
    with serve(bind=[f"unix:{project}/socket?backlog=5"], workers=1, admin=ANYWHERE) as server:
        admin = address_of(server)
        with suspended(server.workers()[0]["pid"]), ExitStack() as clients:
            for _ in range(3):
                clients.enter_context(connect(server.address))

            eventually(lambda: total(metrics(admin), "prefork_accept_queue_length") == 3)
            assert total(metrics(admin), "prefork_accept_queue_limit") == 5


def test_it_tells_of_start_readiness_and_stop(serve: Serve, project: Path) -> None:
    write_application(
        project,
        extra=WAITING_FOR_GO,
    )
    admin = f"unix:{project}/admin"
    with serve(admin=admin, wait_until_ready=False, drain_delay=600) as server:
        server.wait_for_log(PAGES)
        address = _reachable(parse_bind(admin))
        assert [fetch(address, page) for page in ("/livez", "/readyz", "/startupz")] == [
            (200, "alive\n"),
            (503, "not ready: starting\n"),
            (503, "not started\n"),
        ]
        (project / "go").touch()
        eventually(lambda: fetch(address, "/readyz") == (200, "ready\n"))
        assert fetch(address, "/startupz") == (200, "started\n")
        server.signal(signal.SIGTERM)
        eventually(lambda: fetch(address, "/readyz") == (503, "not ready: stopping\n"))
        assert fetch(address, "/livez") == (200, "alive\n")
        server.signal(signal.SIGINT)

        assert server.wait() == 0
        assert not (project / "admin").exists()


def test_the_status_is_that_of_the_command(serve: Serve) -> None:
    with serve(admin=ANYWHERE) as server:
        admin = address_of(server)
        eventually(lambda: fetch(admin, "/readyz")[0] == 200)
        shown, told = fetch_json(admin, "/status.json"), server.status()

        assert shown.keys() == told.keys()
        assert [worker["pid"] for worker in shown["workers"]] == [worker["pid"] for worker in told["workers"]]


def test_decisions_are_shown_with_their_reasons(serve: Serve) -> None:
    with serve(workers=1, admin=ANYWHERE) as server:
        os.kill(server.workers()[0]["pid"], signal.SIGKILL)
        server.wait_for_log(" worker lost: ")
        lost = [one for one in server.status()["decisions"] if one["what"] == "worker lost"]

        assert "killed by SIGKILL" in lost[0]["why"]
        assert lost[0]["level"] == "warning"


def test_a_socket_file_whose_name_is_no_unicode_is_shown_with_escapes(serve: Serve, project: Path) -> None:
    with serve(bind=[f"unix:{project}/\udcff"], admin=ANYWHERE) as server:
        place = rf"unix:{project}/\udcff"

        assert [one["bind"] for one in server.status()["listeners"]] == [place]
        assert fetch_json(address_of(server), "/status.json")["listeners"][0]["address"] == place
        assert ask_once(f"{project}/\udcff", "version") == "1"
        eventually(lambda: total(metrics(address_of(server)), "prefork_connections_served_total") == 1)


def test_it_works_without_a_control_socket(serve: Serve) -> None:
    with serve(admin=ANYWHERE, control="off") as server:
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", server.wait_for_log(PAGES))
        assert found is not None

        eventually(lambda: fetch(("127.0.0.1", int(found[1])), "/readyz")[0] == 200)


def test_a_frozen_master_is_not_alive(serve: Serve) -> None:
    with serve(admin=ANYWHERE) as server:
        admin = address_of(server)
        server.signal(signal.SIGSTOP)
        eventually(lambda: fetch(admin, "/livez")[0] == 503)
        assert fetch(admin, "/readyz")[0] == 503
        server.signal(signal.SIGCONT)

        eventually(lambda: fetch(admin, "/readyz")[0] == 200)


def test_it_serves_while_workers_cannot(serve: Serve) -> None:
    with serve(workers=2, admin=ANYWHERE) as server:
        admin = address_of(server)
        with suspended(*(worker["pid"] for worker in server.workers())):
            assert fetch(admin, "/metrics")[0] == 200


def test_a_dead_helper_is_replaced_and_was_no_worker(serve: Serve) -> None:
    with serve(workers=2, admin=ANYWHERE) as server:
        admin, first = address_of(server), helper_of(server)
        os.kill(first, signal.SIGKILL)
        second = helper_of(server, 2)

        assert second != first
        assert fetch(admin, "/livez")[0] == 200
        assert server.status()["totals"]["restarts"] == 0
        assert "killed by SIGKILL; another one starts" in server.wait_for_log("admin helper lost: ")
        assert len(server.workers()) == 2


def target_of(descriptor: Path) -> str:
    """Return what a descriptor of another process leads to; nothing if it has just been closed."""
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:
        return ""


def test_it_has_no_code_and_no_listener_of_the_application(serve: Serve, project: Path) -> None:
    write_application(project, extra="\nimport colorsys, _sqlite3\n")
    with serve(admin=ANYWHERE, name="shop") as server:
        process = Path(f"/proc/{helper_of(server)}")
        sockets = [link for fd in (process / "fd").iterdir() if (link := target_of(fd)).startswith("socket:")]

        assert (process / "cmdline").read_text().startswith("prefork: admin [shop]")
        assert "_sqlite3" not in (process / "maps").read_text()
        assert len(sockets) == 2  # its channel and its listener


def test_it_dies_with_the_master(serve: Serve) -> None:
    with serve(admin=ANYWHERE) as server:
        pids = children_of(server.pid)
        assert helper_of(server) in pids
        server.signal(signal.SIGKILL)

        wait_for_end(pids)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_of_the_process_group_do_it_no_harm(serve: Serve, number: signal.Signals) -> None:
    with serve(admin=ANYWHERE) as server:
        admin = address_of(server)
        os.kill(helper_of(server), number)

        assert fetch(admin, "/livez")[0] == 200
        assert "admin helper lost" not in server.log


@pytest.mark.fault("admin-client")
@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", b"405 Method Not Allowed"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421 Misdirected Request"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, b"431 Request Header Fields Too Large"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"408 Request Timeout"),
        (b"\x16\x03\x01\x00\xee\r\n\r\n", b"400 Bad Request"),
    ],
)
def test_what_is_no_plain_request_is_refused_with_a_reason(serve: Serve, sent: bytes, answer: bytes) -> None:
    with serve(workers=1, admin=ANYWHERE) as server:
        answers = exchange(address_of(server), sent)

        assert answers.startswith(b"HTTP/1.1 " + answer)
        assert answers.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_foreign_name_is_refused_at_either_loopback_address(serve: Serve, host: str) -> None:
    with serve(workers=1, admin="tcp://[::]:0") as server:
        port = parse_bind(server.status()["admin"]).port
        answer = exchange((host, port), b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")

        assert answer.startswith(b"HTTP/1.1 421 ")


def test_head_is_answered_without_the_page(serve: Serve) -> None:
    with serve(workers=1, admin=ANYWHERE) as server:
        head = exchange(address_of(server), b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 200 OK")
        assert head.endswith(b"\r\n\r\n")
        assert int(re.search(rb"Content-Length: (\d+)", head)[1]) > 10_000  # type: ignore[index]  # it is there


@pytest.mark.fault("admin-client")
def test_slow_and_silent_clients_delay_nobody(serve: Serve) -> None:
    with serve(workers=1, admin=ANYWHERE) as server:
        admin = address_of(server)

        def is_served_beside_them() -> bool:
            """Have a page while more clients than the helper has threads are in the middle of their requests."""
            with ExitStack() as clients:
                slow = [clients.enter_context(connect(admin)) for _ in range(80)]
                for client in slow[:40]:
                    client.sendall(b"GET /metr")
                for client in slow[:10]:
                    client.sendall(b"ics")
                assert fetch(admin, "/livez")[0] == 200
                return not select.select(slow, [], [], 0)[0]  # none of them had to be sent away before

        eventually(is_served_beside_them)
        assert fetch(admin, "/metrics")[0] == 200
        assert ask_once(server.address, "version") == "1"


@pytest.mark.fault("admin-client")
def test_clients_that_were_refused_and_stay_delay_nobody(serve: Serve) -> None:
    with serve(workers=1, admin=ANYWHERE) as server, ExitStack() as clients:
        admin = address_of(server)
        for _ in range(80):
            client = clients.enter_context(connect(admin))
            client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 405"
            client.sendall(b"more of it")

        assert fetch(admin, "/livez")[0] == 200
        assert read_all(client).endswith(b"only GET and HEAD are served\n")


@pytest.mark.fault("admin-client")
def test_a_scraper_that_does_not_read_holds_no_thread(serve: Serve) -> None:
    with serve(workers=1, admin=ANYWHERE) as server:
        admin = address_of(server)
        lazy = []
        for _ in range(40):
            lazy.append(connect(admin))
            lazy[-1].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert fetch(admin, "/metrics")[0] == 200
        assert read_all(lazy[-1]).endswith(b"</html>\n")
        for client in lazy:
            client.close()


def test_a_hundred_scrapers_do_not_make_the_master_describe_itself_more_often(serve: Serve) -> None:
    with serve(workers=1, admin=ANYWHERE) as server:
        admin = address_of(server)
        seen: set[str] = set()
        lock = threading.Lock()

        def scrape(_: int) -> None:
            uptime = metrics(admin)["prefork_uptime_seconds"]
            with lock:
                seen.add(str(uptime))

        first = metrics(admin)["prefork_uptime_seconds"]
        with ThreadPoolExecutor(8) as scrapers:
            list(scrapers.map(scrape, range(200)))
        last = metrics(admin)["prefork_uptime_seconds"]

        assert len(seen) <= last - first + 2


def test_a_busy_port_is_a_listener_that_cannot_be_had(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with serve(admin=address, wait_until_ready=False) as server:
            assert server.wait() == 4
            assert f"cannot bind {address}: address already in use" in server.log


def test_a_change_of_its_address_takes_a_restart(serve: Serve, project: Path) -> None:
    config = project / "prefork.toml"
    config.write_text(f"admin = '{ANYWHERE}'\n")
    with serve() as server:
        admin = address_of(server)
        config.write_text("admin = 'off'\n")
        server.reload()

        server.wait_for_log(f"admin not changed: it stays {ANYWHERE} until the next start")
        assert fetch(admin, "/livez")[0] == 200


def test_the_status_can_be_told_while_only_former_generations_drain(serve: Serve) -> None:
    with serve(workers=1, admin=ANYWHERE) as server, LineClient(server.address) as client:
        client.ask("version")
        server.reload()
        server.signal(signal.SIGTERM)
        server.wait_for_log("released generation 2")

        assert server.status()["state"] == "stopping"
        client.close()
        assert server.wait() == 0
        assert "internal error" not in server.log


def test_after_an_upgrade_the_new_master_answers_at_the_same_address(serve: Serve) -> None:
    with serve(workers=1, admin=ANYWHERE) as server:
        admin = address_of(server)
        with stopping(upgrade(server)) as pid:
            assert server.process.wait(30) == 0

            eventually(lambda: fetch_json(admin, "/status.json")["pid"] == pid)


def test_an_upgrade_that_fails_leaves_the_old_helper_answering(serve: Serve, project: Path) -> None:
    with serve(workers=1, admin=ANYWHERE) as server:
        admin = address_of(server)
        (project / "app.py").write_text("broken(")
        assert control(server, "upgrade").returncode == 1

        assert fetch_json(admin, "/status.json")["pid"] == server.pid
        write_application(project)
