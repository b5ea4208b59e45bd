"""A site: three hosts that serve, HAProxy before them on a machine of its own, and one for clients, on one wire.

The machines are network namespaces. HAProxy is configured as docs/deploying.md tells an operator to.
"""

import csv
import http.client
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from prefork.testing import Server
from tests.support import tools
from tests.support.clients import TIME_LIMIT, LineClient, accepts, eventually
from tests.support.namespaces import inside, namespaces, set_filter

HOSTS = {"a": "10.0.0.11", "b": "10.0.0.12", "c": "10.0.0.13"}
BALANCER, CLIENT = "10.0.0.2", "10.0.0.3"
FRONT = (BALANCER, 80)
AGENT_PORT = 9997
DOCUMENT = Path(__file__).parents[2] / "docs" / "deploying.md"

Start = Callable[["Host"], AbstractContextManager[Server]]


class Host:
    """A machine with one server, which runs when the site is there."""

    def __init__(self, name: str, namespace: str, start: Start, servers: ExitStack) -> None:
        self.name = name
        self.address = HOSTS[name]
        self.namespace = namespace
        self._start = start
        self._servers = servers
        self.start()

    def start(self) -> None:
        """Run a server, and return when it is ready."""
        with inside(self.namespace):
            self.server = self._servers.enter_context(self._start(self))

    def order(self, command: str) -> None:
        """Run a command of `prefork` for the server; it must succeed."""
        with inside(self.namespace):
            tools.run([sys.executable, "-m", "prefork", command, "--pid", str(self.server.pid)])

    def wait_until_drained(self) -> None:
        """Return when no worker of an older generation is left."""
        with inside(self.namespace):
            eventually(lambda: self.server.workers("draining") == [])

    def kill(self) -> None:
        """Kill everything that runs on the machine at once."""
        pids = tools.run(["ip", "netns", "pids", self.namespace]).stdout.split()
        for number in (signal.SIGSTOP, signal.SIGKILL):  # so that nobody notices that another one has gone
            for pid in pids:
                os.kill(int(pid), number)
        self.server.wait()


class Balancer:
    """The running HAProxy."""

    def __init__(self, namespace: str, stats: Path) -> None:
        self._namespace = namespace
        self.stats = stats

    def seen(self, host: Host) -> dict[str, str]:
        """Return what HAProxy thinks of a host."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIME_LIMIT)
            client.connect(str(self.stats))
            client.sendall(b"show stat\n")
            text = b"".join(iter(lambda: client.recv(65536), b"")).decode()
        rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
        return next(row for row in rows if row["svname"] == host.name)

    def wait_until(self, host: Host, state: str) -> None:
        """Return when HAProxy shows a host as UP, DOWN or DRAIN; it may say more, such as who told it so."""
        eventually(lambda: self.seen(host)["status"].split()[0] == state)

    def wait_until_agent_is(self, host: Host, state: str) -> None:
        """Return when HAProxy's latest agent check ended so."""
        eventually(lambda: self.seen(host)["agent_status"] == state)

    def wait_until_taken_out(self, host: Host) -> None:
        """Return when HAProxy gives nothing new to a host, and what it gave has ended."""
        self.wait_until(host, "DRAIN")
        eventually(lambda: self.seen(host)["scur"] == "0")

    def retries(self, host: Host) -> int:
        """Return how often HAProxy had to try again because of a host, which clients do not notice."""
        return int(self.seen(host)["wretr"])

    def filter(self, rule: str) -> None:
        """Apply a rule of nft to all that comes to and goes from the balancer."""
        set_filter(self._namespace, rule)


class Failure(NamedTuple):
    """A request that got no answer, or not the right one."""

    began: float
    what: str


