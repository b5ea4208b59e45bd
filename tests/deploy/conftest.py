"""What the tests with real processes have, they have too; and the addresses that the files in deploy/ name."""

from collections.abc import Iterator

import pytest

from tests.process.conftest import _adopt_orphans, _nothing_is_left, project, serve
from tests.support.network import network

__all__ = ["_adopt_orphans", "_nothing_is_left", "project", "serve"]


@pytest.fixture
def site() -> Iterator[None]:
    """Be, in a network of one's own, at once 10.0.0.1, the hosts from 10.0.0.11 to 13, and a client, 10.0.0.99."""
    with network() as machines:
        for number in (1, 11, 12, 13, 99):
            machines.on_server("addr", "add", f"10.0.0.{number}/32", "dev", "lo")
        for number in (11, 12, 13):  # or a host would seem to be asked by itself
            host = f"10.0.0.{number}"
            machines.on_server("route", "replace", "local", host, "dev", "lo", "src", "10.0.0.1", "table", "local")
        yield
