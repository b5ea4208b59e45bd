"""Prometheus with the files of deploy/prometheus as they are, and the expressions of the dashboard asked of it."""

import http.client
import json
import os
import re
import signal
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefork.admin.metrics import FAMILIES
from tests.deploy.files import DEPLOY
from tests.process.conftest import Serve
from tests.support import tools
from tests.support.authorities import Authority
from tests.support.clients import LineClient, ask_once, eventually
from tests.support.programs import running

ALERTS = DEPLOY / "prometheus/alerts.yml"
SCRAPING = DEPLOY / "prometheus/prometheus.yml"
DASHBOARD = DEPLOY / "grafana/dashboard.json"
RULE_TESTS = Path(__file__).with_name("alerts.test.yml")
PROMETHEUS = ("10.0.0.1", 9090)


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expressions() -> list[str]:
    """Return every expression of the dashboard, as Grafana asks it when all jobs and instances are chosen."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    written = [target["expr"] for panel in panels for target in panel["targets"]]
    chosen = {"$job": ".*", "$instance": ".*", "$__rate_interval": "10s"}
    return [re.sub(r"\$\w+", lambda found: chosen[found[0]], one) for one in written]


def lists_of_values() -> list[tuple[str, str]]:
    """Return from which series, and from which label, the dashboard takes what can be chosen."""
    queries = [
        one["query"] for one in json.loads(DASHBOARD.read_text())["templating"]["list"] if one["type"] == "query"
    ]
    found = [re.fullmatch(r"label_values\((.+), (\w+)\)", query) for query in queries]
    assert all(found)
    return [(re.sub(r"\$\w+", ".*", one[1]), one[2]) for one in found if one]


@pytest.mark.needs("promtool")
def test_the_files_are_what_prometheus_expects() -> None:
    tools.run(["promtool", "check", "config", str(SCRAPING)])


@pytest.mark.needs("promtool")
def test_alerts_fire_when_they_must_and_not_otherwise(tmp_path: Path) -> None:
    for file in (ALERTS, RULE_TESTS):
        (tmp_path / file.name).write_text(file.read_text())

    tools.run(["promtool", "test", "rules", str(tmp_path / RULE_TESTS.name)])


def test_an_alert_is_tested_both_ways() -> None:
    alerts = {rule["alert"] for rule in rules()}
    cases = [case for one in yaml.safe_load(RULE_TESTS.read_text())["tests"] for case in one["alert_rule_test"]]

    assert {case["alertname"] for case in cases if case["exp_alerts"]} == alerts
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == alerts


@pytest.mark.parametrize(
    "source", [expressions, lambda: [rule["expr"] for rule in rules()]], ids=["dashboard", "alerts"]
)
def test_the_metrics_exist(source: Callable[[], list[str]]) -> None:
    named = {name for expression in source() for name in re.findall(r"\bprefork_\w+", expression)}

    assert {name.removesuffix("_bucket") for name in named} <= {family.name for family in FAMILIES}


def ask(path: str, **parameters: str) -> Any:
    """Ask Prometheus something that it must be able to answer."""
    connection = http.client.HTTPConnection(*PROMETHEUS, timeout=30)
    connection.request("GET", f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    assert answer["status"] == "success", (parameters, answer)
    return answer["data"]


@pytest.fixture
def prometheus(site: None, tmp_path: Path) -> Iterator[None]:
    """A Prometheus that scrapes each second, so that one need not wait for what it knows."""
    directory = tmp_path / "prometheus"
    directory.mkdir()
    (directory / ALERTS.name).write_text(ALERTS.read_text())
    hurried, times = re.subn(r"_interval: 15s", "_interval: 1s", SCRAPING.read_text())
    assert times == 2
    (directory / SCRAPING.name).write_text(hurried)
    listen = "{}:{}".format(*PROMETHEUS)
    command = [
        "prometheus",
        f"--config.file={SCRAPING.name}",
        f"--web.listen-address={listen}",
        "--storage.tsdb.path=data",
    ]
    with running(command, directory, PROMETHEUS):
        yield


@pytest.mark.needs("prometheus")
def test_every_expression_of_the_dashboard_has_an_answer(prometheus: None, serve: Serve, project: Path) -> None:
    Authority(project).issue("localhost")
    with serve(
        bind=["tcp://10.0.0.11:9999?tls=off", "tcp://10.0.0.11:9443", "udp://10.0.0.11:9999"],
        admin="tcp://10.0.0.11:9998",
        tls_cert="cert.pem",
    ) as server:
        with LineClient(server.address) as doomed:
            os.kill(int(doomed.ask("pid")), signal.SIGKILL)
            doomed.wait_for_end()
        ask_once(server.address, "version")
        eventually(lambda: ask_once(server.address, "version") == "1" and unanswered() == [])
        for series, label in lists_of_values():
            assert ask(f"label/{label}/values", **{"match[]": series}), (series, label)
        eventually(lambda: "unknown" not in conditions_of_the_rules())

        assert conditions_of_the_rules() == {"ok"}


def conditions_of_the_rules() -> set[str]:
    """Return how Prometheus fared with the alert rules."""
    return {rule["health"] for group in ask("rules")["groups"] for rule in group["rules"]}


def unanswered() -> list[str]:
    """Return the expressions to which Prometheus has nothing to say."""
    return [expression for expression in expressions() if not ask("query", query=expression)["result"]]
