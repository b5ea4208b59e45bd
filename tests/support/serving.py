"""A server for the length of a test that expects nothing unusual of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefork import testing


@contextmanager
def serve_calmly(target: str, **options: Any) -> Iterator[testing.Server]:
    """Serve as `prefork.testing.serve` does, then stop gracefully; the log must be free of warnings and errors."""
    with testing.serve(target, **options) as server:
        yield server
        assert server.stop() == 0, server.log
    complaints = [line for line in server.log.splitlines() if " WARN " in line or " ERROR " in line]
    assert complaints == [], server.log
