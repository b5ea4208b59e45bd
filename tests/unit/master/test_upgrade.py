"""A successor as its predecessor knows it."""

import os
import threading
from collections.abc import Iterator

import pytest

from prefork.ipc.commons import Commons
from prefork.master.sources import Sources
from prefork.master.upgrade import Successor
from prefork.master.workers import Processes
from prefork.system import processes
from prefork.system.succession import Estate


def wait_for_ever(_: int) -> Estate:
    """Never have anything to leave to it: so it stays what was forked, and lives until it is killed."""
    threading.Event().wait()
    raise AssertionError


@pytest.fixture
def successor() -> Iterator[Successor]:
    """One that does not serve yet."""
    sources, commons = Sources(), Commons(1)
    started = Successor(sources, Processes(sources, commons), lambda places, has_control: None)
    assert list(started.start(wait_for_ever)) == []
    yield started
    started.close()
    sources.close()
    commons.close()


def test_one_that_was_killed_is_gone_when_the_master_lets_go_of_it(successor: Successor) -> None:
    pid = successor.pid
    assert pid is not None

    successor.end()
    successor.close()

    assert not processes.is_child(pid)
    assert successor.pid is None


def test_one_that_was_not_killed_lives_on(successor: Successor) -> None:
    pid = successor.pid
    assert pid is not None

    successor.close()

    assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None
    processes.kill_child(pid)
    os.waitpid(pid, 0)
