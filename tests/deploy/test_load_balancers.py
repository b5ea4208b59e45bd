"""Each load balancer of deploy/, with its file as it is, before two hosts; the third one of the file is down."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from prefork.testing import Server
from tests.deploy.files import DEPLOY
from tests.process.conftest import Serve
from tests.support.admin import address_of, fetch
from tests.support.clients import LineClient, eventually, steady_load
from tests.support.programs import running

FRONT = ("10.0.0.1", 9999)
CLIENT = ("10.0.0.99", 0)


@contextmanager
def haproxy(directory: Path) -> Iterator[None]:
    with running(["haproxy", "-db", "-f", str(DEPLOY / "haproxy/haproxy.cfg")], directory, FRONT):
        yield


@contextmanager
def nginx(directory: Path) -> Iterator[None]:
    here = ["-p", str(directory), "-e", "stderr", "-g", f"daemon off; pid {directory}/nginx.pid;"]
    with running(["nginx", "-c", str(DEPLOY / "nginx/nginx.conf"), *here], directory, FRONT):
        yield


@contextmanager
def envoy(directory: Path) -> Iterator[None]:
    program = str(Path(sys.executable).with_name("envoy"))
    few = ["--concurrency", "1", "--disable-hot-restart"]
    with running([program, "-c", str(DEPLOY / "envoy/envoy.yaml"), *few], directory, FRONT):
        yield


@pytest.fixture
def hosts(site: None, serve: Serve) -> Iterator[list[Server]]:
    """Two servers, as the first lines of the files tell to start them."""

    def start(host: str) -> AbstractContextManager[Server]:
        return serve(
            bind=[f"tcp://{host}:9999"],
            admin=f"tcp://{host}:9998",
            agent=f"tcp://{host}:9997",
            proxy_protocol="on",
            trusted_proxies="10.0.0.1",
            drain_delay=15,
        )

    with start("10.0.0.11") as one, start("10.0.0.12") as two:
        eventually(lambda: all(fetch(address_of(server), "/readyz")[0] == 200 for server in (one, two)))
        yield [one, two]


@pytest.mark.needs("haproxy", "nginx")
@pytest.mark.parametrize("balancer", [haproxy, nginx, envoy])
def test_clients_are_served_by_name_and_do_not_notice_that_a_host_stops(
    hosts: list[Server], project: Path, balancer: Callable[[Path], AbstractContextManager[None]]
) -> None:
    with balancer(project):
        with LineClient(FRONT, CLIENT) as client:
            who = client.ask("eval self.client_address[0]")
        with steady_load(FRONT) as crowd:
            crowd.wait_for_more()
            hosts[0].signal(signal.SIGTERM)
            stopped = hosts[0].wait()
            crowd.wait_for_more()

    assert who == CLIENT[0]
    assert stopped == 0
    assert crowd.failures == []
