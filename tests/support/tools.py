"""The programs that tests talk to: a missing one skips the test, and fails it under CI, where tests/setup has run."""

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence

import pytest

from prefork.system.unix_diag import accept_queue


def require(*names: str) -> None:
    """Skip the calling test unless each of these programs is on the PATH."""
    absent = [name for name in names if shutil.which(name) is None]
    if absent:
        unavailable(f"{', '.join(absent)} not installed (tests/setup installs it)")


def require_root() -> None:
    """Skip the calling test unless it runs as root."""
    if os.geteuid() != 0:
        unavailable("needs root")


def require_unix_queues() -> None:
    """Skip the calling test unless the kernel tells of the queues of Unix listeners; nobody can install that."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")  # the kernel chooses an abstract name (unix(7), autobind)
        listener.listen()
        if accept_queue(listener) is None:
            pytest.skip("the kernel does not tell of the queues of Unix listeners (unix_diag)")


def run(command: Sequence[str], *, stdin: bytes = b"", seconds: float = 60) -> subprocess.CompletedProcess[bytes]:
    """Run a program that must end well, and return what it wrote; a failure shows its output."""
    require(command[0])
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=seconds, check=False)
    if done.returncode != 0:
        shown = (done.stdout + done.stderr).decode(errors="replace")
        pytest.fail(f"{' '.join(command)} exited with {done.returncode}:\n{shown}", pytrace=False)
    return done


def unavailable(reason: str) -> None:
    """Skip the calling test, or fail it where everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
