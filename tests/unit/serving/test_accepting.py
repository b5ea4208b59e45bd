"""What an accept that failed means, and how long a listener rests."""

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from prefork.serving import accepting
from prefork.serving.accepting import Intake, Intakes, is_persistent
from prefork.serving.parking import Parking


class Listening:
    """A server that returns, or raises, what a test says."""

    server_address = ("127.0.0.1", 1)

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.ends = socket.socketpair()

    def fileno(self) -> int:
        return self.ends[0].fileno()

    def get_request(self) -> Any:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome, "peer"

    def close(self) -> None:
        for end in self.ends:
            end.close()


@pytest.fixture
def listening() -> Iterator[Listening]:
    server = Listening()
    yield server
    server.close()


@pytest.fixture
def intakes() -> Iterator[Intakes]:
    parking = Parking()
    parking.open()
    intakes = Intakes(parking)
    yield intakes
    intakes.close()


def shortage() -> OSError:
    return OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EBADF", "EINVAL", "ENOTSOCK"])
def test_what_would_fail_again_at_once(name: str) -> None:
    assert is_persistent(OSError(getattr(errno, name), "sorry"))


@pytest.mark.parametrize(
    "name", ["ECONNABORTED", "EPROTO", "ENETDOWN", "EPERM", "ENETUNREACH", "ECONNREFUSED", "ECONNRESET", "EINTR"]
)
def test_what_concerns_one_connection(name: str) -> None:
    assert not is_persistent(OSError(getattr(errno, name), "sorry"))


@pytest.mark.parametrize("error", [OSError("refused"), TimeoutError("timed out"), ssl.SSLError(errno.EMFILE, "tls")])
def test_what_a_get_request_of_its_own_raises_concerns_one_connection(error: OSError) -> None:
    assert not is_persistent(error)


def test_nothing_there_is_no_reason_to_rest(listening: Listening) -> None:
    listening.outcomes = [BlockingIOError(), "request"]
    intake = Intake(listening, 0)

    assert intake.take() is None
    assert not intake.exhausted
    assert intake.take() == ("request", "peer")


def test_empty_is_believed_only_of_an_attempt_made_after_the_drain_began(listening: Listening) -> None:
    def begin_drain() -> Any:
        intake.finishing = True
        raise BlockingIOError

    intake = Intake(listening, 0)
    listening.get_request = begin_drain  # type: ignore[method-assign]  # the drain comes in the middle

    intake.take()
    assert not intake.empty
    intake.take()
    assert intake.empty


def test_rests_grow_and_are_said_once(
    listening: Listening, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(accepting, "monotonic", lambda: now)
    listening.outcomes = [shortage(), shortage(), shortage(), "request", shortage()]
    intake = Intake(listening, 0)
    rests = []
    for _ in range(5):
        if intake.take() is None:
            rests.append(round(intake.rest.until - now, 3))
        now = intake.rest.until

    assert rests == [0.1, 0.2, 0.4, 0.8]
    assert len(caplog.records) == 1


def test_an_episode_ends_with_a_request_after_a_calm_second(
    listening: Listening, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(accepting, "monotonic", lambda: now)
    listening.outcomes = [shortage(), "request", "request"]
    intake = Intake(listening, 0)
    intake.take()
    now += 0.5
    intake.take()
    assert len(caplog.records) == 1

    now += 1.0
    intake.take()
    assert "again" in caplog.records[-1].getMessage()


def test_a_wake_up_ends_the_wait_and_is_used_up(listening: Listening, intakes: Intakes) -> None:
    intake = Intake(listening, 0)
    intakes.add(intake)
    intakes.wake()

    assert intakes.wait() == []
    listening.ends[1].send(b"x")
    assert intakes.wait() == [intake]


def test_a_listener_that_rests_is_left_out_until_its_rest_is_over(
    listening: Listening, intakes: Intakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(accepting, "monotonic", lambda: now)
    intake = Intake(listening, 0)
    intakes.add(intake)
    listening.ends[1].send(b"x")
    intake.rest.until = now + 60
    intakes.let_rest(intake)
    intakes.wake()

    assert intakes.wait() == []
    assert intakes.rests(intake)
    now += 61
    assert intakes.wait() == [intake]
    assert not intakes.rests(intake)
