"""The application's loggers in our log, until it configures logging itself."""

import io
import logging
import logging.config
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prefork import logs
from prefork.logs import application

ours = logging.getLogger("prefork.test")
theirs = logging.getLogger("shop.cart")


@pytest.fixture(autouse=True)
def captured(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("__stdout__", "__stderr__"):
        monkeypatch.setattr(sys, name, None)  # those of the tests stay where they are
    logs.capture_application()
    yield
    for name in ("shop", "shop.cart"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).disabled = False


def test_its_records_are_in_our_log_at_our_level(file: Path) -> None:
    theirs.info("added")
    theirs.debug("noise")

    assert " INFO  shop.cart: added  pid=" in file.read_text()
    assert "noise" not in file.read_text()


def test_a_library_that_only_silences_the_last_resort_is_heard(file: Path) -> None:
    logging.getLogger("shop").addHandler(logging.NullHandler())
    theirs.info("added")

    assert "added" in file.read_text()


def test_its_basic_configuration_wins(file: Path) -> None:
    stream = io.StringIO()
    logging.basicConfig(stream=stream, format="THEIRS %(message)s", level="DEBUG")
    theirs.debug("added")
    ours.info("serving")

    assert stream.getvalue() == "THEIRS added\n"
    assert "added" not in file.read_text()
    assert "serving" in file.read_text()


def test_its_configuration_by_a_table_wins_and_ours_goes_on(file: Path, tmp_path: Path) -> None:
    handler = {"class": "logging.FileHandler", "filename": str(tmp_path / "theirs")}
    logging.config.dictConfig(
        {"version": 1, "handlers": {"file": handler}, "root": {"handlers": ["file"], "level": "INFO"}}
    )
    logs.keep_loggers()
    logging.getLogger("shop.new").info("added")
    ours.info("serving")
    for opened in logging.getLogger().handlers:
        opened.close()

    assert (tmp_path / "theirs").read_text() == "added\n"
    assert "added" not in file.read_text()
    assert "serving" in file.read_text()


def test_a_handler_of_one_of_its_loggers_takes_only_that_one(file: Path) -> None:
    stream = io.StringIO()
    theirs.addHandler(logging.StreamHandler(stream))
    theirs.info("added")
    logging.getLogger("shop.stock").info("counted")

    assert stream.getvalue() == "added\n"
    assert "added" not in file.read_text()
    assert "counted" in file.read_text()


def test_warnings_are_in_our_log(file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = application._log_warning  # the block above has taken it away for a moment
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    assert " WARN  py.warnings: DeprecationWarning: old (" in file.read_text()
    assert len(file.read_text().splitlines()) == 1


def test_a_warning_for_a_file_goes_to_the_file() -> None:
    stream = io.StringIO()
    warnings.showwarning("old", UserWarning, "app.py", 1, stream)

    assert "UserWarning: old" in stream.getvalue()


def test_a_printed_line_and_its_end_are_written_together_without_buffers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []

    class Raw(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            written.append(bytes(data))
            return len(data)

    unbuffered = io.TextIOWrapper(Raw(), "utf-8", write_through=True)  # type: ignore[type-var]  # as python -u makes it
    print("apart", file=unbuffered)
    assert written == [b"apart", b"\n"]
    monkeypatch.setattr(sys, "__stdout__", unbuffered)
    monkeypatch.setattr(sys, "__stderr__", None)
    application.write_to(None)
    print("together", file=unbuffered)
    monkeypatch.undo()

    assert written[2:] == [b"together\n"]


def test_each_printed_line_is_told_when_it_ends_or_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []
    with open(os.devnull, "w", encoding="utf-8") as standard:
        monkeypatch.setattr(sys, "__stdout__", standard)
        monkeypatch.setattr(sys, "stdout", sys.stdout)
        application.print_by(lambda name, line: told.append((name, line)))
        stream = sys.stdout
        monkeypatch.undo()
        stream.write("on")
        assert told == []
        stream.write("e\n\ntwo")
        stream.buffer.write(b"thr")
        stream.buffer.write(b"ee\n")

        assert told == [("stdout", "one"), ("stdout", "two"), ("stdout", "three")]
        assert stream.fileno() == standard.fileno()


def test_a_line_without_an_end_is_told_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    with open(os.devnull, "w", encoding="utf-8") as standard:
        monkeypatch.setattr(sys, "__stdout__", standard)
        monkeypatch.setattr(sys, "stdout", sys.stdout)
        application.print_by(lambda name, line: told.append(line))
        for _ in range(100_000):
            sys.stdout.write(".")
        monkeypatch.undo()

    assert 0 < len(told[0]) < 100_000
