"""The master of a soak: an upgrade puts another process in its place, and its control address follows."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefork.cli.client import Connection
from prefork.testing import Server
from tests.process.test_deaths import children_of, footprint

TIME_LIMIT = 30.0


class Master:
    """Whoever is the master at present; used by one thread, but for `status`."""

    def __init__(self, server: Server) -> None:
        self.pid = server.pid
        self._first = server.pid
        self.before = footprint(self.pid)
        """Its descriptors and memory when it was new."""

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self._ask("status")
        return status

    def workers(self) -> list[dict[str, Any]]:
        """Return the workers that serve."""
        return [worker for worker in self.status()["workers"] if worker["state"] == "serving"]

    def reload(self) -> None:
        self._ask("reload")

    def upgrade(self) -> None:
        """Return when the successor serves. Raise NotDone if it does not."""
        self.pid = self._ask("upgrade")["pid"]
        self.before = footprint(self.pid)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def mold(self) -> int | None:
        """Return the pid of its mold, if it has one just now."""
        for pid in children_of(self.pid):
            with suppress(OSError):
                if b": mold" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return None

    def end(self) -> None:
        """End it, if it is a successor: those are nobody's children."""
        if self.pid != self._first:
            process = os.pidfd_open(self.pid)
            signal.pidfd_send_signal(process, signal.SIGINT)
            select.select([process], [], [], TIME_LIMIT)
            os.close(process)

    def _ask(self, command: str) -> Any:
        with Connection.to_pid(self.pid, TIME_LIMIT) as connection:
            return connection.ask({"command": command})
