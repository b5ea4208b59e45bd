"""The pages: what is answered to which path, from the status that was heard last."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from prefork.admin.agent import agent_line
from prefork.admin.history import History
from prefork.admin.http import Request, Response
from prefork.admin.metrics import OPENMETRICS, PLAIN, Format, View, render_age, render_told
from prefork.system.usage import cpu_seconds

_SILENT_AFTER = 5.0  # seconds after which the master is said not to answer
_JSON = "application/json"
_PAGE = Path(__file__).with_name("page.html").read_bytes()


@dataclass(slots=True)
class _Heard:
    """A status as it was received, and when. Never changed, but for what is made of it when first asked for."""

    body: bytes
    status: dict[str, Any]
    history: bytes
    at: float
    metrics: dict[Format, bytes] = field(default_factory=dict)  # under the lock of the pages


class Pages:
    """Updated by the main thread; asked by any thread."""

    def __init__(self, master_pid: int) -> None:
        self._master_pid = master_pid
        self._heard: _Heard | None = None  # replaced as a whole by the main thread
        self._history = History()  # of the main thread
        self._rendering = threading.Lock()
        self._routes: dict[str, Callable[[Request], Response]] = {
            "/": self._page,
            "/metrics": self._metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/startupz": self._startupz,
            "/status.json": self._status,
            "/history.json": self._recent,
        }

    def update(self, body: bytes, now: float) -> None:
        """Show this status from now on."""
        status = msgspec.json.decode(body)
        self._history.note(status, now)
        self._heard = _Heard(body, status, msgspec.json.encode(list(self._history.samples)), now)

    def respond(self, request: Request) -> Response:
        """Answer a request."""
        route = self._routes.get(request.path)
        if route is None:
            return Response(b"no such page\n", status=HTTPStatus.NOT_FOUND)
        return route(request)

    def agent_line(self) -> bytes:
        """Answer an agent check."""
        heard = self._fresh()
        return agent_line(heard.status if heard else None)

    def _fresh(self) -> _Heard | None:
        heard = self._heard
        return heard if heard is not None and time.monotonic() - heard.at < _SILENT_AFTER else None

    def _page(self, _: Request) -> Response:
        return Response(_PAGE, "text/html; charset=utf-8", headers={"Content-Security-Policy": policy_of(_PAGE)})

    def _livez(self, _: Request) -> Response:
        return _health(self._fresh() is not None, "alive", "the master does not answer")

    def _readyz(self, _: Request) -> Response:
        heard = self._fresh()
        drained = ", drained" if heard and heard.status["draining"] else ""
        reason = f"{heard.status['state']}{drained}" if heard else "the master does not answer"
        return _health(heard is not None and heard.status["ready"], "ready", f"not ready: {reason}")

    def _startupz(self, _: Request) -> Response:
        heard = self._fresh()
        return _health(heard is not None and heard.status["state"] != "starting", "started", "not started")

    def _status(self, _: Request) -> Response:
        heard = self._fresh()
        return Response(heard.body, _JSON) if heard else _SILENT

    def _recent(self, _: Request) -> Response:
        heard = self._fresh()
        return Response(heard.history, _JSON) if heard else _SILENT

    def _metrics(self, request: Request) -> Response:
        heard = self._heard
        if heard is None:
            return _SILENT
        wanted = OPENMETRICS if "application/openmetrics-text" in request.headers.get("accept", "") else PLAIN
        with self._rendering:  # made once of each status, however many ask: reading the memory of processes costs them
            if wanted not in heard.metrics:
                pids = [worker["pid"] for worker in heard.status["workers"] if worker["pid"]]
                cpu = {pid: cpu_seconds(pid, self._master_pid) for pid in pids}
                heard.metrics[wanted] = render_told(View(heard.status, cpu, 0.0), wanted).encode()
        # Not kept with the rest: it has to grow while the master says nothing.
        age = render_age(View(heard.status, {}, time.monotonic() - heard.at), wanted).encode()
        return Response(heard.metrics[wanted] + age, wanted.content_type)


_SILENT = Response(b"the master does not answer\n", status=HTTPStatus.SERVICE_UNAVAILABLE)


def _health(good: bool, yes: str, no: str) -> Response:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return Response(f"{yes if good else no}\n".encode(), status=status)


def policy_of(page: bytes) -> str:
    """Return a policy that lets the page run its own script and style, fetch from where it came, and nothing else."""
    sources = {
        kind: " ".join(f"'sha256-{_digest(part)}'" for part in re.findall(rb"<%s>(.*?)</%s>" % (tag, tag), page, re.S))
        for kind, tag in (("script-src", b"script"), ("style-src", b"style"))
    }
    allowed = "; ".join(f"{kind} {hashes}" for kind, hashes in sources.items())
    return (
        f"default-src 'none'; {allowed}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(part: bytes) -> str:
    return base64.b64encode(hashlib.sha256(part).digest()).decode()