class Visitors:
    """Clients that make one HTTP request after another until told to stop, half of them on kept connections."""

    def __init__(self, namespace: str, clients: int) -> None:
        self._stop = threading.Event()
        self._news = threading.Condition()
        self.answers: Counter[str] = Counter()  # by host; under _news
        self.failures: list[Failure] = []  # under _news
        self._threads = [threading.Thread(target=self._run, args=(index % 2 == 0,)) for index in range(clients)]
        with inside(namespace):
            for thread in self._threads:
                thread.start()

    def _run(self, kept: bool) -> None:
        client = http.client.HTTPConnection(*FRONT, timeout=TIME_LIMIT)
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                client.request("GET", "/", headers={} if kept else {"Connection": "close"})
                response = client.getresponse()
                body = response.read().decode()
                failure = None if response.status == 200 else Failure(began, f"{response.status} {body}")
            except (OSError, http.client.HTTPException) as error:
                client.close()
                failure = Failure(began, repr(error))
            with self._news:
                if failure is None:
                    self.answers[body] += 1
                else:
                    self.failures.append(failure)
                self._news.notify_all()
        client.close()

    def wait_for_more(self, count: int, *hosts: Host) -> None:
        """Return when each of these hosts has answered so many more requests."""
        with self._news:
            wanted = {host.name: self.answers[host.name] + count for host in hosts}
            reached = self._news.wait_for(
                lambda: all(self.answers[name] >= number for name, number in wanted.items()), TIME_LIMIT
            )
            assert reached, f"{self.answers} {self.failures}"

    def end(self) -> None:
        """Return when the last request has ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * TIME_LIMIT)


class OpenRequest:
    """A request whose last byte is held back, so that it is in flight until it is finished."""

    def __init__(self, namespace: str) -> None:
        self._client = http.client.HTTPConnection(*FRONT, timeout=TIME_LIMIT)
        with inside(namespace):
            self._client.connect()
        self._client.putrequest("POST", "/")
        self._client.putheader("Content-Length", "2")
        self._client.endheaders(b"1")

    def finish(self) -> str:
        """Send the rest; return the name of the host that answers, or nothing if it is lost."""
        try:
            self._client.send(b"2")
            response = self._client.getresponse()
            return response.read().decode() if response.status == 200 else ""
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            self._client.close()


class Site:
    """The hosts by their order, the balancer, and the machine of the clients."""

    def __init__(self, hosts: list[Host], balancer: Balancer, clients: str) -> None:
        self.hosts = hosts
        self.balancer = balancer
        self._clients = clients

    @contextmanager
    def visitors(self, clients: int = 8) -> Iterator[Visitors]:
        """Keep so many clients busy during the block."""
        visitors = Visitors(self._clients, clients)
        try:
            yield visitors
        finally:
            visitors.end()

    def open_requests(self, count: int) -> list[OpenRequest]:
        """Begin so many requests, which HAProxy has passed on."""
        requests = [OpenRequest(self._clients) for _ in range(count)]
        eventually(lambda: sum(int(self.balancer.seen(host)["scur"]) for host in self.hosts) == count)
        return requests

    def follow_documented_restart(self) -> Iterator[tuple[Host, str]]:
        """Run the script in the documentation; yield each host with what it is told to do, and then take it as done."""
        hosts = {host.name: host for host in self.hosts}
        script = 'ssh() { echo "$@"; read -r done; }\n' + _documented("sh", self.balancer.stats)
        process = subprocess.Popen(["sh", "-euc", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            try:
                for line in process.stdout:
                    name, command = line.rstrip().split(" ", 1)
                    yield hosts[name], command
                    process.stdin.write("done\n")
                    process.stdin.flush()
                assert process.wait(TIME_LIMIT) == 0
            finally:
                process.kill()

    def talk(self) -> LineClient:
        """Connect a client that asks line by line."""
        with inside(self._clients):
            return LineClient(FRONT)


@contextmanager
def site(directory: Path, start: Start, mode: str = "http") -> Iterator[Site]:
    """Make everything; when the block is entered, HAProxy takes every host for fit."""
    tools.require("haproxy", "nft")
    with namespaces("switch", "balancer", "clients", *HOSTS) as made, ExitStack() as servers:
        _wire(made)
        hosts = [Host(name, made[name], start, servers) for name in HOSTS]
        stats = servers.enter_context(_haproxy(directory, made["balancer"], mode))
        balancer = Balancer(made["balancer"], stats)
        for host in hosts:
            balancer.wait_until_agent_is(host, "L7OK")
            balancer.wait_until(host, "UP")
        yield Site(hosts, balancer, made["clients"])


def _wire(made: dict[str, str]) -> None:
    """Plug every machine into the switch."""
    switch = made["switch"]
    tools.run(["ip", "-n", switch, "link", "add", "bridge", "up", "type", "bridge"])
    for name, address in {**HOSTS, "balancer": BALANCER, "clients": CLIENT}.items():
        port = ["link", "add", "name", f"to-{name}", "master", "bridge", "up", "type", "veth"]
        tools.run(["ip", "-n", switch, *port, "peer", "name", "eth0", "netns", made[name]])
        tools.run(["ip", "-n", made[name], "addr", "add", f"{address}/24", "dev", "eth0"])
        tools.run(["ip", "-n", made[name], "link", "set", "eth0", "up"])


@contextmanager
def _haproxy(directory: Path, namespace: str, mode: str) -> Iterator[Path]:
    """Run HAProxy as it is documented; yield its command socket."""
    stats = directory / "admin.sock"
    configuration = directory / "haproxy.cfg"
    configuration.write_text(_configuration(mode, stats))
    with (directory / "haproxy.log").open("wb") as log, inside(namespace):
        process = subprocess.Popen(["haproxy", "-db", "-f", str(configuration)], stdout=log, stderr=log)
    try:
        eventually(lambda: accepts(stats) or process.poll() is not None)
        assert process.poll() is None, (directory / "haproxy.log").read_text()
        yield stats
    finally:
        process.kill()
        process.wait()


def _configuration(mode: str, stats: Path) -> str:
    """Return the documented configuration, for a mode as it says there."""
    lines = _documented("haproxy", stats).splitlines(keepends=True)
    if mode != "http":
        lines = [line.replace("mode http", f"mode {mode}") for line in lines if "# HTTP only" not in line]
    return "".join(lines)


def _documented(language: str, stats: Path) -> str:
    """Return what the documentation has in a language, for a command socket elsewhere."""
    section = DOCUMENT.read_text().partition("## More than one machine")[2]
    found = re.search(rf"```{language}\n(.*?)```", section, re.S)
    assert found is not None
    return found[1].replace("/run/haproxy/admin.sock", str(stats))
