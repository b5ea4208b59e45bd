"""The log: whole lines, identity last, nothing from outside that looks like a line of ours."""

import logging
import os
import re
from pathlib import Path

import pytest

from prefork import logs
from prefork.errors import UsageError

log = logging.getLogger("prefork.test")


def test_a_line_has_time_level_text_and_pid(file: Path) -> None:
    log.info("ready: %d workers", 3)

    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 INFO  ready: 3 workers  pid=(\d+)\n"
    match = re.fullmatch(pattern, file.read_text())
    assert match is not None
    assert int(match[1]) == os.getpid()


def test_identity_is_said_once_and_comes_last_in_a_fixed_order(file: Path) -> None:
    logs.set_identity(gen=2, worker=3)
    log.warning("slow", extra={"peer": "127.0.0.1:5", "listener": "tcp://:1"})

    assert f" WARN  slow  listener=tcp://:1 peer=127.0.0.1:5 worker=3 gen=2 pid={os.getpid()}\n" in file.read_text()


def test_a_record_about_somebody_else_does_not_carry_our_own_identity(file: Path) -> None:
    logs.set_identity(gen=9)
    log.info("drained", extra={"pid": 77, "worker": 5})

    assert file.read_text().endswith("drained  worker=5 pid=77\n")


def test_records_below_the_level_are_left_out(file: Path) -> None:
    log.debug("noise")
    logs.set_up("debug", str(file))
    log.debug("wanted")

    assert "noise" not in file.read_text()
    assert "wanted" in file.read_text()


def test_control_characters_are_escaped(file: Path) -> None:
    log.info("bad line: %s", "\x1b[2J\r\n2026-11-23T00:00:00.000+00:00 ERROR forged")

    assert len(file.read_text().splitlines()) == 1
    assert "\\x1b[2J\\r\\n2026" in file.read_text()


def test_a_traceback_follows_indented_in_the_same_write(file: Path) -> None:
    try:
        raise ValueError("first\n2026-11-23T00:00:00.000+00:00 ERROR forged")
    except ValueError:
        log.exception("handler failed")

    first, *below = file.read_text().splitlines()
    assert "ERROR handler failed" in first
    assert below[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in below)


def test_a_detail_follows_indented(file: Path) -> None:
    log.error("reload failed", extra={"detail": "Traceback:\n  line 1\x1b"})

    assert file.read_text().splitlines()[1:] == ["    Traceback:", "      line 1\\x1b"]


def test_text_that_is_no_unicode_is_written_escaped(file: Path) -> None:
    log.info("file %s", os.fsdecode(b"\xff"))

    assert "file \\udcff" in file.read_text()


def test_reopen_follows_a_renamed_file_with_the_same_descriptor(file: Path, tmp_path: Path) -> None:
    descriptors = logs.open_descriptors()
    log.info("before")
    file.rename(tmp_path / "log.1")
    logs.reopen()
    log.info("after")

    assert "before" in (tmp_path / "log.1").read_text()
    assert "after" in file.read_text()
    assert logs.open_descriptors() == descriptors


def test_a_reopen_that_fails_says_so_in_the_old_file(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    logs.set_up("info", str(directory / "log"))
    directory.rename(tmp_path / "moved")
    logs.reopen()
    log.info("still here")

    text = (tmp_path / "moved" / "log").read_text()
    assert "cannot reopen the log" in text
    assert "still here" in text


def test_another_file_after_a_reload_takes_over(file: Path, tmp_path: Path) -> None:
    logs.set_up("info", str(tmp_path / "other"))
    log.info("moved")

    assert "moved" not in file.read_text()
    assert "moved" in (tmp_path / "other").read_text()


def test_a_file_that_cannot_be_opened_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="its directory does not exist"):
        logs.set_up("info", str(tmp_path / "missing" / "log"))


def test_standard_error_is_the_place_for_a_dash(capfd: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "-")
    log.info("here")

    assert "INFO  here" in capfd.readouterr().err
