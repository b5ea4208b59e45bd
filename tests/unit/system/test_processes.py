"""Forking, reaping and parents, with real processes that live for a moment."""

import os
import signal
from collections.abc import Callable

import pytest

from prefork.system import processes

reaped: dict[int, str] = {}  # reaping one child may find another that has ended meanwhile


def reap_one(pid: int) -> str:
    """Wait until the child has ended, then reap it as the master does; return how it ended."""
    if pid not in reaped:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        reaped.update({death.pid: death.how for death in processes.reap()})
    return reaped.pop(pid)


def die_of(number: int) -> int:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 0


def raise_something() -> int:
    raise ValueError("the test wants this traceback")


def exit_with_seven() -> int:
    raise SystemExit(7)


@pytest.mark.parametrize(
    ("run", "how"),
    [
        (lambda: 0, "exit status 0"),
        (lambda: 3, "exit status 3"),
        (exit_with_seven, "exit status 7"),
        (raise_something, "exit status 1"),
        (lambda: die_of(signal.SIGKILL), "killed by SIGKILL"),
        (lambda: die_of(signal.SIGRTMIN + 1), "killed by signal"),
    ],
)
def test_the_end_of_a_child_is_told_in_words(run: Callable[[], int], how: str) -> None:
    assert how in reap_one(processes.fork(run))


def test_a_child_is_born_with_every_signal_blocked_and_the_parent_is_not_changed() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def count_blocked() -> int:
        return len(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    assert reap_one(processes.fork(count_blocked)) != "exit status 0"
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_child_is_ours_until_it_is_reaped() -> None:
    pid = processes.fork(lambda: 0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert processes.is_child(pid)
    reap_one(pid)
    assert not processes.is_child(pid)
    assert not processes.is_child(os.getpid())


def test_killing_a_child_that_has_ended_does_nothing() -> None:
    pid = processes.fork(lambda: 0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    processes.kill_child(pid)

    assert reap_one(pid) == "exit status 0"


def test_nobody_to_reap_is_no_error() -> None:
    assert [death for death in processes.reap() if death.pid == os.getpid()] == []


def test_a_child_closes_what_python_opened_and_keeps_what_it_was_given() -> None:
    reader, writer = os.pipe()
    given = os.dup(writer)
    os.set_inheritable(given, True)

    def close_and_look() -> int:
        processes.close_descriptors_except({writer})
        return sum(1 << index for index, number in enumerate((reader, writer, given)) if is_open(number))

    assert reap_one(processes.fork(close_and_look)) == f"exit status {0b110}"
    for number in (reader, writer, given):
        os.close(number)


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_a_process_whose_parent_is_another_ends_at_once() -> None:
    def claim_a_wrong_parent() -> int:
        processes.die_with_parent(parent=1 << 22)
        return 0

    assert reap_one(processes.fork(claim_a_wrong_parent)) == "exit status 1"


def test_a_process_dies_with_its_parent_until_it_may_outlive_it() -> None:
    """A grandchild that took the bond back goes on; one that did not is killed."""
    reader, writer = os.pipe()
    processes.become_subreaper()

    def be_parent() -> int:
        parent = os.getpid()
        ready_reader, ready_writer = os.pipe()

        def be_bound() -> int:
            processes.die_with_parent(parent)
            os.write(ready_writer, b"x")
            signal.sigwait({signal.SIGUSR1})
            return 0

        def be_free() -> int:
            processes.die_with_parent(parent)
            processes.outlive_parent()
            os.write(ready_writer, b"x")
            signal.sigwait({signal.SIGUSR1})
            return 5

        pids = [processes.fork(be_bound), processes.fork(be_free)]
        for _ in pids:
            os.read(ready_reader, 1)
        os.write(writer, f"{pids[0]} {pids[1]}".encode())
        return 0

    reap_one(processes.fork(be_parent))
    bound, free = (int(text) for text in os.read(reader, 100).split())
    os.close(reader)
    os.close(writer)

    assert reap_one(bound) == "killed by SIGKILL"
    os.kill(free, signal.SIGUSR1)
    assert reap_one(free) == "exit status 5"
