"""Failed requests can be reported elsewhere than on standard error."""

from collections.abc import Iterator
from typing import Any

import pytest

from prefork import socketserver
from tests.conformance.actors import LOOPBACK, connected, raising


@pytest.fixture
def reports() -> Iterator[list[Any]]:
    """What is reported instead of being printed, when somebody has set that up for all servers."""
    seen: list[Any] = []
    socketserver.BaseServer._log_error = lambda *args: seen.append(args)
    yield seen
    socketserver.BaseServer._log_error = None


def test_errors_can_be_reported_instead_of_printed(reports: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with socketserver.TCPServer(LOOPBACK, raising(ValueError)) as server, connected(server) as client:
        server.handle_request()

        ((error, client_address, reporter),) = reports
        assert isinstance(error, ValueError)
        assert client_address == client.getsockname()
        assert reporter is server
        assert capsys.readouterr().err == ""
