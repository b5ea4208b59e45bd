"""A place for lines: what cannot be written is dropped soon, counted and told, and no line is torn."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefork.errors import UsageError
from prefork.logs import output
from prefork.logs.output import Output


def tell_loss(lost: int) -> str:
    return f"lost {lost}"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_PATIENCE", 0.0)


class Pipe:
    """A named pipe, its reader, and the output that writes to it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.output = Output(str(path), tell_loss)

    def fill(self) -> None:
        """Leave room for less than a page, as other processes would that write here too."""
        writer = os.open(f"/proc/self/fd/{self.output.descriptor}", os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                os.write(writer, b"x" * 4096)
        except BlockingIOError:
            os.close(writer)

    def read(self) -> str:
        """Return all that is in the pipe."""
        parts = []
        try:
            while part := os.read(self.reader, 1 << 20):
                parts.append(part)
        except BlockingIOError:
            pass
        return b"".join(parts).decode()

    def close(self) -> None:
        self.output.close()
        os.close(self.reader)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path / "pipe")
    yield pipe
    pipe.close()


def test_lines_that_nobody_reads_are_dropped_and_their_number_is_told(pipe: Pipe) -> None:
    pipe.fill()
    pipe.output.write("dropped")
    pipe.output.write("dropped as well")
    pipe.read()
    pipe.output.write("back")

    assert pipe.read() == "lost 2\nback\n"


def test_a_long_line_does_not_wait_for_a_reader_and_the_next_one_is_whole(pipe: Pipe) -> None:
    pipe.output.write("y" * 200_000)
    begun = pipe.read()
    pipe.output.write("next")

    assert set(begun) == {"y"}
    assert pipe.read() == "\nlost 1\nnext\n"


def test_where_the_kernel_cannot_refuse_to_wait_a_full_pipe_is_not_written_to(pipe: Pipe) -> None:
    pipe.output._can_refuse = False
    pipe.fill()
    pipe.output.write("dropped")
    pipe.read()
    pipe.output.write("back")

    assert pipe.read() == "lost 1\nback\n"


def test_a_reader_that_is_gone_costs_lines_only(pipe: Pipe, tmp_path: Path) -> None:
    os.close(pipe.reader)
    pipe.output.write("dropped")
    pipe.reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    pipe.output.write("back")

    assert pipe.read() == "lost 1\nback\n"


def test_a_slow_reader_is_waited_for_a_moment_and_then_no_more(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_RECOVERY", 0.0)
    monkeypatch.setattr(output, "_PATIENCE", 0.01)
    pipe.output.forget_parent()
    pipe.fill()
    pipe.output.write("waited for")

    assert pipe.output._patience <= 0


def test_a_named_pipe_without_a_reader_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UsageError, match="nobody reads this pipe"):
        Output(str(tmp_path / "pipe"), tell_loss)


def test_a_full_disk_costs_lines_only() -> None:
    losses: list[None] = []
    full = Output("/dev/full", tell_loss, lambda: losses.append(None))
    full.write("dropped")
    full.write("dropped as well")

    assert full._lost == len(losses) == 2
    full.close()


def test_a_socket_is_written_to_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(output, "_open_first", lambda file: os.dup(theirs.fileno()))
    written = Output("-", tell_loss)
    assert stat.S_ISSOCK(os.fstat(written.descriptor).st_mode)
    with ours, theirs:
        written.write("hello")
        assert ours.recv(100) == b"hello\n"
        written.write("z" * 10_000_000)

        assert written._lost == 1
    os.close(written.descriptor)
    written.close()


def test_copies_follow_a_reopened_file(tmp_path: Path) -> None:
    copy = os.open(os.devnull, os.O_WRONLY)
    written = Output(str(tmp_path / "log"), tell_loss)
    written.copy_to(copy)
    (tmp_path / "log").rename(tmp_path / "log.1")
    written.reopen()
    os.write(copy, b"by a program\n")

    assert (tmp_path / "log").read_text() == "by a program\n"
    os.close(copy)
    written.close()


def test_a_forked_child_does_not_tell_the_losses_of_its_parent(tmp_path: Path) -> None:
    written = Output(str(tmp_path / "log"), tell_loss)
    written._lost = 3
    written.forget_parent()
    written.write("mine")

    assert (tmp_path / "log").read_text() == "mine\n"
    written.close()
