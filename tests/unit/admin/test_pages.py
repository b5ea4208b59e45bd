"""The pages without a server: which answer to which path."""

import json
import time
from typing import Any

import pytest

from prefork.admin.http import Request
from prefork.admin.pages import Pages, policy_of
from tests.unit.admin.view import status


def pages(at: float | None = None, **fields: Any) -> Pages:
    made = Pages(master_pid=1)
    made.update(json.dumps(status(**fields)).encode(), time.monotonic() if at is None else at)
    return made


def answer(asked: Pages, path: str) -> tuple[int, bytes]:
    response = asked.respond(Request("GET", path, {}))
    return response.status, response.body


@pytest.mark.parametrize(
    ("fields", "livez", "readyz", "startupz"),
    [
        ({}, 200, 200, 200),
        ({"ready": False}, 200, 503, 200),
        ({"state": "starting", "ready": False}, 200, 503, 503),
        ({"state": "stopping", "ready": False}, 200, 503, 200),
        ({"at": time.monotonic() - 60}, 503, 503, 503),
    ],
)
def test_health(fields: dict[str, Any], livez: int, readyz: int, startupz: int) -> None:
    asked = pages(**fields)

    assert [answer(asked, path)[0] for path in ("/livez", "/readyz", "/startupz")] == [livez, readyz, startupz]


def test_the_status_is_passed_on_as_it_came() -> None:
    assert json.loads(answer(pages(), "/status.json")[1]) == json.loads(json.dumps(status()))


def test_an_old_status_is_not_shown_as_the_present_one() -> None:
    silent = pages(at=time.monotonic() - 60)

    assert [answer(silent, path)[0] for path in ("/status.json", "/history.json")] == [503, 503]
    assert b"\nprefork_status_age_seconds 6" in answer(silent, "/metrics")[1]


def test_the_age_grows_while_nothing_new_is_heard() -> None:
    asked = pages()
    first, second = (age_in(answer(asked, "/metrics")[1]) for _ in range(2))

    assert second > first


def age_in(metrics: bytes) -> float:
    (line,) = [line for line in metrics.splitlines() if line.startswith(b"prefork_status_age_seconds ")]
    return float(line.split()[1])


def test_who_was_drained_says_so() -> None:
    assert answer(pages(ready=False, draining=True), "/readyz") == (503, b"not ready: serving, drained\n")
    assert answer(pages(ready=False, draining=False), "/readyz") == (503, b"not ready: serving\n")


def test_the_page_may_run_its_own_script_and_nothing_else() -> None:
    response = pages().respond(Request("GET", "/", {}))
    policy = response.headers["Content-Security-Policy"]

    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert policy_of(response.body + b"<script>more</script>") != policy
    assert b"http" not in response.body.replace(b"http://www.w3.org/", b"")  # no outside assets


def test_there_are_no_other_pages() -> None:
    assert answer(pages(), "/../etc/passwd")[0] == 404
