"""More than one machine: three hosts, HAProxy before them, and what clients notice when hosts come and go."""

import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from prefork.testing import Server
from tests.process.conftest import Serve
from tests.support.application import write_application
from tests.support.clients import eventually
from tests.support.site import AGENT_PORT, Host, Site, site

pytestmark = [pytest.mark.root, pytest.mark.needs("haproxy", "ip", "nft")]

WEB = '''
import http.server


class Web(http.server.BaseHTTPRequestHandler):
    """Says on which host it runs, when it has the whole request."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = os.environ["HOST"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass
'''

MESSAGES = """

from prefork.serving import MessageRequestHandler


class Messages(MessageRequestHandler):
    def handle_message(self):
        self.wfile.write(self.rfile.readline())
"""

MakeSite = Callable[..., AbstractContextManager[Site]]


@pytest.fixture
def make_site(serve: Serve, project: Path) -> MakeSite:
    """Make a site whose hosts serve the application: `with make_site() as there`."""
    write_application(project, extra=WEB + MESSAGES)

    def make(target: str = "app:Web", mode: str = "http", **options: Any) -> AbstractContextManager[Site]:
        def start(host: Host) -> AbstractContextManager[Server]:
            return serve(
                target,
                bind=[f"tcp://{host.address}:9999"],
                agent=f"tcp://{host.address}:{AGENT_PORT}",
                env={"HOST": host.name},
                **{"threads": 16, **options},
            )

        return site(project, start, mode)

    return make


@pytest.mark.fault("rolling-restart")
@pytest.mark.needs("socat")
def test_a_rolling_restart_as_documented_fails_no_request(make_site: MakeSite) -> None:
    with make_site() as there, there.visitors() as visitors:
        for host, command in there.follow_documented_restart():
            if command == "prefork drain":
                visitors.wait_for_more(20, host)
                host.order("drain")
            else:
                assert host.server.stop() == 0
                host.start()
        visitors.wait_for_more(20, *there.hosts)
        retries = [there.balancer.retries(host) for host in there.hosts]

    assert visitors.failures == []
    assert retries == [0, 0, 0]


@pytest.mark.fault("rolling-restart")
def test_a_restart_announces_itself_within_drain_delay(make_site: MakeSite) -> None:
    with make_site(drain_delay=5) as there, there.visitors() as visitors:
        host = there.hosts[0]
        visitors.wait_for_more(20, host)
        host.server.signal(signal.SIGTERM)
        there.balancer.wait_until_taken_out(host)
        assert host.server.wait() == 0
        host.start()
        there.balancer.wait_until(host, "UP")
        visitors.wait_for_more(20, *there.hosts)

    assert visitors.failures == []


@pytest.mark.fault("rolling-restart")
def test_a_rolling_reload_fails_no_request_even_when_old_connections_are_cut(make_site: MakeSite) -> None:
    with make_site(drain_timeout=2) as there, there.visitors() as visitors:
        for host in there.hosts:
            visitors.wait_for_more(20, host)
            host.order("reload")
        for host in there.hosts:
            host.wait_until_drained()
        visitors.wait_for_more(20, *there.hosts)

    assert visitors.failures == []


@pytest.mark.fault("rolling-restart")
def test_a_host_that_is_killed_loses_what_was_in_flight_on_it_and_nothing_else(make_site: MakeSite) -> None:
    with make_site() as there:
        victim, *others = there.hosts
        requests = there.open_requests(9)
        doomed = int(there.balancer.seen(victim)["scur"])
        assert doomed > 0
        with there.visitors() as visitors:
            visitors.wait_for_more(20, *there.hosts)
            eventually(lambda: there.balancer.seen(victim)["status"] == "UP")  # and no check of it was late: UP 2/3
            failed_before = int(there.balancer.seen(victim)["chkfail"])
            victim.kill()
            killed = time.monotonic()
            there.balancer.wait_until(victim, "DOWN")
            failed_checks = int(there.balancer.seen(victim)["chkfail"]) - failed_before
            visitors.wait_for_more(20, *others)
        answers = [request.finish() for request in requests]

    assert answers.count("") == doomed
    assert victim.name not in answers
    assert failed_checks == 3  # `fall`
    assert [failure for failure in visitors.failures if failure.began > killed] == []


