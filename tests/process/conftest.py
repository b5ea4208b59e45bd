"""What every test with real processes has: an application to change, and the check that nothing is left."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from prefork import testing
from prefork.system.processes import become_subreaper
from tests.support.application import write_application

Serve = Callable[..., AbstractContextManager[testing.Server]]


@pytest.fixture(scope="session", autouse=True)
def _adopt_orphans() -> None:
    become_subreaper()


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 30
    while (left := _children()) and time.monotonic() < deadline:  # what its parent took along may be ending
        os.sched_yield()
    for pid in left:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert not left, f"processes left behind: {left}"


def _children() -> dict[int, str]:
    """Reap what has ended; return the pids and command lines of what lives."""
    try:
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is not None:
            pass
    except ChildProcessError:
        return {}
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        pids = [int(pid) for pid in file.read().split()]
    return {pid: Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in pids}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with the test application, in which servers run."""
    write_application(tmp_path)
    return tmp_path


@pytest.fixture
def serve(project: Path) -> Serve:
    """Serve the test application: `with serve(workers=2) as server`."""

    def start(target: str = "app:Handler", **options: Any) -> AbstractContextManager[testing.Server]:
        return testing.serve(target, cwd=str(project), **{"canary_time": 0.2, **options})

    return start
