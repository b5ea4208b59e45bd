"""Answers HAProxy's agent checks: one line, whether and how much this server may be given to do.

See "agent-check" in HAProxy's configuration manual. What an agent says stays until it says otherwise, so each state
is spelled out: only `ready` ends a `drain` or a `maint`, only `up` ends a `down`.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from prefork.serving.handlers import BaseRequestHandler

_ANSWER_TIME = 2.0


class AgentHandler(BaseRequestHandler):
    """Says how the server is, whatever it is sent."""

    request: socket.socket
    server: Any

    def handle(self) -> None:
        """Answer and end the connection."""
        self.request.settimeout(_ANSWER_TIME)
        try:
            self.request.sendall(self.server.pages.agent_line())
        except OSError:
            pass  # it has gone; a later check will hear


def agent_line(status: Mapping[str, Any] | None) -> bytes:
    """Write the answer for a status; None: the master does not answer."""
    return f"{_verdict(status)}\n".encode()


def _verdict(status: Mapping[str, Any] | None) -> str:
    if status is None:
        return "down #the master does not answer"
    if status["state"] == "starting":
        return "down #starting"
    serving = [worker for worker in status["workers"] if worker["state"] == "serving" and "threads" in worker]
    if status["state"] == "stopping" and not any(worker["accepting"] for worker in status["workers"]):
        return "maint"  # whoever is sent here now, also for a session that it has with us, is refused
    if not status["ready"]:
        # Nothing new, but what is open may be finished; without workers nothing is.
        return "up drain" if serving or status["state"] == "stopping" else "down #no worker serves"
    threads = sum(worker["threads"] for worker in serving)
    free = threads - sum(worker["threads_busy"] for worker in serving)
    # Weight 0 would mean to drain: a server that is only busy keeps a little.
    weight = max(1, 100 * free // threads) if threads else 100
    # Parked connections hold no thread, but count for HAProxy. Doubled, because a crowd of clients that stay connected
    # comes at once: from one answer to the next there may be twice as many.
    room = threads + 2 * sum(worker["parked"] for worker in serving)
    return f"up ready {weight}% maxconn:{max(1, room)}"
