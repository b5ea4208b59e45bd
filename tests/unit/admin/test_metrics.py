"""The metrics: what Prometheus reads."""

import pytest

from prefork.admin.metrics import DOCUMENT, FAMILIES, OPENMETRICS, PLAIN, Format, View, render_age, render_told, updated
from tests.docs.pages import ROOT
from tests.support import tools
from tests.unit.admin.view import RELOADS, status, worker

VIEW = View(status(), {100: 1.5, 101: 2.5}, 0.5)


def render(view: View, wanted: Format) -> str:
    return render_told(view, wanted) + render_age(view, wanted)


def lines(view: View = VIEW, wanted: Format = PLAIN) -> list[str]:
    return render(view, wanted).splitlines()


@pytest.mark.parametrize(
    "line",
    [
        'prefork_build_info{version="1.2",python="3.13"} 1',
        "prefork_ready 1",
        "prefork_uptime_seconds 12.5",
        'prefork_workers{state="serving",generation="2"} 3',
        'prefork_workers{state="draining",generation="1"} 1',
        'prefork_threads{state="busy"} 8',
        'prefork_threads{state="free"} 18',
        'prefork_connections_accepted_total{listener="tcp://127.0.0.1:80"} 12',
        'prefork_connections_served_total{listener="tcp://127.0.0.1:80"} 6',
        'prefork_connections_failed_total{listener="tcp://127.0.0.1:80"} 2',
        'prefork_connections_lost_total{listener="tcp://127.0.0.1:80"} 1',
        'prefork_connections_handed_over_total{listener="tcp://127.0.0.1:80"} 6',
        'prefork_connections_open{listener="tcp://127.0.0.1:80"} 2',
        'prefork_connections_refused_total{listener="tcp://127.0.0.1:80"} 1',
        "prefork_connections_parked 7",
        'prefork_request_duration_seconds_bucket{listener="tcp://127.0.0.1:80",le="0.0025"} 9',
        'prefork_request_duration_seconds_bucket{listener="tcp://127.0.0.1:80",le="+Inf"} 9',
        'prefork_request_duration_seconds_sum{listener="tcp://127.0.0.1:80"} 0.5',
        'prefork_request_duration_seconds_count{listener="tcp://127.0.0.1:80"} 9',
        'prefork_accept_queue_length{listener="tcp://127.0.0.1:80"} 3',
        'prefork_accept_queue_overflows_total{listener="tcp://127.0.0.1:80"} 4',
        'prefork_datagram_queue_bytes{listener="udp://127.0.0.1:53"} 768',
        'prefork_datagram_drops_total{listener="udp://127.0.0.1:53"} 5',
        'prefork_worker_restarts_total{reason="killed by SIGKILL"} 2',
        'prefork_worker_restarts_total{reason="killed by SIGSEGV"} 0',
        'prefork_workers_replaced_total{reason="max_requests"} 3',
        'prefork_reloads_total{result="complete"} 3',
        'prefork_reloads_total{result="failed"} 1',
        'prefork_reloads_total{result="refused"} 4',
        'prefork_reloads_total{result="superseded"} 5',
        'prefork_worker_resident_bytes{worker="0",generation="2"} 5',
        'prefork_worker_proportional_bytes{worker="0",generation="2"} 4',
        'prefork_worker_cpu_seconds_total{worker="1",generation="2"} 2.5',
        "prefork_suspects_total 2",
        "prefork_backoff_waited_seconds_total 1.5",
        "prefork_log_lines_lost_total 17",
        'prefork_tls_certificate_expiry_seconds{names="a.example,b.example",file="/etc/rsa.pem"} 1800000000',
        'prefork_tls_certificate_expiry_seconds{names="a.example,b.example",file="/etc/ec.pem"} 1900000000',
        "prefork_status_age_seconds 0.5",
    ],
)
def test_what_the_status_says_is_shown(line: str) -> None:
    assert line in lines()


def test_what_nobody_told_is_not_shown() -> None:
    bare = status(totals=RELOADS, certificates=[], workers=[worker(0)])
    text = render(View(bare, {}, 0.0), PLAIN)

    assert not any(name in text for name in ("suspects", "parked", "certificate", "resident", "cpu"))


def test_no_series_is_there_twice() -> None:
    series = [line.rpartition(" ")[0] for line in lines() if not line.startswith("#")]

    assert len(set(series)) == len(series)


def test_sockets_that_share_an_address_are_one_series() -> None:
    one = {"address": "tcp://127.0.0.1:80", "waiting": 3, "limit": 128, "drops": 4}

    assert 'prefork_accept_queue_length{listener="tcp://127.0.0.1:80"} 6' in lines(
        View(status(listeners=[one, one]), {}, 0.0)
    )


def test_a_label_cannot_break_out_of_its_quotes() -> None:
    assert r'prefork_connections_open{listener="unix:/run/\"x\"\\"} 2' in lines()


@pytest.mark.needs("promtool")
def test_promtool_finds_nothing_to_complain_about() -> None:
    done = tools.run(["promtool", "check", "metrics"], stdin=render(VIEW, PLAIN).encode())

    assert (done.stdout, done.stderr) == (b"", b"")


def test_openmetrics_names_the_families_and_ends() -> None:
    text = lines(wanted=OPENMETRICS)

    assert "# TYPE prefork_connections_accepted counter" in text
    assert 'prefork_connections_accepted_total{listener="tcp://127.0.0.1:80"} 12' in text
    assert text[-1] == "# EOF"


def test_every_family_has_been_seen_here() -> None:
    """Or promtool would have checked nothing of it."""
    typed = {line.split()[2] for line in lines() if line.startswith("# TYPE")}

    assert typed == {family.name for family in FAMILIES}


def test_the_table_in_the_documentation_is_current() -> None:
    text = (ROOT / DOCUMENT).read_text()

    assert "| `prefork_ready` |" in text
    assert updated(text) == text, "run: python -m prefork.admin.metrics --write"
