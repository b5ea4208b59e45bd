"""Signals become readable facts, none is lost, and the test's own handlers are put back."""

import os
import select
import signal
from collections.abc import Iterator

import pytest

from prefork.system.signals import Signals

USED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


@pytest.fixture
def signals() -> Iterator[Signals]:
    before = {number: signal.getsignal(number) for number in USED}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    wakeup = signal.set_wakeup_fd(-1)
    made = Signals(handled=(signal.SIGUSR1, signal.SIGHUP), unheeded=(signal.SIGUSR2,))
    made.install()
    yield made
    made.close()
    signal.set_wakeup_fd(wakeup)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in before.items():
        signal.signal(number, handler)


def readable(signals: Signals) -> bool:
    return bool(select.select([signals], [], [], 0)[0])


def test_signals_are_taken_once_and_in_order(signals: Signals) -> None:
    for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR1):
        os.kill(os.getpid(), number)

    assert readable(signals)
    assert signals.take() == [signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR1]
    assert not readable(signals)
    assert signals.take() == []


def test_an_unheeded_signal_is_not_told(signals: Signals) -> None:
    os.kill(os.getpid(), signal.SIGUSR2)

    assert signals.take() == []


def test_an_unheeded_signal_is_not_ignored_by_programs_that_we_start(signals: Signals) -> None:
    assert signal.getsignal(signal.SIGUSR2) is not signal.SIG_IGN


def test_a_full_wakeup_pipe_loses_no_signal(signals: Signals) -> None:
    for _ in range(70_000):  # a pipe holds 65,536 bytes
        os.kill(os.getpid(), signal.SIGUSR1)

    assert len(signals.take()) == 70_000
    assert not readable(signals)


def test_handlers_that_the_application_installed_are_taken_back(signals: Signals) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    signals.install()
    os.kill(os.getpid(), signal.SIGHUP)

    assert signals.take() == [signal.SIGHUP]
