"""What holds for every test: the meaning of the markers, and reports that can be passed on."""

import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests.support import tools

# A slow machine is no finding.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A background job of a shell is born ignoring SIGINT, and what it starts inherits that; commands under test must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root"):
        tools.require_root()
    for marker in item.iter_markers("needs"):
        tools.require(*marker.args)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape what is no Unicode in the output of a test, or pytest-xdist could not pass the report on."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report