@pytest.mark.fault("partition")
def test_a_host_cut_off_by_a_partition_is_served_again_when_it_heals(make_site: MakeSite) -> None:
    with make_site() as there, there.visitors() as visitors:
        lost, *others = there.hosts
        visitors.wait_for_more(20, *there.hosts)
        there.balancer.filter(f"ip saddr {lost.address} drop; ip daddr {lost.address} drop")
        there.balancer.wait_until(lost, "DOWN")
        visitors.wait_for_more(50, *others)
        there.balancer.filter("accept")
        there.balancer.wait_until(lost, "UP")
        visitors.wait_for_more(20, *there.hosts)

    assert visitors.failures == []


@pytest.mark.fault("partition")
def test_an_agent_that_cannot_be_reached_leaves_its_host_as_it_was(make_site: MakeSite) -> None:
    with make_site() as there, there.visitors() as visitors:
        mute, drained, _ = there.hosts
        drained.order("drain")
        there.balancer.wait_until_taken_out(drained)
        there.balancer.filter(f"tcp sport {AGENT_PORT} drop; tcp dport {AGENT_PORT} drop")
        for host in (mute, drained):
            there.balancer.wait_until_agent_is(host, "L4TOUT")
        visitors.wait_for_more(20, mute)

        assert there.balancer.seen(mute)["status"].split()[0] == "UP"  # perhaps "UP 2/3": a check was late
        assert "DRAIN" in there.balancer.seen(drained)["status"]

        drained.order("undrain")
        there.balancer.filter("accept")
        there.balancer.wait_until(drained, "UP")
        visitors.wait_for_more(20, *there.hosts)

    assert visitors.failures == []


@pytest.mark.fault("partition")
def test_a_host_that_died_while_it_was_drained_says_that_it_is_ready_again(make_site: MakeSite) -> None:
    with make_site() as there, there.visitors() as visitors:
        host = there.hosts[0]
        host.order("drain")
        there.balancer.wait_until_taken_out(host)
        host.kill()
        there.balancer.wait_until(host, "DOWN")
        host.start()
        there.balancer.wait_until(host, "UP")
        visitors.wait_for_more(20, *there.hosts)

    assert visitors.failures == []


@pytest.mark.fault("rolling-restart")
def test_a_kept_connection_is_served_until_it_ends_whatever_is_ordered(make_site: MakeSite) -> None:
    with make_site("app:Handler", mode="tcp") as there, there.talk() as client:
        name = client.ask("eval os.environ['HOST']")
        host = next(host for host in there.hosts if host.name == name)
        host.order("reload")
        assert client.ask("generation") == "1"
        host.order("drain")
        there.balancer.wait_until(host, "DRAIN")
        host.server.signal(signal.SIGTERM)
        host.server.wait_for_log("stopping")
        assert client.ask("eval os.environ['HOST']") == name
        with there.talk() as another:
            assert another.ask("eval os.environ['HOST']") != name
        client.close()

        assert host.server.wait() == 0


def test_a_kept_connection_that_outstays_drain_timeout_is_closed(make_site: MakeSite) -> None:
    with make_site("app:Handler", mode="tcp", drain_timeout=1) as there, there.talk() as client:
        name = client.ask("eval os.environ['HOST']")
        host = next(host for host in there.hosts if host.name == name)
        assert host.server.stop() == 0

        client.wait_for_end()


def test_far_more_clients_than_threads_stay_connected(make_site: MakeSite) -> None:
    with make_site("app:Messages", mode="tcp", workers=1, threads=2) as there, ExitStack() as clients:
        for number in range(60):
            assert clients.enter_context(there.talk()).ask(f"{number}") == f"{number}"
