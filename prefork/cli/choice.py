"""Which running server a control command means: `--pid`, `--name`, `--control`, or the only one there is."""

import os
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from prefork.cli.client import PATIENCE, Connection
from prefork.cli.discovery import ControlPlace, find_places
from prefork.errors import NoSuchServer, NotDone, UsageError

_MOST_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Choice:
    """What the operator said about the server; nothing means the only one."""

    pid: int | None = None
    name: str | None = None
    control: str | None = None

    def connect(self, time_limit: float = PATIENCE) -> Connection:
        """Connect to the server that is meant; raise NoSuchServer, or UsageError if it could be several."""
        if [self.pid, self.name, self.control].count(None) < 2:
            raise UsageError("--pid, --name and --control each name a server; use one of them")
        if self.control is not None:
            return Connection(ControlPlace(path=os.path.abspath(self.control)), time_limit)
        if self.pid is not None:
            return Connection.to_pid(self.pid, time_limit)
        return Connection(self._only_one(), time_limit)

    def _only_one(self) -> ControlPlace:
        if self.name is not None:
            found = [one for one in ask_all() if one[1] is not None and one[1].get("name") == self.name]
            if not found:
                raise NoSuchServer(f"no server called {self.name} is running (`prefork list` shows them)")
        else:
            found = _of_this_user(ask_all())
            if not found:
                raise NoSuchServer(
                    "no server is running as this user (one with its own --control PATH needs that path)"
                )
        if len(found) > 1:
            listed = "".join(f"\n  --pid {place.pid}  {_describe(status)}" for place, status in found)
            raise UsageError(f"{len(found)} servers are running; say which one:{listed}")
        return found[0][0]


Asked = tuple[ControlPlace, dict[str, Any] | None]
"""A server and its status; None if it gives no answer."""


def ask_all(time_limit: float = 3.0) -> list[Asked]:
    """Ask every server of this user, or for root of every user, for its status; all at once, as some may be silent."""
    places = find_places()
    if len(places) < 2:
        return [asked for place in places if (asked := _ask(place, time_limit))]
    from concurrent.futures import ThreadPoolExecutor  # costs a command more than all the rest of it

    with ThreadPoolExecutor(_MOST_AT_ONCE) as threads:
        return [asked for asked in threads.map(_ask, places, repeat(time_limit)) if asked]


def _ask(place: ControlPlace, time_limit: float) -> Asked | None:
    try:
        with Connection(place, time_limit) as connection:
            status = connection.ask({"command": "status"})
    except NoSuchServer:
        return None  # it has just ended, or somebody poses as it
    except NotDone:
        status = None
    return place, status if isinstance(status, dict) else None


def _of_this_user(found: list[Asked]) -> list[Asked]:
    """Root's own servers come first, so that nobody else can stand in its way by starting one."""
    return [one for one in found if one[0].uid == os.geteuid()] or found


def _describe(status: dict[str, Any] | None) -> str:
    return f"{status.get('name')}  {status.get('target')}" if status else "does not answer"
