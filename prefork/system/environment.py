"""The environment and working directory in which the application runs."""

from __future__ import annotations

import os
from collections.abc import Iterable


def set_variables(assignments: Iterable[str]) -> None:
    """Set each `NAME=VALUE` for this process and those it starts."""
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        os.environ[name] = value


def set_umask(umask: str | None) -> None:
    """Set the umask that is written in octal, if there is one."""
    if umask is not None:
        os.umask(int(umask, 8))


def identify_worker(slot: int, generation: int) -> None:
    """Tell the application which worker it runs in: PREFORK_WORKER_SLOT and PREFORK_GENERATION."""
    os.environ["PREFORK_WORKER_SLOT"] = str(slot)
    os.environ["PREFORK_GENERATION"] = str(generation)


def change_directory(path: str | None) -> None:
    """Make `path` the working directory, resolved now, so that a switched symbolic link takes effect."""
    if path:
        os.chdir(path)
