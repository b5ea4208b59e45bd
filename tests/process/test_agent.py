"""HAProxy asks the agent, and does what it says."""

import csv
import io
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.support.admin import address_of, exchange
from tests.support.clients import LineClient, accepts, eventually

ANYWHERE = "tcp://127.0.0.1:0"
CONFIGURATION = """
global
    stats socket {directory}/stats level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
backend app
    server one {server} weight 100 check inter 200ms agent-check agent-addr {host} agent-port {port} agent-inter 200ms
"""


@contextmanager
def haproxy(directory: Path, server: Server) -> Iterator[Path]:
    """Run HAProxy before the server; yield its command socket."""
    status = server.status()
    host, port = status["agent"].removeprefix("tcp://").split(":")
    where = status["listeners"][0]["address"].removeprefix("tcp://")
    configuration = directory / "haproxy.cfg"
    configuration.write_text(CONFIGURATION.format(directory=directory, server=where, host=host, port=port))
    process = subprocess.Popen(["haproxy", "-db", "-f", str(configuration)], stderr=subprocess.PIPE)
    try:
        eventually(lambda: accepts(directory / "stats"))
        yield directory / "stats"
    finally:
        process.kill()
        process.communicate()


def seen(stats: Path) -> dict[str, str]:
    """Return what HAProxy thinks of the server."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(stats))
        client.sendall(b"show stat\n")
        text = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    return next(row for row in csv.DictReader(io.StringIO(text.removeprefix("# "))) if row["svname"] == "one")


@pytest.mark.needs("haproxy")
def test_haproxy_follows_the_free_threads_and_the_drain(serve: Serve, tmp_path: Path) -> None:
    with (
        serve(workers=1, threads=4, agent=ANYWHERE, drain_delay=600, drain_timeout=1) as server,
        haproxy(tmp_path, server) as stats,
    ):
        # Its own check opens connections, too: they come and go.
        eventually(lambda: seen(stats)["agent_status"] == "L7OK" and int(seen(stats)["weight"]) >= 75)
        with LineClient(server.address) as one, LineClient(server.address) as two:
            one.ask("version")
            two.ask("version")
            eventually(lambda: seen(stats)["weight"] in ("50", "25"))
        eventually(lambda: seen(stats)["weight"] == "100")
        server.signal(signal.SIGTERM)
        eventually(lambda: "DRAIN" in seen(stats)["status"])
        server.signal(signal.SIGINT)

        assert server.wait() == 0


@pytest.mark.needs("haproxy")
def test_haproxy_is_told_that_the_drain_is_over(serve: Serve, tmp_path: Path) -> None:
    with serve(workers=1, agent=ANYWHERE) as server, haproxy(tmp_path, server) as stats:
        eventually(lambda: seen(stats)["status"] == "UP")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(stats))
            client.sendall(b"set server app/one state drain\n")
            client.recv(100)

        eventually(lambda: seen(stats)["status"] == "UP")


@pytest.mark.needs("haproxy")
def test_haproxy_sends_nobody_to_one_that_accepts_no_longer_until_it_is_back(serve: Serve, tmp_path: Path) -> None:
    with serve(workers=1, agent=ANYWHERE) as server, haproxy(tmp_path, server) as stats:
        again = {"bind": [server.status()["listeners"][0]["address"]], "agent": server.status()["agent"]}
        eventually(lambda: seen(stats)["status"] == "UP")
        with LineClient(server.address) as client:
            client.ask("version")
            server.signal(signal.SIGTERM)
            eventually(lambda: "MAINT" in seen(stats)["status"])
            assert client.ask("version") == "1"
        assert server.wait() == 0
        with serve(workers=1, **again):
            eventually(lambda: seen(stats)["status"] == "UP")


def test_the_agent_needs_no_admin_pages(serve: Serve) -> None:
    with serve(workers=2, threads=5, agent=ANYWHERE) as server:
        eventually(lambda: exchange(address_of(server, "agent"), b"") == b"up ready 100% maxconn:10\n")

        assert "admin pages" not in server.log
